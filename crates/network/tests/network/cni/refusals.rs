//! Plugins that say no, say nothing, say too much, or never end; networks that are not there.

use std::time::{Duration, Instant};

use firebuild_network::Error;
use firebuild_network::cni::{Cni, CniError, Settings};
use serde_json::json;

use super::{configure, driver, id, original, request, script, settings, state, with, write};
use crate::rig::{Host, on_host};

fn error(driver: &Cni, ports: &[&str]) -> CniError {
    match driver.setup(&request(1, ports)) {
        Err(Error::Cni(error)) => error,
        other => unreachable!("{other:?}"),
    }
}

/// A list with a script after the bridge.
fn with_script(host: &Host, text: &str) {
    configure(
        host,
        "conf.d/alpine.conflist",
        &with(original(host), json!({"type": "fake"})),
    );
    script(host, "fake", text);
}

#[test]
fn what_a_plugin_says_is_what_a_person_reads() {
    on_host(|host| {
        let driver = driver(host);
        let refusal = r#"[ $CNI_COMMAND = DEL ] && exit 0
            echo '{"cniVersion":"0.4.0","code":104,"msg":"no more room","details":"ask\u001b[31m the landlord"}'
            exit 1"#;
        for (text, expected) in [
            (
                refusal,
                "CNI plugin `fake` of network `alpine` could not ADD: no more room: ask[31m the landlord (code 104)",
            ),
            (
                "[ $CNI_COMMAND = DEL ] && exit 0; echo out of luck >&2; exit 7",
                "CNI plugin `fake` of network `alpine` failed to ADD: exit status: 7: out of luck",
            ),
            (
                "[ $CNI_COMMAND = DEL ] && exit 0; kill -9 $$",
                "CNI plugin `fake` of network `alpine` failed to ADD: signal: 9 (SIGKILL)",
            ),
            (
                "[ $CNI_COMMAND = DEL ] && exit 0; echo hello",
                "CNI plugin `fake` of network `alpine` answered what is no result: expected value at line 1 column 1",
            ),
            (
                "[ $CNI_COMMAND = DEL ] && exit 0; cat /dev/zero",
                "CNI plugin `fake` of network `alpine` answered what is no result: it is longer than a result can be",
            ),
            (
                r#"[ $CNI_COMMAND = DEL ] && exit 0; echo '{"cniVersion":"0.4.0","ips":[{"interface":9,"address":"10.0.0.1/8"}]}'"#,
                "CNI plugin `fake` of network `alpine` answered what is no result: an address is of interface 9, and there are 0",
            ),
            (
                r#"[ $CNI_COMMAND = DEL ] && exit 0; echo '{"cniVersion":"2.0.0"}'"#,
                "CNI plugin `fake` of network `alpine` answered what is no result: version `2.0.0` of CNI is not among those known here, 0.1.0 to 1.1.0",
            ),
        ] {
            with_script(host, text);
            assert_eq!(error(&driver, &[]).to_string(), expected);
            assert!(driver.known().unwrap().is_empty(), "{expected}");
            let left = state(host);
            assert_eq!((&*left["ipam/alpine"], &*left["cache/results"]), ("", ""));
        }
    });
}

#[test]
fn a_plugin_that_hangs_is_killed_and_what_was_added_is_deleted() {
    on_host(|host| {
        with_script(
            host,
            "[ $CNI_COMMAND = DEL ] && exit 0; sleep 1000 & sleep 1000",
        );
        let driver = Cni::new(Settings {
            // Debian's plugins need some of it on a busy machine.
            plugin_time: Duration::from_secs(4),
            ..settings(host)
        });
        let begun = Instant::now();
        let error = error(&driver, &[]);
        assert_eq!(
            error.to_string(),
            "CNI plugin `fake` of network `alpine` took more than 4 s to ADD and was killed"
        );
        assert!(begun.elapsed() < Duration::from_secs(200));
        assert!(driver.known().unwrap().is_empty());
        assert_eq!(state(host)["ipam/alpine"], "");
    });
}

