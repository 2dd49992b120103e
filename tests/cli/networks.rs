//! Networks, as far as they need no VM: what is defined, what is refused, and what is said then.

use crate::session;

/// Addresses that no test and hardly a host has (RFC 2544).
const SUBNET: &str = "198.18.140.0/24";

#[test]
fn networks_are_made_listed_shown_and_removed() {
    let (session, _place) = session();
    let made = session.ok(&[
        "network",
        "create",
        "--subnet",
        SUBNET,
        "--internal",
        "back",
    ]);
    assert_eq!(made, "back\n");
    let six = ["--ipv6", "--subnet6", "fd00:1:2:3::/64", "--mtu", "1400"];
    let front = [
        "network",
        "create",
        "--subnet",
        "198.18.141.0/24",
        "--gateway",
        "198.18.141.254",
    ];
    session.ok(&[&front[..], &six, &["front"]].concat());
    let listed = session.ok(&["network", "ls"]);
    let rows: Vec<Vec<&str>> = listed
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        rows[0],
        ["NAME", "SUBNET", "GATEWAY", "IPV6", "INTERNAL", "VMS"]
    );
    assert_eq!(rows[1][0], "default");
    assert_eq!(rows[2], ["back", SUBNET, "198.18.140.1", "-", "yes", "0"]);
    let shown = [
        "front",
        "198.18.141.0/24",
        "198.18.141.254",
        "fd00:1:2:3::/64",
        "no",
        "0",
    ];
    assert_eq!(rows[3], shown);
    let inspected = session.json(&["network", "inspect", "front"]);
    assert_eq!(inspected["Subnet"], "198.18.141.0/24");
    assert_eq!(inspected["VMs"], serde_json::json!([]));
    let all = session.json(&["network", "ls", "--format", "json"]);
    assert_eq!(all[2], inspected);
    assert_eq!(
        session.ok(&["network", "rm", "front", "back"]),
        "front\nback\n"
    );
    assert_eq!(session.ok(&["network", "ls"]).lines().count(), 2);
}

#[test]
fn what_cannot_be_is_refused_with_what_to_do() {
    let (session, _place) = session();
    session.ok(&["network", "create", "--subnet", SUBNET, "back"]);
    let create = |more: &[&'static str]| [&["network", "create"], more].concat();
    for (arguments, expected) in [
        (
            create(&["back"]),
            "error: there is a network `back` already\nhint: `firebuild network inspect back` shows it",
        ),
        (
            create(&["default"]),
            "error: there is a network `default` already",
        ),
        (create(&["none"]), "error: no network can be called `none`"),
        (
            create(&["--subnet", SUBNET, "other"]),
            "overlaps with the network `back`\nhint: make it with other addresses",
        ),
        (
            create(&["--subnet", "10.1.2.3/8", "other"]),
            "`10.1.2.3/8` is not an IPv4 network of the form",
        ),
        (create(&["--subnet6", "fd00::/64", "other"]), "--ipv6"),
        (
            vec!["network", "inspect", "nosuch"],
            "error: there is no network `nosuch`\nhint: `firebuild network ls` lists those there are",
        ),
        (
            vec!["network", "rm", "nosuch"],
            "error: there is no network `nosuch`",
        ),
        (
            vec!["network", "rm", "default"],
            "error: the network `default` is always there",
        ),
        (
            vec!["port", "nosuch"],
            "error: there is no VM `nosuch`\nhint: see `firebuild ls -a`",
        ),
        (
            vec!["port", "nosuch", "80-90"],
            "a range stands for several ports",
        ),
    ] {
        let said = session.run(&arguments).failure();
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
    assert_eq!(session.ok(&["network", "ls"]).lines().count(), 3);
}

#[test]
fn egress_rules_that_cannot_be_are_refused_before_anything_is_fetched() {
    let (session, _place) = session();
    let many = vec!["10.0.0.1"; 257].join(",");
    let many = format!("--egress=deny={many}");
    for (rules, expected) in [
        (
            &["--egress=reject"][..],
            "the form is allow|deny[=DESTINATION",
        ),
        (
            &["--egress=allow=10.1.2.3/8"],
            "`10.1.2.3/8` is inside of the network 10.0.0.0/8: write that",
        ),
        (&["--egress=deny=a.org:80"], "write deny=a.org"),
        (
            &["--egress=allow=2001:db8::1:x"],
            "stands in brackets where a port follows",
        ),
        (
            &["--egress=allow", "--egress=deny"],
            "error: `--egress allow` and `--egress deny` exclude each other",
        ),
        (
            &[&many],
            "error: a VM has 256 rules for egress at most, not 257",
        ),
    ] {
        // Nobody listens there: whoever fetched would say so.
        let arguments = [&["run", "--rm"], rules, &["127.0.0.1:1/nosuch:1"]].concat();
        let said = session.run(&arguments).failure();
        assert!(said.contains(expected), "{rules:?}: {said}");
    }
}
