//! Debian's plugins, with packets that go through what they made.

use std::net::{Ipv4Addr, Ipv6Addr};

use firebuild_network::cni::CniError;
use firebuild_network::{AGENT_ADDRESS, Attachment, Egress, Error, METADATA_ADDRESS, Realm};
use serde_json::json;

use super::{configure, driver, id, ipam, is_of_list, original, request, state, with};
use crate::frame::{Arp, Port, ethernet, ipv4};
use crate::ipv6;
use crate::rig::{Guest, HOST_OUTSIDE, Net, OUTSIDE, ip, on_host, said};

#[test]
fn the_list_of_the_originals_documentation_works_as_it_stands() {
    on_host(|host| {
        configure(host, "conf.d/alpine.conflist", &original(host));
        let driver = driver(host);
        let request = request(1, &[]);
        driver.validate(&request).unwrap();
        let attached = driver.setup(&request).unwrap();
        let interface = &attached.interfaces[0];
        assert!(is_of_list(interface.address), "{interface:?}");
        assert_eq!(interface.gateway, Some([192, 168, 127, 1].into()));
        assert_eq!((interface.subnet.prefix(), interface.mtu), (24, Some(1500)));
        assert_eq!(interface.dns, [OUTSIDE]);
        assert_eq!(interface.tap, "tap0");
        assert!(interface.host_device.starts_with("veth"), "{interface:?}");
        assert_eq!(driver.known().unwrap(), [id(1)]);

        let inside = Net::at(attached.namespace.path());
        inside.serve_tcp(METADATA_ADDRESS, 80);
        inside.serve_tcp(AGENT_ADDRESS, 7000);
        host.outside.serve_tcp(OUTSIDE, 80);
        let guest = Guest::boot(&attached);
        guest.net.serve_tcp(Ipv4Addr::UNSPECIFIED, 5000);
        let own = Some(interface.address.to_string());
        assert_eq!(guest.net.ask_tcp(METADATA_ADDRESS, 80), own);
        assert_eq!(guest.net.ask_tcp(AGENT_ADDRESS, 7000), own);
        // Masqueraded, as the list says.
        let seen = guest.net.ask_tcp(OUTSIDE, 80);
        assert_eq!(seen, Some(HOST_OUTSIDE.to_string()));
        let answer = host.net.ask_tcp(interface.address, 5000);
        assert_eq!(answer, Some("192.168.127.1".to_owned()));
        // What the plugins made is as they look for it, with the VM at work on it.
        driver.check(&id(1)).unwrap();
        driver.teardown(&id(1)).unwrap();
        assert!(driver.known().unwrap().is_empty());
    });
}

#[test]
fn nothing_of_a_vm_is_left_beside_what_plugins_share() {
    on_host(|host| {
        let list = with(
            original(host),
            json!({"type": "portmap", "capabilities": {"portMappings": true}}),
        );
        configure(host, "conf.d/alpine.conflist", &list);
        let driver = driver(host);
        // The bridge and the plugins' own chains come with the first VM and stay.
        drop(driver.setup(&request(1, &["8080:80"])).unwrap());
        driver.teardown(&id(1)).unwrap();
        let before = state(host);
        for port in ["8081:80", "127.0.0.1:8082:80", "5353:53/udp"] {
            let attached = driver.setup(&request(2, &[port])).unwrap();
            assert_ne!(state(host), before);
            drop(attached);
            driver.teardown(&id(2)).unwrap();
            assert_eq!(state(host), before, "{port}");
        }
        let rules = said("iptables-save", &[]);
        assert!(!rules.contains(id(1).as_str()), "{rules}");
    });
}

#[test]
fn ports_are_published_by_portmap() {
    on_host(|host| {
        let list = with(
            original(host),
            json!({"type": "portmap", "capabilities": {"portMappings": true}}),
        );
        configure(host, "conf.d/alpine.conflist", &list);
        let driver = driver(host);
        let attached = driver
            .setup(&request(1, &["8080:80", "5353:53/udp"]))
            .unwrap();
        let guest = Guest::boot(&attached);
        guest.net.serve_tcp(Ipv4Addr::UNSPECIFIED, 80);
        guest.net.serve_udp(Ipv4Addr::UNSPECIFIED, 53);
        let outside = Some(OUTSIDE.to_string());
        assert_eq!(host.outside.ask_tcp(HOST_OUTSIDE, 8080), outside);
        assert_eq!(host.outside.ask_udp(HOST_OUTSIDE, 5353), outside);
        assert!(host.net.ask_tcp(Ipv4Addr::LOCALHOST, 8080).is_some());
        // Neither another VM nor a program of the host gets the port.
        let refused = driver.setup(&request(2, &["8080:81"])).unwrap_err();
        assert!(
            matches!(refused, Error::PortUnavailable { .. }),
            "{refused}"
        );
        assert_eq!(driver.known().unwrap(), [id(1)]);
        drop(guest);
        driver.teardown(&id(1)).unwrap();
        drop(attached);
        assert!(host.outside.cannot_reach(HOST_OUTSIDE, 8080));
        driver.setup(&request(2, &["8080:81"])).unwrap();
        driver.teardown(&id(2)).unwrap();
    });
}

