//! Egress rules on real namespaces: what passes, what is refused, and that it is counted.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use firebuild_network::{
    AGENT_ADDRESS, Attachment, Egress, EgressReport, METADATA_ADDRESS, Realm, Request,
};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::dns::{a, ask, ask_tcp, called, define, framed, one, question, serve};
use crate::frame::{Port, ethernet, ipv4};
use crate::ipv6;
use crate::rig::{Guest, HOST_OUTSIDE, Host, Net, OUTSIDE, id, ip, on_host, request, said};

/// Another address outside.
const OTHER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 3);

fn egress(terms: &[&str]) -> Egress {
    Egress::of(terms.iter().map(|term| term.parse().unwrap())).unwrap()
}

/// A VM with these rules.
fn ruled(number: u8, terms: &[&str], ports: &[&str]) -> Request {
    Request {
        egress: egress(terms),
        ..request(number, ports)
    }
}

fn reports(attachment: &Attachment, terms: &[&str]) -> Vec<EgressReport> {
    let wires = attachment.interfaces.len();
    let namespace = &attachment.namespace;
    let reports = egress(terms).reports(&Realm::default(), namespace, wires);
    reports.unwrap().into_iter().map(Option::unwrap).collect()
}

fn report(attachment: &Attachment, terms: &[&str]) -> EgressReport {
    reports(attachment, terms).swap_remove(0)
}

fn matched(report: &EgressReport) -> Vec<bool> {
    report.rules.iter().map(|rule| rule.matched > 0).collect()
}

/// Whether a TCP connection is refused, and not just left without an answer.
fn is_refused_at_once(net: &Net, address: impl Into<IpAddr>, port: u16) -> bool {
    let address = SocketAddr::new(address.into(), port);
    net.run(|| {
        let error = TcpStream::connect_timeout(&address, Duration::from_secs(20)).unwrap_err();
        error.kind() != std::io::ErrorKind::TimedOut
    })
}

fn answers_ping(net: &Net, address: impl Into<IpAddr>) -> bool {
    let address = address.into().to_string();
    net.run(|| {
        let mut ping = std::process::Command::new("ping");
        let output = ping.args(["-c1", "-W2", &address]).output();
        output.expect("the program ping").status.success()
    })
}

/// The outside, with a second address and some services on both.
fn services(host: &Host) {
    let outside = &host.outside;
    outside.run(|| ip(&format!("address add {OTHER}/32 dev wan1")));
    for address in [OUTSIDE, OTHER] {
        for port in [80, 81] {
            outside.serve_tcp(address, port);
            outside.serve_udp(address, port);
        }
    }
}

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

/// A name server outside: what it says follows from the name.
fn names(net: &Net, address: Ipv4Addr) {
    let udp = net.run(|| UdpSocket::bind((address, 53)).unwrap());
    let tcp = net.run(|| TcpListener::bind((address, 53)).unwrap());
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, peer)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(&told(&buffer[..length]), peer);
        }
    });
    thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.unwrap();
            let answer = told(&framed(&mut stream).unwrap());
            let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
            let _ = stream.write_all(&[&length[..], &answer[..]].concat());
        }
    });
}

fn told(question: &[u8]) -> Vec<u8> {
    let mut message = Message::from_vec(question).unwrap().into_response();
    let name = message.queries[0].name.clone();
    let is_six = message.queries[0].query_type == RecordType::AAAA;
    let v4 = |address: Ipv4Addr| RData::A(A(address));
    let text = name.to_string().to_ascii_lowercase();
    let mut say = |name: &Name, data| {
        message.add_answer(Record::from_rdata(name.clone(), 5, data));
    };
    match text.as_str() {
        "www.example.org." => {
            let alias = Name::from_ascii("cdn.example.net.").unwrap();
            say(&name, RData::CNAME(CNAME(alias.clone())));
            say(
                &alias,
                if is_six {
                    RData::AAAA(AAAA(ipv6::OUTSIDE))
                } else {
                    v4(OTHER)
                },
            );
            // What nobody asked for.
            say(&Name::from_ascii("example.com.").unwrap(), v4(OUTSIDE));
        }
        // Addresses that a name must not open, and one that it may.
        "evil.example.org." => {
            for address in [METADATA_ADDRESS, AGENT_ADDRESS, HOST_OUTSIDE, OTHER] {
                say(&name, v4(address));
            }
            let inward = text_inward();
            inward
                .into_iter()
                .for_each(|address| say(&name, v4(address)));
        }
        _ if text.ends_with(".many.example.org.") => {
            let first = text.split('.').next().unwrap().parse::<u32>().unwrap();
            for number in 0..200 {
                say(
                    &name,
                    v4(Ipv4Addr::from_bits(0xcb00_0000 + first * 1000 + number)),
                );
            }
        }
        _ => say(&name, v4(OUTSIDE)),
    }
    message.to_vec().unwrap()
}

