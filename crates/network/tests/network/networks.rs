//! Networks that people define: several on a host, several of one VM, and none.

use std::net::Ipv4Addr;

use firebuild_network::{
    AGENT_ADDRESS, Builtin, Error, METADATA_ADDRESS, Network, NetworkName, Request,
};

use nix::mount::{MsFlags, mount};

use crate::rig::{Guest, HOST_OUTSIDE, Net, OUTSIDE, id, ip, on_host, request, said};

fn named(name: &str) -> Network {
    Network::named(name.parse().unwrap())
}

fn define(driver: &Builtin, name: &str, change: impl FnOnce(&mut Network)) -> Network {
    let mut network = named(name);
    change(&mut network);
    driver.create(network, false).unwrap()
}

/// A VM in these networks.
fn joined(number: u8, networks: &[&str], ports: &[&str]) -> Request {
    let joins = networks.iter().map(|text| text.parse().unwrap());
    Request {
        networks: joins.collect(),
        ..request(number, ports)
    }
}

#[test]
fn a_host_without_ipv6_has_no_network_with_it() {
    on_host(|host| {
        // What a kernel without it does not have.
        let tmpfs = Some("tmpfs");
        mount(
            None::<&str>,
            "/proc/sys/net",
            tmpfs,
            MsFlags::empty(),
            None::<&str>,
        )
        .unwrap();
        let driver = host.driver();
        let refused = driver.create(named("six"), true).unwrap_err();
        assert!(matches!(refused, Error::NoIpv6(_)), "{refused}");
        assert!(refused.hint().is_some());
        assert_eq!(driver.networks().unwrap().len(), 1);
        driver.create(named("four"), false).unwrap();
    });
}