#[test]
fn a_list_that_names_no_tap_gets_one() {
    on_host(|host| {
        // What the SDK of Firecracker shows: a cable and a list of one, without any route.
        let single = json!({
            "cniVersion": "1.0.0",
            "name": "alpine",
            "type": "ptp",
            "ipMasq": true,
            "mtu": 1400,
            "ipam": ipam(host),
        });
        configure(host, "net.d/10-alpine.conf", &single);
        let driver = driver(host);
        let attached = driver.setup(&request(1, &[])).unwrap();
        assert_eq!(attached.interfaces[0].mtu, Some(1400));
        host.outside.serve_tcp(OUTSIDE, 80);
        let guest = Guest::boot(&attached);
        let seen = guest.net.ask_tcp(OUTSIDE, 80);
        assert_eq!(seen, Some(HOST_OUTSIDE.to_string()));
        driver.check(&id(1)).unwrap();
        drop(guest);
        driver.teardown(&id(1)).unwrap();
        assert_eq!(super::files(host, "ipam/alpine"), "");
        assert!(!said("iptables-save", &[]).contains(id(1).as_str()));
    });
}

#[test]
fn vms_of_one_network_reach_each_other() {
    on_host(|host| {
        configure(host, "conf.d/alpine.conflist", &original(host));
        let driver = driver(host);
        let one = driver.setup(&request(1, &[])).unwrap();
        let two = driver.setup(&request(2, &[])).unwrap();
        assert_ne!(one.interfaces[0].address, two.interfaces[0].address);
        let (first, second) = (Guest::boot(&one), Guest::boot(&two));
        second.net.serve_tcp(Ipv4Addr::UNSPECIFIED, 80);
        let answer = first.net.ask_tcp(two.interfaces[0].address, 80);
        assert_eq!(answer, Some(one.interfaces[0].address.to_string()));
        drop((first, second));
        for number in [1, 2] {
            driver.teardown(&id(number)).unwrap();
        }
    });
}

#[test]
fn what_a_list_gives_of_ipv6_the_guest_has() {
    on_host(|host| {
        ipv6::outside(host);
        let mut list = original(host);
        let ranges = json!([[{"subnet": "192.168.127.0/24"}], [{"subnet": "fd00:77::/64"}]]);
        let ipam = json!({
            "type": "host-local", "ranges": ranges, "dataDir": host.path("ipam"),
        });
        list["plugins"][0]["ipam"] = ipam;
        configure(host, "conf.d/alpine.conflist", &list);
        fs_err::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        let driver = driver(host);
        let one = driver.setup(&request(1, &[])).unwrap();
        let two = driver.setup(&request(2, &[])).unwrap();
        let of = |attachment: &Attachment| attachment.interfaces[0].ipv6.clone().unwrap();
        let (six, other) = (of(&one), of(&two));
        assert_eq!(six.prefix, 64);
        assert_eq!(six.gateway, Some("fd00:77::1".parse().unwrap()));
        let (first, second) = (Guest::boot(&one), Guest::boot(&two));
        host.outside.serve_tcp(ipv6::OUTSIDE, 80);
        second.net.serve_tcp(Ipv6Addr::UNSPECIFIED, 80);
        // Masqueraded, as the list says.
        let seen = first.net.ask_tcp(ipv6::OUTSIDE, 80);
        assert_eq!(seen, Some(ipv6::HOST_OUTSIDE.to_string()));
        let seen = first.net.ask_tcp(other.address, 80);
        assert_eq!(seen, Some(six.address.to_string()));
        driver.check(&id(1)).unwrap();
        // As another it is not heard.
        first.net.run(|| {
            ip("-6 address flush dev eth0 scope global");
            ip("address add fd00:77::99/64 dev eth0 nodad");
        });
        assert!(first.net.cannot_reach(other.address, 80));
        drop((first, second));
        for number in [1, 2] {
            driver.teardown(&id(number)).unwrap();
        }
    });
}