/// The first addresses of the network `default`: its gateway and guests.
fn text_inward() -> Vec<Ipv4Addr> {
    (1..=5)
        .map(|last| Ipv4Addr::new(10, 77, 208, last))
        .collect()
}

fn elements(attachment: &Attachment, set: &str) -> String {
    let inside = Net::at(attachment.namespace.path());
    inside.run(|| said("nft", &["list", "set", "netdev", "firebuild", set]))
}

#[test]
fn a_name_opens_what_the_vms_own_name_server_says() {
    on_host(|host| {
        services(host);
        names(&host.outside, OUTSIDE);
        let driver = host.driver();
        let terms = [
            "deny=ads.example.org",
            "allow=*.example.org:80",
            "allow=198.51.100.2:81",
            "allow=*.example.org:82",
        ];
        let attachment = driver.setup(&ruled(1, &terms, &[])).unwrap();
        serve(&driver, 1, &[]);
        let guest = Guest::boot(&attachment);
        let refused = Err(ResponseCode::Refused);
        assert!(
            is_refused_at_once(&guest.net, OTHER, 80),
            "nobody has asked yet"
        );

        let answer = a(&guest, "WWW.example.org.").unwrap();
        assert!(answer.contains(&OTHER.to_string()), "{answer:?}");
        assert!(guest.net.ask_tcp(OTHER, 80).is_some());
        assert!(guest.net.ask_udp(OTHER, 80).is_some());
        assert!(is_refused_at_once(&guest.net, OTHER, 81));
        assert!(
            is_refused_at_once(&guest.net, OUTSIDE, 80),
            "told of another name"
        );
        assert_eq!(a(&guest, "ads.example.org."), refused);
        assert_eq!(a(&guest, "example.org."), refused);
        assert_eq!(ask_tcp(&guest, "secrets.evil.example.com."), refused);
        assert_eq!(
            ask(&guest, "2.100.51.198.in-addr.arpa.", RecordType::PTR),
            refused
        );
        // The counters are written a moment later.
        let patience = Instant::now() + Duration::from_secs(20);
        let counted = loop {
            let report = report(&attachment, &terms);
            if report.refused_names == 4 || Instant::now() > patience {
                break report;
            }
            thread::sleep(Duration::from_millis(50));
        };
        assert_eq!((counted.refused_names, counted.rules[0].matched), (4, 1));
        assert_eq!(counted.refused, 3);
        assert_eq!(matched(&counted), [true, true, false, false]);

        // What has expired begins no more; what has begun goes on.
        let listed = elements(&attachment, "names4_1");
        assert!(listed.contains("198.51.100.3 expires"), "{listed}");
        let echo = host.outside.run(|| TcpListener::bind((OTHER, 82)).unwrap());
        let echo = thread::spawn(move || {
            let (mut stream, _) = echo.accept().unwrap();
            let mut text = [0; 5];
            stream.read_exact(&mut text).unwrap();
            stream.write_all(&text).unwrap();
        });
        let mut begun = guest.net.run(|| TcpStream::connect((OTHER, 82)).unwrap());
        for rule in [1, 3] {
            let set = format!("names4_{rule}");
            Net::at(attachment.namespace.path())
                .run(|| said("nft", &["flush", "set", "netdev", "firebuild", &set]));
        }
        assert!(is_refused_at_once(&guest.net, OTHER, 80));
        assert!(is_refused_at_once(&guest.net, OTHER, 82));
        let patience = Some(Duration::from_secs(20));
        begun.set_read_timeout(patience).unwrap();
        begun.write_all(b"go on").unwrap();
        let mut text = String::new();
        begun.read_to_string(&mut text).unwrap();
        assert_eq!(text, "go on");
        echo.join().unwrap();
    });
}

#[test]
fn a_name_opens_addresses_of_ipv6_and_those_of_neighbours() {
    on_host(|host| {
        services(host);
        ipv6::outside(host);
        host.outside.serve_tcp(ipv6::OUTSIDE, 80);
        names(&host.outside, OUTSIDE);
        let driver = host.driver();
        define(&driver, "six", false, true);
        let terms = ["allow=www.example.org", "allow=db:5432"];
        let web = Request {
            egress: egress(&terms),
            ..called(1, &["web"], &["six"])
        };
        let web = driver.setup(&web).unwrap();
        let db = driver.setup(&called(2, &["db"], &["six"])).unwrap();
        serve(&driver, 1, &[]);
        let (guest, neighbour) = (Guest::boot(&web), Guest::boot(&db));
        for port in [5432, 22] {
            neighbour.net.serve_tcp(Ipv6Addr::UNSPECIFIED, port);
        }
        assert!(is_refused_at_once(&guest.net, ipv6::OUTSIDE, 80));
        let told = ask(&guest, "www.example.org.", RecordType::AAAA).unwrap();
        assert!(told.contains(&ipv6::OUTSIDE.to_string()), "{told:?}");
        assert!(guest.net.ask_tcp(ipv6::OUTSIDE, 80).is_some());
        assert!(answers_ping(&guest.net, ipv6::OUTSIDE), "no port was named");

        let four = db.interfaces[0].address;
        let six = ipv6::address(&db);
        assert!(guest.net.cannot_reach(four, 5432));
        assert_eq!(a(&guest, "db."), one(four));
        assert_eq!(ask(&guest, "db.", RecordType::AAAA), one(six));
        assert!(guest.net.ask_tcp(four, 5432).is_some());
        assert!(guest.net.ask_tcp(six, 5432).is_some());
        assert!(is_refused_at_once(&guest.net, four, 22));
        assert!(is_refused_at_once(&guest.net, six, 22));
    });
}

