//! Published ports: where they are reached, and who else wants them.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use firebuild_network::Error;

use crate::rig::{Guest, HOST_OUTSIDE, OUTSIDE, id, ip, on_host, request};

#[test]
fn one_address_or_one_device_only() {
    on_host(|host| {
        let driver = host.driver();
        let ports = [
            "127.0.0.1:8080:80",
            "wan0:8081:80",
            "198.51.100.1:5353:53/udp",
        ];
        let attachment = driver.setup(&request(1, &ports)).unwrap();
        let guest = Guest::boot(&attachment);
        guest.net.serve_tcp(Ipv4Addr::UNSPECIFIED, 80);
        guest.net.serve_udp(Ipv4Addr::UNSPECIFIED, 53);
        assert!(host.net.ask_tcp(Ipv4Addr::LOCALHOST, 8080).is_some());
        assert!(host.net.cannot_reach(HOST_OUTSIDE, 8080));
        assert!(host.outside.cannot_reach(HOST_OUTSIDE, 8080));
        assert!(host.net.cannot_reach(Ipv4Addr::LOCALHOST, 8081));
        assert!(host.net.ask_tcp(HOST_OUTSIDE, 8081).is_some());
        assert!(host.outside.ask_tcp(HOST_OUTSIDE, 8081).is_some());
        assert!(host.outside.ask_udp(HOST_OUTSIDE, 5353).is_some());
    });
}

#[test]
fn guests_reach_what_is_published_too() {
    on_host(|host| {
        let driver = host.driver();
        let one = driver.setup(&request(1, &["8080:80"])).unwrap();
        let two = driver.setup(&request(2, &[])).unwrap();
        let (first, second) = (Guest::boot(&one), Guest::boot(&two));
        first.net.serve_tcp(Ipv4Addr::UNSPECIFIED, 80);
        for bridged in [false, true] {
            host.pass_bridged_to_rules(bridged);
            for guest in [&first, &second] {
                let reached = |address| guest.net.ask_tcp(address, 8080).is_some();
                assert!(reached(one.interfaces[0].gateway.unwrap()), "{bridged}");
                assert!(reached(HOST_OUTSIDE), "{bridged}");
            }
        }
    });
}

#[test]
fn a_port_is_refused_as_long_as_nobody_serves_it() {
    on_host(|host| {
        let driver = host.driver();
        let attachment = driver.setup(&request(1, &["8080:80"])).unwrap();
        let guest = Guest::boot(&attachment);
        assert!(host.outside.cannot_reach(HOST_OUTSIDE, 8080));
        guest.net.serve_tcp(Ipv4Addr::UNSPECIFIED, 80);
        assert!(host.outside.ask_tcp(HOST_OUTSIDE, 8080).is_some());
    });
}

#[test]
fn nobody_else_gets_a_published_port() {
    on_host(|host| {
        let driver = host.driver();
        let attachment = driver
            .setup(&request(1, &["8080:80", "5353:53/udp"]))
            .unwrap();
        let tcp = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080));
        let udp = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 5353));
        assert!(tcp().is_err() && udp().is_err());
        // Until the attachment goes.
        drop(attachment);
        assert!(tcp().is_ok() && udp().is_ok());
    });
}

#[test]
fn a_port_of_another_vm_is_refused_by_name() {
    on_host(|host| {
        let driver = host.driver();
        let _one = driver
            .setup(&request(1, &["8080:80", "127.0.0.1:9000:90"]))
            .unwrap();
        let state = host.state();
        for (port, taken) in [
            ("8080:81", true),
            ("127.0.0.1:8080:80", true),
            ("9000:80", true),
            ("127.0.0.1:9000:80", true),
            ("127.0.0.2:9000:80", false),
            ("8080:80/udp", false),
        ] {
            let wanted = request(2, &[port]);
            match (driver.validate(&wanted), taken) {
                (Err(error @ Error::PortTaken { .. }), true) => {
                    let text = error.to_string();
                    assert!(text.contains(id(1).as_str()), "{text}");
                    assert!(error.hint().unwrap().contains("firebuild stop"), "{port}");
                    assert!(driver.setup(&wanted).is_err());
                }
                (Ok(()), false) => {}
                (other, _) => panic!("{port}: {other:?}"),
            }
            assert_eq!(host.state(), state, "{port}");
        }
    });
}

