//! Rules by name: what the VM's own name server says opens addresses.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use firebuild_network::{AGENT_ADDRESS, Attachment, METADATA_ADDRESS, Request};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::{OTHER, answers_ping, egress, is_refused_at_once, matched, report, ruled, services};
use crate::dns::{a, answered, ask, ask_tcp, called, define, name_server, one, question, serve};
use crate::ipv6;
use crate::rig::{Guest, HOST_OUTSIDE, Net, OUTSIDE, on_host, request, said};

/// What the name server outside says, which follows from the name.
fn told(message: &mut Message) {
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
        name_server(&host.outside, OUTSIDE, told);
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
        name_server(&host.outside, OUTSIDE, told);
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
        name_server(&host.outside, OUTSIDE, told);
        name_server(&host.outside, OTHER, told);
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
        name_server(&host.outside, OUTSIDE, told);
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
            let forged = answered(&question("www.example.org.", RecordType::A), told);
            socket.send_to(&forged, (own, 53)).unwrap();
        });
        // Nor does it help to send some to one's own name server.
        guest.net.run(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            let forged = answered(&question("x.example.org.", RecordType::A), told);
            socket.send_to(&forged, (AGENT_ADDRESS, 53)).unwrap();
        });
        assert!(a(&guest, "evil.example.org.").is_ok());
        assert!(is_refused_at_once(&guest.net, OUTSIDE, 80));
    });
}