#[test]
fn other_name_servers_are_for_who_allows_their_port() {
    on_host(|host| {
        services(host);
        names(&host.outside, OUTSIDE);
        names(&host.outside, OTHER);
        let driver = host.driver();
        // The rest passes, but for name servers: what they say would open nothing.
        let terms = [
            "deny=ads.example.org",
            "allow=198.51.100.3:53/udp",
            "allow=www.example.org",
            "allow",
        ];
        let attachment = driver.setup(&ruled(1, &terms, &[])).unwrap();
        serve(&driver, 1, &[]);
        let guest = Guest::boot(&attachment);
        assert!(guest.net.ask_tcp(OUTSIDE, 80).is_some());
        assert!(is_refused_at_once(&guest.net, OUTSIDE, 53));
        assert_eq!(report(&attachment, &terms).refused, 1);
        let by_udp = |server: Ipv4Addr| {
            guest.net.run(|| {
                let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
                socket
                    .set_read_timeout(Some(Duration::from_secs(2)))
                    .unwrap();
                let asked = question("ads.example.org.", RecordType::A);
                socket.send_to(&asked, (server, 53)).unwrap();
                socket.recv(&mut [0; 4096]).is_ok()
            })
        };
        assert!(by_udp(OTHER));
        assert!(!by_udp(OUTSIDE));
        assert_eq!(report(&attachment, &terms).refused, 2);
        // Its own is asked, and a name without a port opens no other name server.
        assert!(a(&guest, "www.example.org.").is_ok());
        assert_eq!(a(&guest, "ads.example.org."), Err(ResponseCode::Refused));
        assert!(is_refused_at_once(&guest.net, OTHER, 53));
    });
}

#[test]
fn what_a_hostile_name_says_opens_nothing_of_the_hosts_and_is_bounded() {
    on_host(|host| {
        services(host);
        names(&host.outside, OUTSIDE);
        let driver = host.driver();
        let terms = ["allow=*.example.org"];
        let attachment = driver.setup(&ruled(1, &terms, &[])).unwrap();
        let neighbour = driver.setup(&request(2, &["8080:80"])).unwrap();
        serve(&driver, 1, &[]);
        let (guest, neighbour_guest) = (Guest::boot(&attachment), Guest::boot(&neighbour));
        neighbour_guest.net.serve_tcp(Ipv4Addr::UNSPECIFIED, 80);
        assert!(text_inward().contains(&neighbour.interfaces[0].address));
        assert_eq!(a(&guest, "evil.example.org.").unwrap().len(), 9);
        let listed = elements(&attachment, "names4_0");
        assert_eq!(listed.matches("expires").count(), 1, "{listed}");
        assert!(listed.contains(&OTHER.to_string()), "{listed}");
        assert!(is_refused_at_once(&guest.net, HOST_OUTSIDE, 8080));
        assert!(is_refused_at_once(
            &guest.net,
            neighbour.interfaces[0].address,
            80
        ));

        for number in 0..8 {
            let name = format!("{number}.many.example.org.");
            assert_eq!(ask_tcp(&guest, &name).unwrap().len(), 200);
        }
        let listed = elements(&attachment, "names4_0");
        assert_eq!(listed.matches("expires").count(), 512);
        // Answers that nobody asked for, from a neighbour who says that he is a name server.
        let own = attachment.interfaces[0].address;
        neighbour_guest.net.run(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)).unwrap();
            let forged = told(&question("www.example.org.", RecordType::A));
            socket.send_to(&forged, (own, 53)).unwrap();
        });
        // Nor does it help to send some to one's own name server.
        guest.net.run(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            let forged = told(&question("x.example.org.", RecordType::A));
            socket.send_to(&forged, (AGENT_ADDRESS, 53)).unwrap();
        });
        assert!(a(&guest, "evil.example.org.").is_ok());
        assert!(is_refused_at_once(&guest.net, OUTSIDE, 80));
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
