//! Packets that are not whole, or oddly made.

use std::net::{Ipv4Addr, Ipv6Addr};

use firebuild_network::Request;

use super::{OTHER, report, ruled};
use crate::frame::{Port, ethernet, ipv4};
use crate::ipv6;
use crate::rig::{OUTSIDE, on_host};

/// A packet to a port, of which this is one piece.
fn piece(from: Ipv4Addr, to: Ipv4Addr, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = ipv4(from, to, 0);
    packet.truncate(20);
    let length = u16::try_from(20 + payload.len()).unwrap();
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet[6..8].copy_from_slice(&fragment.to_be_bytes());
    packet[9] = 17;
    packet.extend_from_slice(payload);
    packet
}

/// Only the first piece of a packet has its ports: the others pass to where something is open, and
/// headers that hide the transport pass nowhere.
#[test]
fn packets_in_pieces_and_odd_headers_are_judged() {
    on_host(|host| {
        let terms = [
            "deny=*:22",
            "allow=198.51.100.3:80",
            "allow=[2001:db8::/32]:80",
        ];
        let driver = host.driver();
        ipv6::define(&driver, "six", false);
        let wanted = Request {
            networks: vec!["six".parse().unwrap()],
            ..ruled(1, &terms, &[])
        };
        let attachment = driver.setup(&wanted).unwrap();
        let port = Port::of(&attachment);
        let interface = &attachment.interfaces[0];
        let (mac, own) = (interface.mac.octets(), interface.address);
        let counts = || {
            let report = report(&attachment, &terms);
            let matched: Vec<u64> = report.rules.iter().map(|rule| rule.matched).collect();
            (matched, report.refused)
        };
        let send =
            |kind: u16, packet: &[u8]| port.send(&ethernet([2, 0, 0, 0, 0, 9], mac, kind, packet));
        let to = |port: u16| [&[0, 9][..], &port.to_be_bytes()[..], &[0, 100, 0, 0]].concat();
        // More follows; then pieces from its middle.
        send(0x800, &piece(own, OTHER, 0x2000, &to(80)));
        send(0x800, &piece(own, OTHER, 0x2001, &[7; 16]));
        send(0x800, &piece(own, OTHER, 0x0003, &[7; 16]));
        assert_eq!(counts(), (vec![0, 3, 0], 0));
        send(0x800, &piece(own, OTHER, 0x2000, &to(22)));
        send(0x800, &piece(own, OUTSIDE, 0x0003, &[7; 16]));
        assert_eq!(counts(), (vec![1, 3, 0], 2));

        let six = interface.ipv6.as_ref().unwrap().address;
        let packet6 = |next: u8, payload: &[u8]| {
            let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
            [
                &[0x60, 0, 0, 0][..],
                &length,
                &[next, 64],
                &six.octets(),
                &"2001:db8::9".parse::<Ipv6Addr>().unwrap().octets(),
                payload,
            ]
            .concat()
        };
        // Behind options: found all the same.
        let options = [17, 0, 1, 4, 0, 0, 0, 0];
        send(0x86dd, &packet6(60, &[&options[..], &to(80)].concat()));
        send(0x86dd, &packet6(60, &[&options[..], &to(22)].concat()));
        assert_eq!(counts(), (vec![2, 3, 1], 3));
        // A first piece that ends before the ports begin, and the rest.
        let first = [60, 0, 0, 1, 0, 0, 0, 9];
        let rest = [60, 0, 0, 8, 0, 0, 0, 9];
        send(0x86dd, &packet6(44, &[&first[..], &options[..]].concat()));
        send(0x86dd, &packet6(44, &[&rest[..], &to(22)].concat()));
        assert_eq!(counts(), (vec![2, 3, 1], 5));
    });
}
