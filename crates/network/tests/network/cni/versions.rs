//! Every version of the specification, as a plugin sees it.

use firebuild_network::Route;
use serde_json::{Value, json};

use super::{configure, driver, id, original, request, script};
use crate::rig::{Guest, Host, OUTSIDE, on_host};

/// A plugin that writes down how it was asked, one line each, and passes on what was there before.
fn recorder(host: &Host, name: &str) {
    let text = format!(
        r#"python3 -c '
import json, os, sys
asked = json.load(sys.stdin)
names = ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH"]
asked["env"] = {{name: os.environ[name] for name in names if name in os.environ}}
print(json.dumps(asked), file=open("{record}", "a"))
if os.environ["CNI_COMMAND"] == "ADD":
    print(json.dumps(asked["prevResult"]))
'"#,
        record = host.path("record").display()
    );
    script(host, name, &text);
}

fn recorded(host: &Host) -> Vec<Value> {
    let text = fs_err::read_to_string(host.path("record")).unwrap_or_default();
    let _ = fs_err::remove_file(host.path("record"));
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn commands(asked: &[Value]) -> Vec<&str> {
    asked
        .iter()
        .map(|asked| asked["env"]["CNI_COMMAND"].as_str().unwrap())
        .collect()
}

#[test]
fn a_plugin_is_asked_as_the_specification_says() {
    on_host(|host| {
        recorder(host, "recorder");
        let mut list = original(host);
        list["cniVersion"] = "1.0.0".into();
        let capabilities = json!({"portMappings": true, "dns": false});
        list["plugins"][1] =
            json!({"type": "recorder", "mine": {"a": [1]}, "capabilities": capabilities});
        configure(host, "conf.d/alpine.conflist", &list);
        let driver = driver(host);
        let mut wanted = request(1, &["8080:80", "127.0.0.1:5353:53/udp"]);
        wanted.dns = vec![OUTSIDE.into()];
        wanted.vmm_uid = 7;
        let attached = driver.setup(&wanted).unwrap();
        driver.check(&id(1)).unwrap();
        // What the configuration was is known when it is gone.
        fs_err::remove_dir_all(host.path("conf.d")).unwrap();
        driver.teardown(&id(1)).unwrap();
        let asked = recorded(host);
        assert_eq!(commands(&asked), ["ADD", "CHECK", "DEL"]);
        for one in &asked {
            assert_eq!(one["name"], "alpine");
            assert_eq!(one["cniVersion"], "1.0.0");
            assert_eq!(one["mine"], json!({"a": [1]}));
            let ports = json!([
                {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
                {"hostPort": 5353, "containerPort": 53, "protocol": "udp", "hostIP": "127.0.0.1"},
            ]);
            assert_eq!(one["runtimeConfig"], json!({"portMappings": ports}));
            let env = &one["env"];
            assert_eq!(env["CNI_CONTAINERID"], id(1).as_str());
            let namespace = attached.namespace.path();
            assert_eq!(env["CNI_NETNS"].as_str(), namespace.to_str());
            assert_eq!(env["CNI_IFNAME"], "eth0");
            let arguments = "IgnoreUnknown=1;TC_REDIRECT_TAP_UID=7;TC_REDIRECT_TAP_GID=0";
            assert_eq!(env["CNI_ARGS"], arguments);
            let path = format!("{}:/usr/lib/cni", host.path("bin").display());
            assert_eq!(env["CNI_PATH"], path);
            assert_eq!(one["prevResult"]["cniVersion"], "1.0.0");
            let address = format!("{}/24", attached.interfaces[0].address);
            assert_eq!(one["prevResult"]["ips"][0]["address"], address);
        }
        // After the tap: its device, and the VM's.
        let interfaces = asked[2]["prevResult"]["interfaces"].as_array().unwrap();
        let vm = interfaces.last().unwrap();
        assert_eq!(vm["name"], "tap0");
        assert_eq!(vm["sandbox"], id(1).as_str());
        assert_eq!(vm["mac"], attached.interfaces[0].mac.to_string());
    });
}

#[test]
fn what_a_vm_wants_comes_by_capabilities_or_else_by_arguments() {
    on_host(|host| {
        recorder(host, "recorder");
        let mut wanted = request(1, &["8080:80"]);
        wanted.address = Some("10.88.0.77".parse().unwrap());
        wanted.mac = Some("02:00:00:00:00:07".parse().unwrap());
        wanted.dns = vec![OUTSIDE.into()];
        let common = "IgnoreUnknown=1;TC_REDIRECT_TAP_UID=0;TC_REDIRECT_TAP_GID=0";
        for all in [true, false] {
            let mut list = original(host);
            let capabilities =
                json!({"portMappings": true, "ips": all, "mac": all, "dns": all, "bandwidth": all});
            list["plugins"] = json!([{"type": "recorder", "capabilities": capabilities}]);
            configure(host, "conf.d/alpine.conflist", &list);
            let before = recorded(host).len();
            // The recorder makes no device, so that there is nothing to attach to.
            driver(host).setup(&wanted).unwrap_err();
            let asked = &recorded(host)[before];
            let mut expected = json!({
                "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
            });
            let mut arguments = common.to_owned();
            if all {
                expected["ips"] = json!(["10.88.0.77"]);
                expected["mac"] = json!("02:00:00:00:00:07");
                expected["dns"] = json!({"servers": [OUTSIDE]});
            } else {
                arguments.push_str(";IP=10.88.0.77;MAC=02:00:00:00:00:07");
            }
            assert_eq!(asked["runtimeConfig"], expected);
            assert_eq!(asked["env"]["CNI_ARGS"], arguments);
        }
    });
}

#[test]
fn old_and_new_versions_get_results_in_their_own_form() {
    on_host(|host| {
        recorder(host, "recorder");
        let driver = driver(host);
        for (version, verbs) in [
            ("0.2.0", &["ADD", "DEL"][..]),
            ("0.3.0", &["ADD", "DEL"][..]),
            ("0.3.1", &["ADD", "DEL"][..]),
            ("0.4.0", &["ADD", "CHECK", "DEL"][..]),
            ("1.0.0", &["ADD", "CHECK", "DEL"][..]),
        ] {
            let mut list = original(host);
            list["cniVersion"] = version.into();
            list["plugins"][1] = json!({"type": "recorder"});
            configure(host, "conf.d/alpine.conflist", &list);
            let attached = driver.setup(&request(1, &[])).unwrap();
            let guest = Guest::boot(&attached);
            guest.net.serve_tcp(std::net::Ipv4Addr::UNSPECIFIED, 80);
            let answer = host.net.ask_tcp(attached.interfaces[0].address, 80);
            assert_eq!(answer, Some("192.168.127.1".to_owned()), "{version}");
            driver.check(&id(1)).unwrap();
            drop(guest);
            driver.teardown(&id(1)).unwrap();
            let asked = recorded(host);
            assert_eq!(commands(&asked), verbs, "{version}");
            let previous = &asked[0]["prevResult"];
            let address = format!("{}/24", attached.interfaces[0].address);
            match version {
                "0.2.0" => {
                    assert_eq!(previous["ip4"]["ip"], address);
                    assert_eq!(previous["ip4"]["gateway"], "192.168.127.1");
                    assert!(previous.get("ips").is_none());
                }
                "0.3.0" | "0.3.1" | "0.4.0" => assert_eq!(previous["ips"][0]["version"], "4"),
                _ => assert!(previous["ips"][0].get("version").is_none()),
            }
            let told = asked.last().unwrap().get("prevResult").is_some();
            assert_eq!(told, verbs.contains(&"CHECK"), "{version}");
        }
    });
}

/// Version 1.1 is one that Debian's plugins do not know: these are all scripts.
#[test]
fn version_1_1_has_status_and_collection_unless_they_are_disabled() {
    on_host(|host| {
        recorder(host, "recorder");
        let make = "ip -n $(basename $CNI_NETNS) link add eth0 type veth peer name eth1 >&2";
        let answer = r#"{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","sandbox":"'$CNI_NETNS'","mtu":1500}],
            "ips":[{"interface":0,"address":"10.9.9.2/24"}],
            "routes":[{"dst":"10.8.0.0/16","gw":"10.9.9.7","mtu":1300}],
            "dns":{"nameservers":["10.9.9.1"],"domain":"example.org"}}"#;
        let text = format!(
            "[ $CNI_COMMAND = ADD ] || exit 0\nnsenter --net=$CNI_NETNS {} && echo '{answer}'",
            make.replace("ip -n $(basename $CNI_NETNS)", "ip")
        );
        script(host, "maker", &text);
        let driver = driver(host);
        for (disabled, verbs) in [
            (false, &["STATUS", "ADD", "CHECK", "GC", "DEL"][..]),
            (true, &["STATUS", "ADD", "DEL"][..]),
        ] {
            let list = json!({
                "cniVersion": "0.4.0",
                "cniVersions": ["1.0.0", "1.1.0", "7.0.0"],
                "name": "alpine",
                "disableCheck": disabled,
                "disableGC": disabled,
                "plugins": [{"type": "maker"}, {"type": "recorder"}],
            });
            configure(host, "conf.d/alpine.conflist", &list);
            let attached = driver.setup(&request(1, &[])).unwrap();
            let interface = &attached.interfaces[0];
            assert_eq!(interface.gateway, None);
            let routed = Route {
                to: "10.8.0.0/16".parse().unwrap(),
                by: Some([10, 9, 9, 7].into()),
            };
            assert_eq!(interface.routes, [routed]);
            assert_eq!(interface.search, ["example.org"]);
            assert_eq!(interface.dns, [std::net::Ipv4Addr::new(10, 9, 9, 1)]);
            driver.check(&id(1)).unwrap();
            driver.collect("alpine").unwrap();
            driver.teardown(&id(1)).unwrap();
            let asked = recorded(host);
            assert_eq!(commands(&asked), verbs);
            assert_eq!(asked[1]["prevResult"]["routes"][0]["mtu"], 1300);
            if !disabled {
                let valid = json!([{"containerID": id(1).as_str(), "ifname": "eth0"}]);
                assert_eq!(asked[3]["cni.dev/valid-attachments"], valid);
                assert!(asked[3]["env"].get("CNI_CONTAINERID").is_none());
            }
        }
        script(
            host,
            "recorder",
            r#"[ $CNI_COMMAND = STATUS ] && echo '{"code":50,"msg":"not yet"}' && exit 1; exit 0"#,
        );
        let error = driver.setup(&request(1, &[])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "CNI plugin `recorder` of network `alpine` could not STATUS: not yet (code 50)"
        );
        assert!(driver.known().unwrap().is_empty());
    });
}
