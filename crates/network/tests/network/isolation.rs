//! What a guest can do to others, and they to it: nothing, whatever it sends.

use std::net::Ipv4Addr;

use firebuild_network::{AGENT_ADDRESS, Attachment, METADATA_ADDRESS, Mac};

use crate::frame::{Arp, BROADCAST, Port, ethernet, ipv4};
use crate::rig::{Guest, HOST_OUTSIDE, Host, Net, OUTSIDE, ip, on_host, request};

fn pair(host: &Host) -> (Attachment, Attachment) {
    let driver = host.driver();
    let one = driver.setup(&request(1, &[])).unwrap();
    let two = driver.setup(&request(2, &[])).unwrap();
    (one, two)
}

/// Serves in a VM's namespace what its supervisor would, and says so to whoever asks.
fn serve_services(attachment: &Attachment) {
    let inside = Net::at(attachment.namespace.path());
    inside.serve_tcp(METADATA_ADDRESS, 80);
    inside.serve_tcp(AGENT_ADDRESS, 7000);
}

#[test]
fn services_are_for_their_own_vm_only() {
    on_host(|host| {
        let (one, two) = pair(host);
        serve_services(&one);
        let (first, second) = (Guest::boot(&one), Guest::boot(&two));
        let own = Some(one.interfaces[0].address.to_string());
        assert_eq!(first.net.ask_tcp(METADATA_ADDRESS, 80), own);
        assert_eq!(first.net.ask_tcp(AGENT_ADDRESS, 7000), own);

        // The other VM's way to those addresses ends in its own namespace, where nobody serves.
        assert!(second.net.cannot_reach(METADATA_ADDRESS, 80));
        assert!(second.net.cannot_reach(AGENT_ADDRESS, 7000));

        // Through the first VM's address neither another VM nor the host gets there.
        let address = one.interfaces[0].address;
        for (net, device) in [(&second.net, "eth0"), (&host.net, "firebuild0")] {
            net.run(|| {
                ip(&format!(
                    "route replace 169.254.169.252/30 via {address} dev {device}"
                ));
            });
            assert!(net.cannot_reach(METADATA_ADDRESS, 80));
            assert!(net.cannot_reach(AGENT_ADDRESS, 7000));
        }
        assert_eq!(first.net.ask_tcp(METADATA_ADDRESS, 80), own);
    });
}

#[test]
fn without_the_metadata_address_the_vmm_has_it_to_itself() {
    on_host(|host| {
        let mut wanted = request(1, &[]);
        wanted.metadata_address = false;
        let attachment = host.driver().setup(&wanted).unwrap();
        let namespace = attachment.namespace;
        let listen = |address| namespace.listen((address, 80).into());
        assert!(listen(METADATA_ADDRESS).is_err());
        assert!(listen(AGENT_ADDRESS).is_ok());
    });
}

#[test]
fn vms_reach_each_other_but_not_the_host() {
    on_host(|host| {
        let (one, two) = pair(host);
        let (first, second) = (Guest::boot(&one), Guest::boot(&two));
        second.net.serve_tcp(Ipv4Addr::UNSPECIFIED, 80);
        host.net.serve_tcp(Ipv4Addr::UNSPECIFIED, 22);
        let address = one.interfaces[0].address;
        for bridged in [false, true] {
            host.pass_bridged_to_rules(bridged);
            let answer = first.net.ask_tcp(two.interfaces[0].address, 80);
            assert_eq!(answer, Some(address.to_string()), "{bridged}");
        }
        let gateway = one.interfaces[0].gateway.unwrap();
        assert_eq!(host.net.ask_tcp(gateway, 22), Some(gateway.to_string()));
        assert!(first.net.cannot_reach(gateway, 22));
        assert!(first.net.cannot_reach(HOST_OUTSIDE, 22));
        // A published loopback must not make the host's loopback reachable.
        first.net.run(|| {
            ip("route del local 127.0.0.0/8 dev lo table local");
            ip("route del local 127.0.0.1 dev lo table local");
            ip(&format!("route add 127.0.0.1 via {gateway} src {address}"));
        });
        host.net.serve_tcp(Ipv4Addr::LOCALHOST, 23);
        assert!(first.net.cannot_reach(Ipv4Addr::LOCALHOST, 23));
    });
}

/// Every frame of `bad` is stopped on its way from the first VM to the second, and the one after
/// them arrives.
fn only_the_last_arrives(one: &Attachment, two: &Attachment, bad: &[(&str, Vec<u8>)]) {
    let (from, to) = (Port::of(one), Port::of(two));
    let honest = Arp {
        operation: 1,
        sender: (one.interfaces[0].mac, one.interfaces[0].address),
        target: two.interfaces[0].address,
    }
    .frame(one.interfaces[0].mac);
    for (what, frame) in bad {
        from.send(frame);
        from.send(&honest);
        assert_eq!(to.receive()[..42], honest[..42], "{what}");
    }
}

