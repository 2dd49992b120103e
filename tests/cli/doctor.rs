//! `doctor` on the host that the tests run on, which has what firebuild needs.

use crate::session;
use crate::session::Outcome;

#[test]
fn this_host_has_what_is_needed() {
    let (session, root) = session();
    let told = session.json(&["doctor", "--format", "json"]);
    assert_ne!(told["Status"], "missing", "{told}");
    let checks = told["Checks"].as_array().unwrap();
    let named = |name: &str| {
        let found = checks.iter().find(|check| check["Name"] == name);
        found.unwrap_or_else(|| panic!("{name}: {told}"))
    };
    for name in [
        "QEMU",
        "rights",
        "namespaces",
        "tap devices",
        "nftables",
        "space",
    ] {
        assert_eq!(named(name)["Status"], "good", "{told}");
    }
    for check in checks {
        let good = check["Status"] == "good";
        assert_eq!(check["Mend"].is_null(), good, "{check}");
    }
    assert!(!root.path().join("v1").exists() || root.path().join("v1").is_dir());
    let text = session.ok(&["doctor"]);
    assert!(text.contains("\nKernel and system\n"), "{text}");
    assert!(!text.contains('\x1b'), "{text}");
}

#[test]
fn what_is_missing_is_told_by_the_exit_status() {
    let (session, _root) = session();
    let mut command = session.command(&["doctor", "--quiet"]);
    let shown = Outcome::of(command.env("PATH", "/nonexistent"));
    assert_eq!((shown.status, shown.stderr.as_str()), (1, ""), "{shown}");
    assert!(
        shown.stdout.contains("`apt-get install nftables`"),
        "{shown}"
    );
    assert!(!shown.stdout.contains("  ok  "), "{shown}");
}
