//! The name server of a VM: names of its networks, and the host's servers behind it.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use firebuild_network::{AGENT_ADDRESS, Attachment, Builtin, Network, Request};
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::rig::{Guest, Host, Net, OUTSIDE, id, ip, on_host, request};

/// What the world's server says of every name.
const WORLD: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);

/// A VM of these names in these networks.
pub(crate) fn called(number: u8, names: &[&str], networks: &[&str]) -> Request {
    Request {
        names: names.iter().map(|&name| name.to_owned()).collect(),
        networks: networks.iter().map(|text| text.parse().unwrap()).collect(),
        ..request(number, &[])
    }
}

/// Serves names to a VM, from the host, until the test's process ends.
pub(crate) fn serve(driver: &Builtin, number: u8, servers: &[IpAddr]) {
    let server = driver.name_server(&id(number), servers).unwrap();
    // The thread is in the host's namespace, as the test's own.
    thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(server.serve()).unwrap();
    });
}

/// A name server that answers as `told` has it, over both protocols.
pub(crate) fn name_server(net: &Net, address: Ipv4Addr, told: fn(&mut Message)) {
    let udp = net.run(|| UdpSocket::bind((address, 53)).unwrap());
    let tcp = net.run(|| TcpListener::bind((address, 53)).unwrap());
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, peer)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(&answered(&buffer[..length], told), peer);
        }
    });
    thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.unwrap();
            let answer = answered(&framed(&mut stream).unwrap(), told);
            let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
            let _ = stream.write_all(&[&length[..], &answer[..]].concat());
        }
    });
}

/// The answer to a question.
pub(crate) fn answered(question: &[u8], told: fn(&mut Message)) -> Vec<u8> {
    let mut message = Message::from_vec(question).unwrap().into_response();
    told(&mut message);
    message.to_vec().unwrap()
}

/// [`WORLD`], whatever the question is.
fn always_world(message: &mut Message) {
    let name = message.queries[0].name.clone();
    message.add_answer(Record::from_rdata(name, 60, RData::A(A(WORLD))));
}

fn framed(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

pub(crate) fn question(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.to_vec().unwrap()
}

/// What a guest hears: the answers as text, or the refusal.
fn heard(answer: &[u8]) -> Result<Vec<String>, ResponseCode> {
    let message = Message::from_vec(answer).unwrap();
    match message.metadata.response_code {
        ResponseCode::NoError => {
            let answers = message.answers.iter();
            Ok(answers.map(|record| record.data.to_string()).collect())
        }
        code => Err(code),
    }
}

pub(crate) fn ask(
    guest: &Guest,
    name: &str,
    kind: RecordType,
) -> Result<Vec<String>, ResponseCode> {
    guest.net.run(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let patience = Some(Duration::from_secs(20));
        socket.set_read_timeout(patience).unwrap();
        let server: SocketAddr = (AGENT_ADDRESS, 53).into();
        socket.send_to(&question(name, kind), server).unwrap();
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).expect("an answer");
        heard(&buffer[..length])
    })
}

pub(crate) fn a(guest: &Guest, name: &str) -> Result<Vec<String>, ResponseCode> {
    ask(guest, name, RecordType::A)
}

pub(crate) fn ask_tcp(guest: &Guest, name: &str) -> Result<Vec<String>, ResponseCode> {
    guest.net.run(|| {
        let mut stream = TcpStream::connect((AGENT_ADDRESS, 53)).unwrap();
        let question = question(name, RecordType::A);
        let length = u16::try_from(question.len()).unwrap().to_be_bytes();
        stream
            .write_all(&[&length[..], &question[..]].concat())
            .unwrap();
        heard(&framed(&mut stream).unwrap())
    })
}

pub(crate) fn define(driver: &Builtin, name: &str, internal: bool, ipv6: bool) {
    let mut network = Network::named(name.parse().unwrap());
    network.internal = internal;
    driver.create(network, ipv6).unwrap();
}

