//! A plugin that makes the tap itself, as the plugin `tc-redirect-tap` does.

use std::net::Ipv4Addr;

use firebuild_network::METADATA_ADDRESS;
use serde_json::json;

use super::{configure, driver, id, original, request, script};
use crate::frame::{Arp, Port, ethernet, ipv4};
use crate::rig::{Guest, HOST_OUTSIDE, Net, OUTSIDE, on_host, said};

/// Makes a tap, has traffic control move frames, and tells of it as that plugin does.
const REDIRECT: &str = r#"[ $CNI_COMMAND = ADD ] || exit 0
nsenter --net=$CNI_NETNS sh -ec '
    ip tuntap add othertap mode tap vnet_hdr
    ip link set othertap up
    for pair in eth0:othertap othertap:eth0; do
        tc qdisc add dev ${pair%:*} ingress
        tc filter add dev ${pair%:*} parent ffff: protocol all u32 match u32 0 0 action mirred egress redirect dev ${pair#*:}
    done' >&2
python3 -c '
import json, os, sys
result = json.load(sys.stdin)["prevResult"]
device = [made for made in result["interfaces"] if made.get("sandbox") == os.environ["CNI_NETNS"]][-1]
result["interfaces"] += [
    {"name": "othertap", "sandbox": os.environ["CNI_NETNS"]},
    {"name": "othertap", "sandbox": os.environ["CNI_CONTAINERID"], "mac": device["mac"]},
]
own = dict(result["ips"][0], interface=len(result["interfaces"]) - 1)
result["ips"].append(own)
print(json.dumps(result))'"#;

#[test]
fn its_tap_is_used_and_guarded_as_any() {
    on_host(|host| {
        script(host, "my-tap", REDIRECT);
        let mut list = original(host);
        list["plugins"][2] = json!({"type": "my-tap"});
        configure(host, "conf.d/alpine.conflist", &list);
        let driver = driver(host);
        let attached = driver.setup(&request(1, &[])).unwrap();
        assert_eq!(attached.interfaces[0].tap, "othertap");
        let inside = Net::at(attached.namespace.path());
        let filters = inside.run(|| said("tc", &["qdisc", "show"]));
        assert!(!filters.contains("ingress"), "{filters}");
        inside.serve_tcp(METADATA_ADDRESS, 80);
        host.outside.serve_tcp(OUTSIDE, 80);
        {
            let guest = Guest::boot(&attached);
            let own = Some(attached.interfaces[0].address.to_string());
            assert_eq!(guest.net.ask_tcp(METADATA_ADDRESS, 80), own);
            let seen = guest.net.ask_tcp(OUTSIDE, 80);
            assert_eq!(seen, Some(HOST_OUTSIDE.to_string()));
        }
        let two = driver.setup(&request(2, &[])).unwrap();
        let (mac, address) = (attached.interfaces[0].mac, attached.interfaces[0].address);
        let target = two.interfaces[0].address;
        let forged = ipv4(Ipv4Addr::new(192, 168, 127, 77), target, 1);
        let from = Port::on(attached.taps().next().unwrap());
        from.send(&ethernet(
            two.interfaces[0].mac.octets(),
            mac.octets(),
            0x0800,
            &forged,
        ));
        let honest = Arp {
            operation: 1,
            sender: (mac, address),
            target,
        }
        .frame(mac);
        from.send(&honest);
        assert_eq!(
            Port::on(two.taps().next().unwrap()).receive()[..42],
            honest[..42]
        );
        driver.check(&id(1)).unwrap();
        for number in [1, 2] {
            driver.teardown(&id(number)).unwrap();
        }
    });
}

#[test]
fn a_tap_that_is_not_there_is_an_error() {
    on_host(|host| {
        let lie = REDIRECT.replace("othertap\", \"sandbox", "notap\", \"sandbox");
        script(host, "my-tap", &lie);
        let mut list = original(host);
        list["plugins"][2] = json!({"type": "my-tap"});
        configure(host, "conf.d/alpine.conflist", &list);
        let driver = driver(host);
        let error = driver.setup(&request(1, &[])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "CNI network `alpine` says that it made a tap, which is not there"
        );
        assert!(driver.known().unwrap().is_empty());
    });
}
