//! Rules by address, protocol and port.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use firebuild_network::{AGENT_ADDRESS, METADATA_ADDRESS, Realm, Request};

use super::{
    OTHER, answers_ping, egress, is_refused_at_once, matched, report, reports, ruled, services,
};
use crate::ipv6;
use crate::rig::{Guest, HOST_OUTSIDE, Net, OUTSIDE, id, on_host};

#[test]
fn by_default_or_by_name_of_it_everything_passes() {
    on_host(|host| {
        services(host);
        let attachment = host.driver().setup(&ruled(1, &["allow"], &[])).unwrap();
        let guest = Guest::boot(&attachment);
        assert!(guest.net.ask_tcp(OUTSIDE, 80).is_some());
        assert!(answers_ping(&guest.net, OUTSIDE));
        let namespace = &attachment.namespace;
        let none = egress(&["allow"]).reports(&Realm::default(), namespace, 1);
        assert_eq!(none.unwrap(), [None]);
    });
}

#[test]
fn only_what_is_allowed_passes_and_the_rest_is_counted() {
    on_host(|host| {
        services(host);
        let driver = host.driver();
        let terms = [
            "deny=198.51.100.3:80/tcp",
            "allow=198.51.100.3",
            "allow=198.51.100.2:80-81/udp",
        ];
        let attachment = driver.setup(&ruled(1, &terms, &[])).unwrap();
        let inside = Net::at(attachment.namespace.path());
        inside.serve_tcp(METADATA_ADDRESS, 80);
        inside.serve_tcp(AGENT_ADDRESS, 7000);
        let guest = Guest::boot(&attachment);
        assert_eq!(report(&attachment, &terms).refused, 0);
        assert!(guest.net.ask_tcp(METADATA_ADDRESS, 80).is_some());
        assert!(guest.net.ask_tcp(AGENT_ADDRESS, 7000).is_some());

        assert!(guest.net.ask_tcp(OTHER, 81).is_some());
        assert!(answers_ping(&guest.net, OTHER));
        assert_eq!(matched(&report(&attachment, &terms)), [false, true, false]);
        assert!(guest.net.ask_udp(OUTSIDE, 80).is_some());
        assert!(guest.net.ask_udp(OUTSIDE, 81).is_some());
        let before = report(&attachment, &terms);
        assert_eq!(
            (matched(&before), before.refused),
            (vec![false, true, true], 0)
        );

        assert!(is_refused_at_once(&guest.net, OTHER, 80));
        let by_rule = report(&attachment, &terms);
        assert_eq!((by_rule.rules[0].matched, by_rule.refused), (1, 1));
        assert!(is_refused_at_once(&guest.net, OUTSIDE, 80));
        assert!(!answers_ping(&guest.net, OUTSIDE));
        let by_default = report(&attachment, &terms);
        assert_eq!((by_default.rules[0].matched, by_default.refused), (1, 3));
        // The neighbours, too, and the host, which would refuse by itself.
        let gateway = attachment.interfaces[0].gateway.unwrap();
        assert!(guest.net.cannot_reach(gateway, 22));
        assert!(report(&attachment, &terms).refused > 3);
        drop(guest);
        driver.teardown(&id(1)).unwrap();
        assert!(
            egress(&terms)
                .reports(&Realm::default(), &attachment.namespace, 1)
                .is_err()
        );
    });
}

#[test]
fn what_is_denied_is_refused_and_the_rest_passes() {
    on_host(|host| {
        services(host);
        let terms = ["deny=198.51.100.0/31,198.51.100.3:80", "deny=*:81/udp"];
        let attachment = host.driver().setup(&ruled(1, &terms, &[])).unwrap();
        let guest = Guest::boot(&attachment);
        assert!(guest.net.ask_tcp(OUTSIDE, 80).is_some());
        assert!(guest.net.ask_tcp(OUTSIDE, 81).is_some());
        assert!(guest.net.ask_tcp(OTHER, 81).is_some());
        assert!(answers_ping(&guest.net, OTHER));
        assert_eq!(report(&attachment, &terms).refused, 0);
        assert!(is_refused_at_once(&guest.net, OTHER, 80));
        assert!(is_refused_at_once(&guest.net, HOST_OUTSIDE, 80));
        guest.net.run(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            socket.send_to(b"?", (OUTSIDE, 81)).unwrap();
        });
        let report = report(&attachment, &terms);
        assert_eq!(matched(&report), [true, true, true]);
    });
}