#[test]
fn no_vm_forges_anothers_address() {
    on_host(|host| {
        configure(host, "conf.d/alpine.conflist", &original(host));
        let driver = driver(host);
        let one = driver.setup(&request(1, &[])).unwrap();
        let two = driver.setup(&request(2, &[])).unwrap();
        let (mac, address) = (one.interfaces[0].mac, one.interfaces[0].address);
        let (to, target) = (two.interfaces[0].mac.octets(), two.interfaces[0].address);
        let other = Ipv4Addr::new(192, 168, 127, 77);
        let arp = |sender, source| {
            Arp {
                operation: 1,
                sender,
                target,
            }
            .frame(source)
        };
        let honest = arp((mac, address), mac);
        let from = Port::on(one.taps().next().unwrap());
        let port = Port::on(two.taps().next().unwrap());
        let packet =
            |from, to_address| ethernet(to, mac.octets(), 0x0800, &ipv4(from, to_address, 1));
        for (what, bad) in [
            ("another's IP address", packet(other, target)),
            (
                "another's hardware address",
                arp((mac, address), two.interfaces[0].mac),
            ),
            ("another's in ARP", arp((mac, other), mac)),
            (
                "another's hardware address in ARP",
                arp((two.interfaces[0].mac, address), mac),
            ),
            ("link-local", packet(address, Ipv4Addr::new(169, 254, 1, 1))),
        ] {
            from.send(&bad);
            from.send(&honest);
            assert_eq!(port.receive()[..42], honest[..42], "{what}");
        }
        for number in [1, 2] {
            driver.teardown(&id(number)).unwrap();
        }
    });
}

#[test]
fn an_address_can_be_asked_for() {
    on_host(|host| {
        let ips = json!({"ips": true});
        let mut capable = original(host);
        capable["name"] = "capable".into();
        capable["plugins"][0]["capabilities"] = ips;
        configure(host, "conf.d/alpine.conflist", &original(host));
        configure(host, "conf.d/capable.conflist", &capable);
        let driver = driver(host);
        for (network, last) in [("alpine", 40), ("capable", 41)] {
            let mut wanted = request(last, &[]);
            wanted.network = network.to_owned();
            wanted.address = Some([192, 168, 127, last].into());
            let attached = driver.setup(&wanted).unwrap();
            assert_eq!(attached.interfaces[0].address, wanted.address.unwrap());
        }
        // One that is taken is refused by the plugin, in its words, and nothing is left.
        let before = state(host);
        let mut wanted = request(50, &[]);
        wanted.address = Some([192, 168, 127, 40].into());
        let error = driver.setup(&wanted).unwrap_err();
        let Error::Cni(CniError::Refused {
            plugin, message, ..
        }) = &error
        else {
            unreachable!("{error}");
        };
        assert_eq!(plugin, "bridge");
        assert!(message.contains("192.168.127.40"), "{message}");
        assert_eq!(state(host), before);
        for number in [40, 41] {
            driver.teardown(&id(number)).unwrap();
        }
    });
}

#[test]
fn the_namespace_itself_sends_nothing_out_as_the_vm() {
    on_host(|host| {
        configure(host, "conf.d/alpine.conflist", &original(host));
        let driver = driver(host);
        let attached = driver.setup(&request(1, &[])).unwrap();
        host.outside.serve_tcp(OUTSIDE, 80);
        let inside = Net::at(attached.namespace.path());
        assert!(inside.cannot_reach(OUTSIDE, 80));
        driver.teardown(&id(1)).unwrap();
    });
}

#[test]
fn egress_rules_hold_but_for_those_about_names() {
    on_host(|host| {
        configure(host, "conf.d/alpine.conflist", &original(host));
        host.outside.serve_tcp(OUTSIDE, 80);
        host.outside.serve_tcp(OUTSIDE, 81);
        let driver = driver(host);
        let rules = |text: &str| Egress::of([text.parse().unwrap()]).unwrap();
        let mut wanted = request(1, &[]);
        wanted.egress = rules("allow=example.org");
        for refused in [driver.validate(&wanted).err(), driver.setup(&wanted).err()] {
            let refused = refused.unwrap();
            let is_about_names = matches!(refused, Error::Cni(CniError::NoNames(_)));
            assert!(is_about_names, "{refused}");
            assert!(refused.hint().is_some());
        }
        wanted.egress = rules("allow=198.51.100.0/24:80");
        let attached = driver.setup(&wanted).unwrap();
        let inside = Net::at(attached.namespace.path());
        inside.serve_tcp(METADATA_ADDRESS, 80);
        let guest = Guest::boot(&attached);
        guest.net.serve_tcp(Ipv4Addr::UNSPECIFIED, 5000);
        assert!(guest.net.ask_tcp(METADATA_ADDRESS, 80).is_some());
        assert!(guest.net.ask_tcp(OUTSIDE, 80).is_some());
        assert!(guest.net.cannot_reach(OUTSIDE, 81));
        let address = attached.interfaces[0].address;
        assert!(host.net.ask_tcp(address, 5000).is_some());
        let realm = Realm::default();
        let reports = wanted.egress.reports(&realm, &attached.namespace, 1);
        let report = reports.unwrap().remove(0).unwrap();
        assert!(
            report.refused > 0 && report.rules[0].matched > 0,
            "{report:?}"
        );
        driver.teardown(&id(1)).unwrap();
    });
}
