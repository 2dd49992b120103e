//! An attachment from set-up to take-down.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::rig::{Guest, HOST_OUTSIDE, OUTSIDE, nft, on_host, request, said};

#[test]
fn a_guest_reaches_the_world_and_nothing_is_left_of_it() {
    on_host(|host| {
        let driver = host.driver();
        let before = host.state();
        let attachment = driver
            .setup(&request(1, &["8080:80", "5353:53/udp"]))
            .unwrap();
        let during = host.state();
        let guest = Guest::boot(&attachment);
        let address = attachment.interfaces[0].address;

        host.outside.serve_tcp(OUTSIDE, 80);
        host.outside.serve_udp(OUTSIDE, 53);
        let masqueraded = Some(HOST_OUTSIDE.to_string());
        assert_eq!(guest.net.ask_tcp(OUTSIDE, 80), masqueraded);
        assert_eq!(guest.net.ask_udp(OUTSIDE, 53), masqueraded);

        guest.net.serve_tcp(Ipv4Addr::UNSPECIFIED, 80);
        guest.net.serve_udp(Ipv4Addr::UNSPECIFIED, 53);
        let gateway = Some(attachment.interfaces[0].gateway.unwrap().to_string());
        for published in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 1, 2, 3)] {
            assert_eq!(host.net.ask_tcp(published, 8080), gateway);
            assert_eq!(host.net.ask_udp(published, 5353), gateway);
        }
        assert_eq!(
            host.net.ask_tcp(HOST_OUTSIDE, 8080),
            Some(HOST_OUTSIDE.to_string())
        );
        assert_eq!(
            host.net.ask_udp(HOST_OUTSIDE, 5353),
            Some(HOST_OUTSIDE.to_string())
        );
        assert_eq!(
            host.outside.ask_tcp(HOST_OUTSIDE, 8080),
            Some(OUTSIDE.to_string())
        );
        assert_eq!(
            host.outside.ask_udp(HOST_OUTSIDE, 5353),
            Some(OUTSIDE.to_string())
        );
        assert!(host.outside.cannot_reach(address, 80), "not published so");

        drop(guest);
        drop(attachment);
        assert_ne!(during, before);
        driver.teardown(&request(1, &[]).id).unwrap();
        assert_eq!(host.state(), before);
        assert!(driver.known().unwrap().is_empty());
    });
}

#[test]
fn works_beside_a_firewall_that_drops_what_is_forwarded() {
    for (chain, script) in [
        (
            "filter_FORWARD",
            "table inet firewalld { chain filter_FORWARD { type filter hook forward priority 10; policy accept; reject with icmpx admin-prohibited\n}\n}\n",
        ),
        (
            "forward",
            "table inet filter { chain forward { type filter hook forward priority 0; policy drop; }\n}\n",
        ),
        (
            "DOCKER-USER",
            "table ip filter { chain DOCKER-USER { return\n}\nchain FORWARD { type filter hook forward priority 0; policy drop; jump DOCKER-USER\n}\n}\n",
        ),
    ] {
        on_host(|host| {
            nft(script);
            let before = host.state();
            let driver = host.driver();
            let attachment = driver.setup(&request(1, &["8080:80"])).unwrap();
            let second = driver.setup(&request(2, &[])).unwrap();
            let rules = said("nft", &["list", "ruleset"]);
            let marked = rules.matches("accept comment \"firebuild network firebuild\"");
            assert_eq!(marked.count(), 2, "{chain}: {rules}");
            let guest = Guest::boot(&attachment);
            host.outside.serve_tcp(OUTSIDE, 80);
            guest.net.serve_tcp(Ipv4Addr::UNSPECIFIED, 80);
            assert!(guest.net.ask_tcp(OUTSIDE, 80).is_some(), "{chain}");
            assert!(
                host.outside.ask_tcp(HOST_OUTSIDE, 8080).is_some(),
                "{chain}"
            );
            drop((guest, attachment, second));
            driver.teardown(&request(1, &[]).id).unwrap();
            driver.teardown(&request(2, &[]).id).unwrap();
            assert_eq!(host.state(), before, "{chain}");
        });
    }
}

/// Segments of TCP pass from the guest's device to the world, and back, without being cut to the
/// size of a frame on a wire in between, and every byte arrives.
#[test]
fn bulk_passes_unsegmented() {
    const BULK: usize = 64 << 20;
    on_host(|host| {
        let driver = host.driver();
        let attachment = driver.setup(&request(1, &["8080:80"])).unwrap();
        let guest = Guest::boot(&attachment);
        for (way, server, address, client, target) in [
            ("out", &host.outside, OUTSIDE, &guest.net, (OUTSIDE, 80)),
            (
                "in",
                &guest.net,
                Ipv4Addr::UNSPECIFIED,
                &host.outside,
                (HOST_OUTSIDE, 8080),
            ),
        ] {
            let listener = server.run(|| TcpListener::bind((address, 80)).unwrap());
            let receiver = std::thread::spawn(move || {
                let mut stream = listener.accept().unwrap().0;
                let (mut buffer, mut sum, mut length) = (vec![0; 1 << 20], 0_u64, 0);
                loop {
                    match stream.read(&mut buffer).unwrap() {
                        0 => return (length, sum),
                        read => {
                            length += read;
                            sum += buffer[..read]
                                .iter()
                                .map(|byte| u64::from(*byte))
                                .sum::<u64>();
                        }
                    }
                }
            });
            let started = Instant::now();
            let chunk: Vec<u8> = (0..1 << 20)
                .map(|n: u32| n.to_le_bytes()[1] ^ 0x5a)
                .collect();
            let mut stream = client.run(|| TcpStream::connect(target).unwrap());
            for _ in 0..BULK / chunk.len() {
                stream.write_all(&chunk).unwrap();
            }
            drop(stream);
            let each: u64 = chunk.iter().map(|byte| u64::from(*byte)).sum();
            let chunks = u64::try_from(BULK / chunk.len()).unwrap();
            assert_eq!(receiver.join().unwrap(), (BULK, each * chunks), "{way}");
            println!("{way}: {} MB in {:?}", BULK >> 20, started.elapsed());
        }
        let longest = guest.longest.load(Ordering::Relaxed);
        assert!(
            longest > 10_000,
            "the longest frame to the guest had {longest} bytes"
        );
    });
}