#[test]
fn every_network_of_a_vm_is_judged_and_ipv6_with_it() {
    on_host(|host| {
        services(host);
        ipv6::outside(host);
        host.outside.serve_tcp(ipv6::OUTSIDE, 80);
        host.outside.serve_tcp(ipv6::OUTSIDE, 81);
        let driver = host.driver();
        ipv6::define(&driver, "six", false);
        ipv6::define(&driver, "back", true);
        let terms = ["allow=[2001:db8:1::/48]:80", "allow=198.51.100.3:80"];
        let wanted = Request {
            networks: vec!["six".parse().unwrap(), "back".parse().unwrap()],
            ..ruled(1, &terms, &["8080:80"])
        };
        let attachment = driver.setup(&wanted).unwrap();
        let second = driver.setup(&ipv6::joined(2, "back", &[])).unwrap();
        let (guest, neighbour) = (Guest::boot(&attachment), Guest::boot(&second));
        assert!(guest.net.ask_tcp(ipv6::OUTSIDE, 80).is_some());
        assert!(is_refused_at_once(&guest.net, ipv6::OUTSIDE, 81));
        assert!(!answers_ping(&guest.net, ipv6::OUTSIDE));
        assert!(guest.net.ask_tcp(OTHER, 80).is_some());
        let at_first = reports(&attachment, &terms);
        assert_eq!(at_first[1].refused, 0);
        assert!(at_first[0].refused >= 2);

        // Of the neighbours nothing is reached, and everything is answered to them.
        neighbour.net.serve_tcp(Ipv6Addr::UNSPECIFIED, 80);
        let six = ipv6::address(&second);
        let four = second.interfaces[0].address;
        assert!(guest.net.cannot_reach(six, 80) && guest.net.cannot_reach(four, 80));
        assert!(reports(&attachment, &terms)[1].refused >= 2);
        guest.net.serve_tcp(Ipv6Addr::UNSPECIFIED, 80);
        guest.net.serve_udp(Ipv6Addr::UNSPECIFIED, 90);
        let six = attachment.interfaces[1].ipv6.as_ref().unwrap().address;
        let four = attachment.interfaces[1].address;
        assert!(neighbour.net.ask_tcp(six, 80).is_some());
        assert!(neighbour.net.ask_tcp(four, 80).is_some());
        assert!(neighbour.net.ask_udp(six, 90).is_some());
        assert!(answers_ping(&neighbour.net, six));
        assert!(answers_ping(&neighbour.net, four));
        assert!(host.outside.ask_tcp(ipv6::HOST_OUTSIDE, 8080).is_some());
    });
}

#[test]
fn what_others_begin_is_answered_and_no_more() {
    on_host(|host| {
        services(host);
        let terms = ["deny"];
        let wanted = ruled(1, &terms, &["8080:80", "5353:53/udp"]);
        let attachment = host.driver().setup(&wanted).unwrap();
        let guest = Guest::boot(&attachment);
        guest.net.serve_tcp(Ipv4Addr::UNSPECIFIED, 80);
        guest.net.serve_udp(Ipv4Addr::UNSPECIFIED, 53);
        assert!(host.outside.ask_tcp(HOST_OUTSIDE, 8080).is_some());
        assert!(host.outside.ask_udp(HOST_OUTSIDE, 5353).is_some());
        assert!(host.net.ask_tcp(HOST_OUTSIDE, 8080).is_some());
        assert!(answers_ping(&host.net, attachment.interfaces[0].address));
        assert_eq!(report(&attachment, &terms).refused, 0);

        // Much data goes both ways, far more than one window.
        let listener = guest
            .net
            .run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 70)).unwrap());
        let echo = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            stream.write_all(&bytes).unwrap();
        });
        let address = attachment.interfaces[0].address;
        let back = host.net.run(|| {
            let mut stream = TcpStream::connect((address, 70)).unwrap();
            stream.write_all(&vec![7; 3 << 20]).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            bytes.len()
        });
        echo.join().unwrap();
        assert_eq!(back, 3 << 20);

        // From a port that was reached, nothing new begins: not to who reached it, and not to others.
        let reached_by = host.outside.run(|| {
            let stream = TcpStream::connect((HOST_OUTSIDE, 8080)).unwrap();
            stream.local_addr().unwrap().port()
        });
        let back_to = [(OUTSIDE, reached_by), (OUTSIDE, 80), (OTHER, 80)];
        for (to, port) in back_to {
            assert!(is_refused_at_once(&guest.net, to, port), "{to}:{port}");
        }
        assert_eq!(report(&attachment, &terms).refused, 3);
    });
}

#[test]
fn as_many_rules_as_there_can_be_are_set_and_hold() {
    on_host(|host| {
        services(host);
        let mut terms: Vec<String> = (0..190)
            .map(|number| {
                format!(
                    "deny=10.{number}.0.0/16:{}-{}",
                    1000 + number,
                    2000 + number
                )
            })
            .collect();
        terms.extend((0..64).map(|number| format!("allow=*.n{number}.example.org:80")));
        terms.extend([
            "allow=198.51.100.3:80".to_owned(),
            "deny=[2001:db8::/32]:80".to_owned(),
        ]);
        let terms: Vec<&str> = terms.iter().map(String::as_str).collect();
        let driver = host.driver();
        ipv6::define(&driver, "six", false);
        let wanted = Request {
            networks: vec!["default".parse().unwrap(), "six".parse().unwrap()],
            ..ruled(1, &terms, &[])
        };
        let attachment = driver.setup(&wanted).unwrap();
        let guest = Guest::boot(&attachment);
        assert!(guest.net.ask_tcp(OTHER, 80).is_some());
        assert!(is_refused_at_once(&guest.net, OTHER, 81));
        let report = report(&attachment, &terms);
        assert_eq!((report.rules.len(), report.refused), (256, 1));
        assert!(report.rules[254].matched > 0);
    });
}