#[test]
fn forged_arp_goes_nowhere() {
    on_host(|host| {
        let (one, two) = pair(host);
        let (own, other) = (one.interfaces[0].mac, two.interfaces[0].mac);
        let address = one.interfaces[0].address;
        let arp = |mac: Mac, address, operation| Arp {
            operation,
            sender: (mac, address),
            target: two.interfaces[0].address,
        };
        let mut truncated = arp(own, address, 1).frame(own);
        truncated.truncate(20);
        let mut long_addresses = arp(own, address, 1).frame(own);
        long_addresses[18] = 8;
        only_the_last_arrives(
            &one,
            &two,
            &[
                (
                    "as the gateway",
                    arp(own, one.interfaces[0].gateway.unwrap(), 1).frame(own),
                ),
                (
                    "answer as the gateway",
                    arp(own, one.interfaces[0].gateway.unwrap(), 2).frame(own),
                ),
                (
                    "as the target",
                    arp(own, two.interfaces[0].address, 1).frame(own),
                ),
                (
                    "without an address",
                    arp(own, Ipv4Addr::UNSPECIFIED, 1).frame(own),
                ),
                ("as a service", arp(own, METADATA_ADDRESS, 1).frame(own)),
                (
                    "with another's hardware address",
                    arp(other, address, 1).frame(own),
                ),
                (
                    "from another's hardware address",
                    arp(own, address, 1).frame(other),
                ),
                (
                    "wholly as another",
                    arp(other, two.interfaces[0].address, 1).frame(other),
                ),
                ("truncated", truncated),
                ("with addresses of another length", long_addresses),
            ],
        );
    });
}

#[test]
fn forged_packets_go_nowhere() {
    on_host(|host| {
        let (one, two) = pair(host);
        let (own, other) = (
            one.interfaces[0].mac.octets(),
            two.interfaces[0].mac.octets(),
        );
        let (address, target) = (one.interfaces[0].address, two.interfaces[0].address);
        let packet = |from, to| ipv4(from, to, 1);
        let tagged = [&[0, 5, 8, 0][..], &packet(OUTSIDE, target)[..]].concat();
        only_the_last_arrives(
            &one,
            &two,
            &[
                (
                    "from outside",
                    ethernet(other, own, 0x0800, &packet(OUTSIDE, target)),
                ),
                (
                    "from the gateway",
                    ethernet(
                        other,
                        own,
                        0x0800,
                        &packet(one.interfaces[0].gateway.unwrap(), target),
                    ),
                ),
                (
                    "from a service",
                    ethernet(other, own, 0x0800, &packet(METADATA_ADDRESS, target)),
                ),
                (
                    "from nowhere",
                    ethernet(
                        BROADCAST,
                        own,
                        0x0800,
                        &packet(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST),
                    ),
                ),
                (
                    "another hardware address",
                    ethernet(other, other, 0x0800, &packet(address, target)),
                ),
                (
                    "to a service",
                    ethernet(other, own, 0x0800, &packet(address, METADATA_ADDRESS)),
                ),
                (
                    "to something link-local",
                    ethernet(
                        other,
                        own,
                        0x0800,
                        &packet(address, Ipv4Addr::new(169, 254, 170, 2)),
                    ),
                ),
                ("in a VLAN", ethernet(other, own, 0x8100, &tagged)),
                ("IPv6", ethernet(BROADCAST, own, 0x86dd, &[0x60; 60])),
                (
                    "of another protocol",
                    ethernet(BROADCAST, own, 0x88cc, &[1; 60]),
                ),
                ("too short", ethernet(other, own, 0x0800, &[0x45])),
            ],
        );
        // And what is honest gets through.
        let (from, to) = (Port::of(&one), Port::of(&two));
        let honest = ethernet(other, own, 0x0800, &ipv4(address, target, 7));
        from.send(&honest);
        assert_eq!(to.receive()[..35], honest[..35]);
    });
}

#[test]
fn a_guest_sees_only_frames_for_itself() {
    on_host(|host| {
        let (one, two) = pair(host);
        let own = one.interfaces[0].mac.octets();
        // A bridge floods what is for a hardware address that it has not seen.
        let stranger = [2, 0, 0, 0, 0, 9];
        let packet = ipv4(one.interfaces[0].address, two.interfaces[0].address, 1);
        let query = Arp {
            operation: 1,
            sender: (one.interfaces[0].mac, one.interfaces[0].address),
            target: Ipv4Addr::from(u32::from(two.interfaces[0].address) + 7),
        };
        only_the_last_arrives(
            &one,
            &two,
            &[
                ("for a stranger", ethernet(stranger, own, 0x0800, &packet)),
                ("a question to another", query.frame(one.interfaces[0].mac)),
            ],
        );
    });
}