fn address(attachment: &Attachment, index: usize) -> String {
    attachment.interfaces[index].address.to_string()
}

pub(crate) fn one(text: impl ToString) -> Result<Vec<String>, ResponseCode> {
    Ok(vec![text.to_string()])
}

#[test]
fn vms_of_one_network_find_each_other_by_name() {
    on_host(|host| {
        name_server(&host.outside, OUTSIDE, always_world);
        let driver = host.driver();
        define(&driver, "front", false, true);
        define(&driver, "back", false, false);
        let web = driver
            .setup(&called(1, &["Web", "www"], &["front", "back"]))
            .unwrap();
        let db = driver.setup(&called(2, &["db"], &["back"])).unwrap();
        let cache = driver
            .setup(&called(3, &["cache.x", "db"], &["front"]))
            .unwrap();
        for number in 1..=3 {
            serve(&driver, number, &[]);
        }
        let (first, second) = (Guest::boot(&web), Guest::boot(&db));
        assert_eq!(web.interfaces[0].dns, [AGENT_ADDRESS]);
        assert_eq!(a(&second, "web."), one(address(&web, 1)));
        assert_eq!(a(&second, "WWW."), one(address(&web, 1)));
        assert_eq!(a(&second, "web.back."), one(address(&web, 1)));
        assert_eq!(ask_tcp(&second, "web.back."), one(address(&web, 1)));
        assert_eq!(a(&first, "cache.x."), one(address(&cache, 0)));
        assert_eq!(a(&first, "cache.x.front."), one(address(&cache, 0)));
        assert_eq!(a(&first, "db.back."), one(address(&db, 0)));
        assert_eq!(a(&first, "db.front."), one(address(&cache, 0)));
        assert_eq!(a(&first, "db.").unwrap().len(), 2);
        let six = cache.interfaces[0].ipv6.as_ref().unwrap().address;
        assert_eq!(ask(&first, "cache.x.", RecordType::AAAA), one(six));
        assert_eq!(ask(&second, "web.", RecordType::AAAA), Ok(Vec::new()));
        // Of another network: not known, and nobody else is asked.
        assert_eq!(a(&second, "cache."), Err(ResponseCode::NXDomain));
        assert_eq!(a(&second, "cache.x."), one(WORLD));

        let reversed = |address: &str| {
            let parts: Vec<&str> = address.split('.').rev().collect();
            format!("{}.in-addr.arpa.", parts.join("."))
        };
        let pointer = |guest, address: &str| ask(guest, &reversed(address), RecordType::PTR);
        assert_eq!(pointer(&second, &address(&web, 1)), one("web.back."));
        let nobody = Ipv4Addr::from(web.interfaces[1].address.to_bits() ^ 0x40).to_string();
        assert_eq!(pointer(&second, &nobody), Err(ResponseCode::NXDomain));

        // Names change while their VMs run, and go with them.
        driver.rename(&id(1), vec!["shop".to_owned()]).unwrap();
        assert_eq!(a(&second, "shop."), one(address(&web, 1)));
        assert_eq!(a(&second, "web."), Err(ResponseCode::NXDomain));
        driver.rename(&id(1), vec!["web".to_owned()]).unwrap();
        assert_eq!(a(&second, "web."), one(address(&web, 1)));
        driver.rename(&id(9), vec!["nobody".to_owned()]).unwrap();
        drop(first);
        driver.teardown(&id(1)).unwrap();
        assert_eq!(a(&second, "web."), Err(ResponseCode::NXDomain));
    });
}