#[test]
fn a_port_of_the_host_is_refused_before_anything_is_made() {
    on_host(|host| {
        let driver = host.driver();
        let before = host.state();
        let _server = TcpListener::bind((Ipv4Addr::LOCALHOST, 8080)).unwrap();
        let _udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)).unwrap();
        for (port, error, hint) in [
            (
                "8080:80",
                "port `0.0.0.0:8080/tcp`",
                "`ss -lnp 'sport = 8080'`",
            ),
            (
                "127.0.0.1:8080:80",
                "port `127.0.0.1:8080/tcp`",
                "another port",
            ),
            ("53:53/udp", "port `0.0.0.0:53/udp`", "another port"),
            (
                "203.0.113.9:80:80",
                "port `203.0.113.9:80/tcp`",
                "no such address",
            ),
            ("none0:80:80", "network device `none0`", "ip -brief address"),
        ] {
            let refused = driver.setup(&request(1, &[port])).unwrap_err();
            let text = refused.to_string();
            assert!(text.contains(error), "{port}: {text}");
            let said = refused.hint().unwrap();
            assert!(said.contains(hint), "{port}: {said}");
            assert_eq!(host.state(), before, "{port}");
        }
        let twice = driver.setup(&request(1, &["8081:80", "127.0.0.1:8081:81"]));
        assert!(matches!(twice, Err(Error::PortTwice(_))));
        assert_eq!(host.state(), before);
        driver
            .setup(&request(1, &["127.0.0.2:8080:80", "53:53/tcp"]))
            .unwrap();
    });
}

/// A server that ended leaves connections that wait for stray packets; they hold nobody up.
#[test]
fn a_port_that_a_server_has_just_left_can_be_had() {
    on_host(|host| {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 8080)).unwrap();
        let client = std::net::TcpStream::connect(server.local_addr().unwrap()).unwrap();
        // The side that closes first is the one that waits.
        drop(server.accept().unwrap());
        let mut end = [0];
        assert_eq!(std::io::Read::read(&mut &client, &mut end).unwrap(), 0);
        drop((client, server));
        host.driver().setup(&request(1, &["8080:80"])).unwrap();
    });
}

/// A client of UDP that goes on sending from the same port must not stay with the VM that was, or
/// with nobody, for as long as the kernel remembers the flow.
#[test]
fn a_talkative_udp_client_finds_the_next_vm() {
    on_host(|host| {
        let driver = host.driver();
        let client = host
            .outside
            .run(|| UdpSocket::bind((OUTSIDE, 40_000)).unwrap());
        let patience = std::time::Duration::from_secs(5);
        client.set_read_timeout(Some(patience)).unwrap();
        // Before there is a VM: a flow to the host itself.
        client.send_to(b"?", (HOST_OUTSIDE, 5353)).unwrap();
        for number in 1..=2 {
            let attachment = driver.setup(&request(number, &["5353:53/udp"])).unwrap();
            let guest = Guest::boot(&attachment);
            guest.net.serve_udp(Ipv4Addr::UNSPECIFIED, 53);
            client.send_to(b"?", (HOST_OUTSIDE, 5353)).unwrap();
            let mut answer = [0; 100];
            let (length, _) = client.recv_from(&mut answer).expect("an answer");
            assert_eq!(answer[..length], *OUTSIDE.to_string().as_bytes());
            drop((guest, attachment));
            driver.teardown(&id(number)).unwrap();
        }
    });
}

#[test]
fn ports_come_back_after_a_firewall_was_restarted() {
    on_host(|host| {
        let driver = host.driver();
        let one = driver.setup(&request(1, &["8080:80"])).unwrap();
        crate::rig::nft("flush ruleset");
        let _two = driver.setup(&request(2, &[])).unwrap();
        let guest = Guest::boot(&one);
        guest.net.serve_tcp(Ipv4Addr::UNSPECIFIED, 80);
        assert!(host.outside.ask_tcp(HOST_OUTSIDE, 8080).is_some());
        host.outside.serve_tcp(OUTSIDE, 80);
        assert!(guest.net.ask_tcp(OUTSIDE, 80).is_some());
        // The host's own way to the guest does not depend on it.
        ip("route get 203.0.113.1");
    });
}

#[test]
fn a_free_port_is_found_where_none_is_named() {
    on_host(|host| {
        let driver = host.driver();
        // All but a few of the ports that the kernel would offer are in use.
        fs_err::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40007").unwrap();
        let _taken: Vec<TcpListener> = (40_000..40_004)
            .map(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap())
            .collect();
        let one = driver
            .setup(&request(1, &["80", "127.0.0.1:0:81", "40004:82"]))
            .unwrap();
        let listeners = &one.interfaces[0].listeners;
        let ports: Vec<u16> = listeners.iter().map(|it| it.host.get()).collect();
        assert!(
            ports[..2]
                .iter()
                .all(|port| (40_004..40_008).contains(port))
        );
        assert_ne!(ports[0], ports[1]);
        let guest = Guest::boot(&one);
        guest.net.serve_tcp(Ipv4Addr::UNSPECIFIED, 80);
        guest.net.serve_tcp(Ipv4Addr::UNSPECIFIED, 81);
        assert!(host.outside.ask_tcp(HOST_OUTSIDE, ports[0]).is_some());
        assert!(host.outside.cannot_reach(HOST_OUTSIDE, ports[1]));
        assert!(host.net.ask_tcp(Ipv4Addr::LOCALHOST, ports[1]).is_some());
    });
}