#[test]
fn networks_are_defined_listed_and_removed() {
    on_host(|host| {
        let driver = host.driver();
        let before = host.state();
        let names = || {
            let all = driver.networks().unwrap();
            all.iter().map(|it| it.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(), ["default"]);
        let front = define(&driver, "front", |network| {
            network.subnet = Some("10.9.0.0/24".parse().unwrap());
            network.gateway = Some(Ipv4Addr::new(10, 9, 0, 254));
        });
        let back = define(&driver, "back", |network| network.mtu = Some(1400));
        assert!(!back.subnet.unwrap().overlaps(front.subnet.unwrap()));
        assert_eq!(names(), ["default", "back", "front"]);
        assert_eq!(
            driver.network(&front.name).unwrap(),
            (front.clone(), vec![])
        );
        // A definition alone takes nothing of the host.
        assert_eq!(host.state(), before);

        let mut attachment = driver.setup(&joined(1, &["front"], &[])).unwrap();
        let interface = attachment.interfaces.remove(0);
        assert_eq!(interface.network, "front");
        assert_eq!(interface.gateway, front.gateway);
        let (_, members) = driver.network(&front.name).unwrap();
        assert_eq!(members[0].id, id(1));
        assert_eq!(members[0].address, interface.address);
        let refused = driver.remove(&front.name).unwrap_err();
        assert!(matches!(&refused, Error::NetworkInUse { by, .. } if *by == id(1)));
        assert!(refused.hint().unwrap().contains("firebuild stop"));
        driver.teardown(&id(1)).unwrap();
        driver.remove(&front.name).unwrap();
        assert_eq!(names(), ["default", "back"]);
        assert_eq!(host.state(), before);
        let gone = driver.setup(&joined(1, &["front"], &[])).unwrap_err();
        assert!(matches!(gone, Error::NoNetwork(_)), "{gone}");
        assert_eq!(host.state(), before);
    });
}

#[test]
fn what_can_be_no_network_is_refused() {
    on_host(|host| {
        let driver = host.driver();
        define(&driver, "taken", |network| {
            network.subnet = Some("10.9.0.0/24".parse().unwrap());
        });
        type Change = fn(&mut Network);
        let cases: [(&str, &str, Change); 9] = [
            ("taken", "already", |_| {}),
            ("default", "already", |_| {}),
            ("none", "no network can be called", |_| {}),
            ("a", "overlaps with the network `taken`", |network| {
                network.subnet = Some("10.9.0.128/25".parse().unwrap());
            }),
            ("a", "overlaps with the host's route", |network| {
                network.subnet = Some("198.51.0.0/16".parse().unwrap());
            }),
            ("a", "8 to 30", |network| {
                network.subnet = Some("10.9.9.0/31".parse().unwrap());
            }),
            ("a", "not one for VMs", |network| {
                network.subnet = Some("169.254.0.0/16".parse().unwrap());
            }),
            ("a", "is not an address of the subnet", |network| {
                network.subnet = Some("10.9.9.0/24".parse().unwrap());
                network.gateway = Some(Ipv4Addr::new(10, 9, 9, 255));
            }),
            ("a", "1280 to 65535", |network| network.mtu = Some(1279)),
        ];
        for (name, expected, change) in cases {
            let mut network = named(name);
            change(&mut network);
            let refused = driver.create(network, false).unwrap_err().to_string();
            assert!(refused.contains(expected), "{name}: {refused}");
        }
        assert_eq!(driver.networks().unwrap().len(), 2);
        let stays = driver.remove(&NetworkName::default()).unwrap_err();
        assert!(matches!(stays, Error::NetworkStays));
        // Half a file, as somebody's editor leaves it.
        fs_err::write(host.path("root/networks/half.json"), "{\"Name\"").unwrap();
        let refused = driver.setup(&joined(1, &["half"], &[])).unwrap_err();
        assert!(refused.to_string().contains("half.json"), "{refused}");
    });
}

#[test]
fn vms_of_different_networks_do_not_reach_each_other() {
    on_host(|host| {
        let driver = host.driver();
        let before = host.state();
        define(&driver, "front", |_| {});
        define(&driver, "back", |_| {});
        let one = driver.setup(&joined(1, &["front"], &["8080:80"])).unwrap();
        let two = driver.setup(&joined(2, &["back"], &[])).unwrap();
        let both = driver.setup(&joined(3, &["back", "front"], &[])).unwrap();
        let plain = driver.setup(&request(4, &[])).unwrap();
        let (first, second) = (Guest::boot(&one), Guest::boot(&two));
        let (third, fourth) = (Guest::boot(&both), Guest::boot(&plain));
        for guest in [&first, &second, &third, &fourth] {
            guest.net.serve_tcp(Ipv4Addr::UNSPECIFIED, 80);
        }
        let address = |attachment: &firebuild_network::Attachment, index: usize| {
            attachment.interfaces[index].address
        };
        for bridged in [false, true] {
            host.pass_bridged_to_rules(bridged);
            let reached = third.net.ask_tcp(address(&one, 0), 80);
            assert_eq!(reached, Some(address(&both, 1).to_string()));
            let reached = third.net.ask_tcp(address(&two, 0), 80);
            assert_eq!(reached, Some(address(&both, 0).to_string()));
            assert!(first.net.ask_tcp(address(&both, 1), 80).is_some());
            for (from, to) in [
                (&first, address(&two, 0)),
                (&first, address(&both, 0)),
                (&first, address(&plain, 0)),
                (&second, address(&one, 0)),
                (&second, address(&both, 1)),
                (&fourth, address(&one, 0)),
                (&fourth, address(&two, 0)),
            ] {
                assert!(from.net.cannot_reach(to, 80), "{to}");
            }
        }
        // Nor the host, by whichever of its addresses; but what is published is for everybody.
        host.net.serve_tcp(Ipv4Addr::UNSPECIFIED, 22);
        let gateways = [&one, &two, &plain].map(|it| it.interfaces[0].gateway.unwrap());
        for guest in [&first, &third, &fourth] {
            for gateway in gateways.into_iter().chain([HOST_OUTSIDE]) {
                assert!(guest.net.cannot_reach(gateway, 22), "{gateway}");
            }
        }
        assert!(second.net.ask_tcp(HOST_OUTSIDE, 8080).is_some());
        host.outside.serve_tcp(OUTSIDE, 80);
        for guest in [&first, &second, &third, &fourth] {
            let seen = guest.net.ask_tcp(OUTSIDE, 80);
            assert_eq!(seen, Some(HOST_OUTSIDE.to_string()));
        }
        drop((first, second, third, fourth));
        drop((one, two, both, plain));
        let during = host.state();
        assert_eq!(during["devices"].matches("fb-").count(), 2);
        for number in 1..=4 {
            driver.teardown(&id(number)).unwrap();
        }
        assert_eq!(host.state(), before);
    });
}

/// What goes with the last VM of one network leaves the others as they are.
#[test]
fn a_network_goes_with_its_last_vm() {
    on_host(|host| {
        let driver = host.driver();
        crate::rig::nft(
            "table inet filter { chain forward { type filter hook forward priority 0; policy drop; }\n}\n",
        );
        let before = host.state();
        define(&driver, "front", |_| {});
        define(&driver, "back", |_| {});
        let one = driver.setup(&joined(1, &["front"], &["8080:80"])).unwrap();
        let during = host.state();
        drop(driver.setup(&joined(2, &["back", "front"], &[])).unwrap());
        driver.teardown(&id(2)).unwrap();
        assert_eq!(host.state(), during);
        let guest = Guest::boot(&one);
        guest.net.serve_tcp(Ipv4Addr::UNSPECIFIED, 80);
        assert!(host.outside.ask_tcp(HOST_OUTSIDE, 8080).is_some());
        drop((guest, one));
        driver.teardown(&id(1)).unwrap();
        assert_eq!(host.state(), before);
    });
}

#[test]
fn an_internal_network_has_no_way_out() {
    on_host(|host| {
        let driver = host.driver();
        let before = host.state();
        let closed = define(&driver, "closed", |network| network.internal = true);
        let one = driver.setup(&joined(1, &["closed"], &[])).unwrap();
        let two = driver.setup(&joined(2, &["closed"], &[])).unwrap();
        let open = driver.setup(&request(3, &["8080:80"])).unwrap();
        assert_eq!(one.interfaces[0].gateway, None);
        let (first, second, third) = (Guest::boot(&one), Guest::boot(&two), Guest::boot(&open));
        second.net.serve_tcp(Ipv4Addr::UNSPECIFIED, 80);
        third.net.serve_tcp(Ipv4Addr::UNSPECIFIED, 80);
        host.outside.serve_tcp(OUTSIDE, 80);
        host.net.serve_tcp(Ipv4Addr::UNSPECIFIED, 22);
        assert!(first.net.ask_tcp(two.interfaces[0].address, 80).is_some());
        // Even if it makes a route of its own.
        let gateway = closed.subnet.unwrap().gateway();
        first
            .net
            .run(|| ip(&format!("route add default via {gateway}")));
        for (address, port) in [
            (OUTSIDE, 80),
            (open.interfaces[0].address, 80),
            (HOST_OUTSIDE, 8080),
            (gateway, 8080),
            (gateway, 22),
            (HOST_OUTSIDE, 22),
        ] {
            assert!(first.net.cannot_reach(address, port), "{address}:{port}");
        }
        // The host reaches its VMs; others do not.
        assert!(host.net.ask_tcp(two.interfaces[0].address, 80).is_some());
        let (subnet, through) = (closed.subnet.unwrap(), HOST_OUTSIDE);
        host.outside
            .run(|| ip(&format!("route add {subnet} via {through}")));
        assert!(host.outside.cannot_reach(two.interfaces[0].address, 80));

        let refused = driver.setup(&joined(4, &["closed"], &["8081:80"]));
        assert!(matches!(refused, Err(Error::PortUnreachable(_))));
        // With another network beside it, that one is the way out and the way in.
        let beside = driver
            .setup(&joined(4, &["closed", "default"], &["8081:80"]))
            .unwrap();
        assert_eq!(beside.interfaces[0].gateway, None);
        assert!(beside.interfaces[1].gateway.is_some());
        assert_eq!(beside.interfaces[1].listeners.len(), 1);
        let fourth = Guest::boot(&beside);
        fourth.net.serve_tcp(Ipv4Addr::UNSPECIFIED, 80);
        assert!(host.outside.ask_tcp(HOST_OUTSIDE, 8081).is_some());
        assert!(fourth.net.ask_tcp(OUTSIDE, 80).is_some());
        drop((first, second, third, fourth, one, two, open, beside));
        for number in 1..=4 {
            driver.teardown(&id(number)).unwrap();
        }
        assert_eq!(host.state(), before);
    });
}

#[test]
fn a_vm_without_a_network_has_its_services() {
    on_host(|host| {
        let driver = host.driver();
        let before = host.state();
        let attachment = driver.setup(&joined(1, &[], &[])).unwrap();
        let inside = Net::at(attachment.namespace.path());
        inside.serve_tcp(METADATA_ADDRESS, 80);
        inside.serve_tcp(AGENT_ADDRESS, 7000);
        let guest = Guest::boot(&attachment);
        assert!(guest.net.ask_tcp(METADATA_ADDRESS, 80).is_some());
        assert!(guest.net.ask_tcp(AGENT_ADDRESS, 7000).is_some());
        guest.net.run(|| ip("route add default dev eth0"));
        host.outside.serve_tcp(OUTSIDE, 80);
        assert!(guest.net.cannot_reach(OUTSIDE, 80));
        let devices = inside.run(|| said("ip", &["-brief", "link"]));
        assert_eq!(devices.lines().count(), 2, "{devices}");
        // The host has nothing of it but its namespace and its lease.
        for part in ["devices", "addresses", "routes"] {
            assert_eq!(host.state()[part], before[part], "{part}");
        }
        assert_eq!(driver.known().unwrap(), [id(1)]);
        let refused = driver.setup(&joined(2, &[], &["8080:80"]));
        assert!(matches!(refused, Err(Error::PortUnreachable(_))));
        drop((guest, attachment));
        driver.teardown(&id(1)).unwrap();
        assert_eq!(host.state(), before);
    });
}

#[test]
fn a_place_in_a_network_is_as_it_was_asked_for() {
    on_host(|host| {
        let driver = host.driver();
        let subnet = "10.9.0.0/24".parse().unwrap();
        define(&driver, "front", |network| {
            network.subnet = Some(subnet);
            network.mtu = Some(1400);
        });
        let text = "front:ip=10.9.0.7,mac=02:00:00:00:00:07";
        let one = driver.setup(&joined(1, &["default", text], &[])).unwrap();
        let interface = &one.interfaces[1];
        assert_eq!(interface.address, Ipv4Addr::new(10, 9, 0, 7));
        assert_eq!(interface.mac.to_string(), "02:00:00:00:00:07");
        assert_eq!(interface.mtu, Some(1400));
        assert_eq!((one.number, interface.tap.as_str()), (Some(1), "tap1"));
        let inside = Net::at(one.namespace.path());
        for device in ["tap1", "eth1"] {
            let shown = inside.run(|| said("ip", &["link", "show", device]));
            assert!(shown.contains("mtu 1400"), "{shown}");
        }
        for (joins, expected) in [
            (&["front:ip=10.9.0.7"][..], "in use by VM"),
            (&["front:mac=02:00:00:00:00:07"], "in use by VM"),
            (&["front:ip=10.9.1.1"], "is not one for guests"),
            (&["front", "front"], "named twice"),
        ] {
            let refused = driver.setup(&joined(2, joins, &[])).unwrap_err();
            assert!(refused.to_string().contains(expected), "{refused}");
        }
        let two = driver.setup(&joined(2, &["front"], &[])).unwrap();
        assert_eq!(two.number, Some(2));
        // Frames of the network's size pass, and no longer ones.
        let (first, second) = (Guest::boot(&one), Guest::boot(&two));
        let target = two.interfaces[0].address.to_string();
        let ping = |size: &str| {
            let arguments = ["-c1", "-W5", "-M", "do", "-s", size, &target];
            first.net.run(|| {
                let mut command = std::process::Command::new("ping");
                command.args(arguments).output().unwrap().status.success()
            })
        };
        assert!(ping("1372"));
        assert!(!ping("1373"));
        drop(second);
    });
}

/// After a restart the host has files only: what the driver does is as if nothing had been.
#[test]
fn a_restart_of_the_host_takes_networks_and_leaves_definitions() {
    on_host(|host| {
        let driver = host.driver();
        define(&driver, "front", |_| {});
        let before = host.state();
        let attachment = driver
            .setup(&joined(1, &["front", "default"], &["8080:80"]))
            .unwrap();
        let interface = attachment.interfaces[0].clone();
        let namespace = attachment.namespace.clone();
        drop(attachment);
        // Namespaces, devices and rules are gone; leases may have been kept or not.
        for keep_lease in [true, false] {
            for device in said("ip", &["-brief", "link"]).lines() {
                let name = device.split(['@', ' ']).next().unwrap();
                if name.starts_with('f') {
                    let _ = std::process::Command::new("ip")
                        .args(["link", "del", name])
                        .output();
                }
            }
            crate::rig::nft("flush ruleset");
            let _ = rustix::mount::unmount(namespace.path(), rustix::mount::UnmountFlags::DETACH);
            if !keep_lease {
                fs_err::remove_dir_all(host.path("leases")).unwrap();
                fs_err::remove_file(namespace.path()).unwrap();
            }
            let known = driver.known().unwrap();
            assert_eq!(known.len(), usize::from(keep_lease));
            for id in known {
                driver.teardown(&id).unwrap();
            }
            assert_eq!(host.state(), before);
            let again = driver
                .setup(&joined(1, &["front", "default"], &["8080:80"]))
                .unwrap();
            assert_eq!(again.interfaces[0].bridge, interface.bridge);
        }
        driver.teardown(&id(1)).unwrap();
        assert_eq!(host.state(), before);
    });
}