#[test]
fn deleting_goes_on_and_tells_all_and_can_be_tried_again() {
    on_host(|host| {
        let list = with(
            with(original(host), json!({"type": "first"})),
            json!({"type": "second"}),
        );
        configure(host, "conf.d/alpine.conflist", &list);
        let stubborn = |name: &str| {
            let text = format!(
                r#"if [ $CNI_COMMAND = ADD ]; then python3 -c 'import json,sys; print(json.dumps(json.load(sys.stdin)["prevResult"]))'; exit 0; fi
                [ -e {} ] && exit 0
                echo '{{"code":11,"msg":"{name} has no time"}}'; exit 1"#,
                host.path("now").display()
            );
            script(host, name, &text);
        };
        stubborn("first");
        stubborn("second");
        let driver = driver(host);
        drop(driver.setup(&request(1, &[])).unwrap());
        let errors = driver.teardown(&id(1)).unwrap_err();
        assert_eq!(
            errors.to_string(),
            "CNI plugin `second` of network `alpine` could not DEL: second has no time (code 11); \
             CNI plugin `first` of network `alpine` could not DEL: first has no time (code 11)"
        );
        // The others did what was theirs.
        assert_eq!(state(host)["ipam/alpine"], "");
        assert_eq!(driver.known().unwrap(), [id(1)]);
        write(host, "now", b"");
        driver.teardown(&id(1)).unwrap();
        assert!(driver.known().unwrap().is_empty());
        assert_eq!(state(host)["cache/results"], "");
    });
}

#[test]
fn what_a_network_cannot_do_is_refused_before_anything_starts() {
    on_host(|host| {
        let driver = driver(host);
        let none = error(&driver, &[]);
        assert!(
            none.to_string()
                .starts_with("no CNI network is called `alpine` in `"),
            "{none}"
        );
        assert!(none.hint().unwrap().contains("docs/cni.md"));

        configure(
            host,
            "conf.d/other.conflist",
            &json!({"name": "other", "plugins": [{"type": "ptp"}]}),
        );
        write(host, "conf.d/broken.conflist", b"{\"name\":");
        let none = error(&driver, &[]);
        assert!(
            none.to_string()
                .contains("broken.conflist` cannot be used: EOF"),
            "{none}"
        );
        assert_eq!(none.hint().unwrap(), "those that there are: other");

        configure(host, "conf.d/alpine.conflist", &original(host));
        let ports = error(&driver, &["8080:80"]);
        assert_eq!(
            ports.to_string(),
            "CNI network `alpine` publishes no ports: none of its plugins has the capability `portMappings`"
        );
        let list = with(original(host), json!({"type": "nowhere"}));
        configure(host, "conf.d/alpine.conflist", &list);
        let missing = error(&driver, &[]);
        assert!(
            missing
                .to_string()
                .starts_with("CNI network `alpine` needs the plugin `nowhere`, which is not in `"),
            "{missing}"
        );
        assert!(driver.known().unwrap().is_empty());
        assert_eq!(state(host)["cache/results"], "");
    });
}

#[test]
fn a_network_that_gives_no_device_or_address_is_no_use_to_a_vm() {
    on_host(|host| {
        let driver = driver(host);
        configure(
            host,
            "conf.d/alpine.conflist",
            &json!({"cniVersion": "1.0.0", "name": "alpine", "plugins": [{"type": "fake"}]}),
        );
        for (answer, lacks) in [
            ("{}", "its plugins made no network device for a VM"),
            (
                r#"{"interfaces":[{"name":"lo","sandbox":"'$CNI_NETNS'"}]}"#,
                "its plugins made no network device for a VM",
            ),
        ] {
            script(
                host,
                "fake",
                &format!("[ $CNI_COMMAND = ADD ] && echo '{answer}'; exit 0"),
            );
            let expected = format!("CNI network `alpine` {lacks}");
            assert_eq!(error(&driver, &[]).to_string(), expected);
        }
        let make = "nsenter --net=$CNI_NETNS ip link add eth0 type veth peer name eth1";
        let answer = r#"{"interfaces":[{"name":"eth0","sandbox":"'$CNI_NETNS'"}],"ips":[{"interface":0,"address":"fd00::2/64"}]}"#;
        script(
            host,
            "fake",
            &format!("[ $CNI_COMMAND = ADD ] && {make} && echo '{answer}'; exit 0"),
        );
        assert_eq!(
            error(&driver, &[]).to_string(),
            "CNI network `alpine` gives the VM no IPv4 address, which it needs"
        );
        assert!(driver.known().unwrap().is_empty());
    });
}