#[test]
fn everything_else_is_asked_of_the_hosts_servers() {
    on_host(|host| {
        // A server that only the host itself reaches.
        fs_err::write(host.path("resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
        name_server(&host.net, Ipv4Addr::LOCALHOST, always_world);
        let driver = host.driver();
        let web = driver.setup(&called(1, &["web"], &["default"])).unwrap();
        serve(&driver, 1, &[]);
        let guest = Guest::boot(&web);
        assert_eq!(ask(&guest, "example.org.", RecordType::A), one(WORLD));
        assert_eq!(ask_tcp(&guest, "example.org."), one(WORLD));
        // The configuration may change while the VM runs; a server that says nothing is passed by.
        let silent = "198.51.100.77";
        let text = format!("nameserver {silent}\nnameserver {OUTSIDE}\n");
        fs_err::write(host.path("resolv.conf"), text).unwrap();
        name_server(&host.outside, OUTSIDE, always_world);
        host.outside
            .run(|| ip(&format!("address add {silent}/32 dev wan1")));
        assert_eq!(ask(&guest, "example.org.", RecordType::A), one(WORLD));
        fs_err::write(host.path("resolv.conf"), "").unwrap();
        let refused = ask(&guest, "example.org.", RecordType::A);
        assert_eq!(refused, Err(ResponseCode::ServFail));
    });
}

#[test]
fn other_servers_can_be_named() {
    on_host(|host| {
        fs_err::write(host.path("resolv.conf"), "").unwrap();
        name_server(&host.outside, OUTSIDE, always_world);
        let driver = host.driver();
        let web = driver.setup(&called(1, &["web"], &["default"])).unwrap();
        serve(&driver, 1, &[OUTSIDE.into()]);
        let guest = Guest::boot(&web);
        assert_eq!(ask(&guest, "example.org.", RecordType::A), one(WORLD));
    });
}

#[test]
fn an_internal_network_has_names_and_nothing_is_forwarded() {
    on_host(|host: &Host| {
        name_server(&host.outside, OUTSIDE, always_world);
        let driver = host.driver();
        define(&driver, "closed", true, false);
        let web = driver.setup(&called(1, &["web"], &["closed"])).unwrap();
        let db = driver.setup(&called(2, &["db"], &["closed"])).unwrap();
        serve(&driver, 1, &[]);
        let guest = Guest::boot(&web);
        assert_eq!(ask(&guest, "db.", RecordType::A), one(address(&db, 0)));
        let refused = ask(&guest, "secrets.example.org.", RecordType::A);
        assert_eq!(refused, Err(ResponseCode::Refused));
    });
}

/// A guest that sends anything, and much of it, is answered again as soon as it asks honestly.
#[test]
fn a_guest_that_floods_it_does_itself_no_harm() {
    on_host(|host| {
        // Nobody answers: every question waits its time.
        fs_err::write(host.path("resolv.conf"), "nameserver 198.51.100.77\n").unwrap();
        let driver = host.driver();
        let web = driver.setup(&called(1, &["web"], &["default"])).unwrap();
        serve(&driver, 1, &[]);
        let guest = Guest::boot(&web);
        guest.net.run(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            let server: SocketAddr = (AGENT_ADDRESS, 53).into();
            for number in 0..3000_u32 {
                let mut bytes = question(&format!("a{number}.example.org."), RecordType::A);
                if number % 3 == 0 {
                    bytes.truncate(usize::try_from(number).unwrap() % 30);
                }
                let _ = socket.send_to(&bytes, server);
            }
            // More connections than it takes at a time; those that wait are not waited for.
            let connect = |number: u64| {
                let patience = Duration::from_millis(if number == 0 { 20_000 } else { 300 });
                TcpStream::connect_timeout(&server, patience).ok()
            };
            let idle: Vec<TcpStream> = (0..30).map_while(connect).collect();
            assert!(!idle.is_empty());
        });
        let answered = (0..20).any(|_| {
            guest.net.run(|| {
                let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
                let patience = Some(Duration::from_secs(2));
                socket.set_read_timeout(patience).unwrap();
                let server: SocketAddr = (AGENT_ADDRESS, 53).into();
                let asked = question("web.", RecordType::A);
                socket.send_to(&asked, server).unwrap();
                let mut buffer = [0; 4096];
                let length = socket.recv(&mut buffer).ok();
                length.is_some_and(|length| heard(&buffer[..length]) == one(address(&web, 0)))
            })
        });
        assert!(answered);
    });
}
