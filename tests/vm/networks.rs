//! Networks, from inside of real VMs: names, IPv6, what each VM may reach, and what a hostile one gets.

use std::net::{Ipv4Addr, TcpListener};

use serde_json::Value;

use crate::live::{Live, Named};
use crate::session::{Outcome, Session};
use crate::{BASE, session};

/// A server for both kinds of addresses.
const SERVER: &str = r#"
use Socket;
$| = 1;
socket(my $tcp, PF_INET6, SOCK_STREAM, 0) or die "socket: $!";
setsockopt($tcp, 41, 26, 0);
bind($tcp, sockaddr_in6(7000, "\0" x 16)) or die "bind: $!";
listen($tcp, 8);
print "ready\n";
while (accept(my $peer, $tcp)) { syswrite($peer, "served\n"); close $peer }
"#;

/// A network that goes with the test.
struct Defined<'a> {
    session: &'a Session,
    name: String,
}

impl<'a> Defined<'a> {
    fn new(session: &'a Session, name: &str, flags: &[&str]) -> Self {
        let name = format!("{name}-{}", std::process::id());
        let create = [&["network", "create"], flags, &[&name]].concat();
        session.ok(&create);
        Self { session, name }
    }
}

impl Drop for Defined<'_> {
    fn drop(&mut self) {
        self.session.run(&["network", "rm", &self.name]);
    }
}

fn bash(vm: &Named<'_>, script: &str) -> Outcome {
    vm.session
        .run(&["exec", vm.name, "--", "bash", "-c", script])
}

/// What a VM reads from an address and a port, or that it cannot.
fn read(vm: &Named<'_>, place: &str) -> String {
    let script = format!("timeout 20 cat < /dev/tcp/{place} || echo refused");
    bash(vm, &script).stdout
}

fn interface(vm: &Named<'_>, index: usize) -> Value {
    vm.inspect()["NetworkInterfaces"][index].clone()
}

fn configuration<'v>(interface: &'v Value, what: &str) -> &'v str {
    let configuration = &interface["StaticConfiguration"];
    configuration.pointer(what).and_then(Value::as_str).unwrap()
}

/// Starts a VM in networks.
fn run(vm: &Named<'_>, networks: &[&Defined<'_>], options: &[&str], program: &[&str]) {
    let mut start = vec!["run", "-d", "--name", vm.name];
    for network in networks {
        start.extend(["--network", &network.name]);
    }
    let workload = [&[BASE, "--"], program].concat();
    vm.session.ok(&[&start, options, &workload].concat());
}

/// The addresses that a VM finds for a name.
fn addresses(vm: &Named<'_>, name: &str) -> String {
    bash(vm, &format!("getent ahosts {name}")).success().stdout
}

#[test]
fn names_and_egress_rules_hold_inside() {
    let session = session();
    let front = Defined::new(&session, "front", &["--internal"]);
    let back = Defined::new(&session, "back", &["--ipv6"]);
    let db = Named::new(&session, "db");
    let web = Named::new(&session, "web");
    run(&db, &[&back], &[], &["perl", "-e", SERVER]);
    Live::start(&mut session.command(&["logs", "-f", db.name])).until("ready");
    let rule = format!("allow={}:7000", db.name);
    let rules = ["--egress", &rule, "--egress", "deny=*:7001"];
    run(&web, &[&front, &back], &rules, &["sleep", "1000"]);
    let of_db = interface(&db, 0);
    let six = configuration(&of_db, "/IPConfiguration/IPv6/IP");
    let four = configuration(&of_db, "/IPConfiguration/IP");

    // Nothing is open before its name was asked for.
    assert_eq!(read(&web, &format!("{four}/7000")), "refused\n");
    let found = addresses(&web, db.name);
    assert!(found.contains(six) && found.contains(four), "{found}");
    for place in [db.name, four, six] {
        assert_eq!(read(&web, &format!("{place}/7000")), "served\n", "{place}");
        assert_eq!(read(&web, &format!("{place}/7001")), "refused\n", "{place}");
    }
    assert_eq!(bash(&web, "getent hosts example.org").status, 2);
    what_was_judged_is_counted(&web, &rule);
    a_new_name_is_known_at_once(&db, &web, four);
    what_rules_opened_ends_with_a_stop(&db, &web, four);
}

fn what_was_judged_is_counted(web: &Named<'_>, rule: &str) {
    let of_front = &interface(web, 0)["Egress"];
    let of_back = &interface(web, 1)["Egress"];
    assert_eq!(of_back["Default"], "deny");
    assert_eq!(of_back["Rules"][0]["Rule"], rule);
    for rule in [0, 1] {
        let matched = of_back["Rules"][rule]["Matched"].as_u64();
        assert!(matched >= Some(3), "{of_back}");
    }
    assert!(of_back["Refused"].as_u64() >= Some(4), "{of_back}");
    assert!(of_front["RefusedNames"].as_u64() >= Some(1), "{of_front}");
}

/// What the new one stands for was allowed by the old one only.
fn a_new_name_is_known_at_once(db: &Named<'_>, web: &Named<'_>, address: &str) {
    let new = format!("{}-2", db.name);
    db.session.ok(&["rename", db.name, &new]);
    let found = addresses(web, &new);
    assert!(found.contains(address), "{found}");
    assert_eq!(bash(web, &format!("getent ahosts {}", db.name)).status, 2);
    db.session.ok(&["rename", &new, db.name]);
}

fn what_rules_opened_ends_with_a_stop(db: &Named<'_>, web: &Named<'_>, address: &str) {
    web.session.ok(&["stop", "-t", "1", web.name]);
    let kept = &interface(web, 1)["Egress"];
    assert!(kept["Refused"].as_u64() >= Some(4), "{kept}");
    web.session.ok(&["start", web.name]);
    assert_eq!(interface(web, 1)["Egress"]["Refused"], 0);
    assert_eq!(read(web, &format!("{address}/7000")), "refused\n");
    assert_eq!(read(web, &format!("{}/7000", db.name)), "served\n");
}

#[test]
fn a_vm_without_a_network_has_its_metadata_and_its_agent() {
    let session = session();
    let script = r#"
exec 3<>/dev/tcp/169.254.169.254/80
printf 'PUT /latest/api/token HTTP/1.1\r\nHost: m\r\nX-metadata-token-ttl-seconds: 60\r\nConnection: close\r\n\r\n' >&3
timeout 20 head -1 <&3
(echo < /dev/tcp/198.18.77.1/22) 2>&1 | grep -o unreachable
ls /sys/class/net
"#;
    let ran = session.run(&[
        "run",
        "--rm",
        "--network",
        "none",
        BASE,
        "--",
        "bash",
        "-c",
        script,
    ]);
    let said = ran.success().stdout;
    assert!(said.contains("200 OK"), "{said}");
    assert!(said.contains("unreachable"), "{said}");
    assert!(said.contains("eth0"), "{said}");
}

/// Sends frames, given as hexadecimal digits, by the first device, and says for a while what comes from an
/// address.
const FORGER: &str = r#"
use Socket;
my ($from, @frames) = @ARGV;
socket(my $raw, 17, SOCK_RAW, unpack("S", pack("n", 3))) or die "socket: $!";
open my $number, "<", "/sys/class/net/eth0/ifindex"; chomp(my $index = <$number>);
my $to = pack("S n l S C C x8", 17, 3, $index, 0, 0, 6);
for (@frames) { defined(send($raw, pack("H*", $_), 0, $to)) or die "send: $!" }
my $end = time + 3;
while (time < $end) {
  my $ready = ""; vec($ready, fileno($raw), 1) = 1;
  next unless select($ready, undef, undef, 0.5);
  recv($raw, my $frame, 2000, 0);
  my ($kind, $source) = unpack("x12 n x12 H8", $frame);
  print "answer from $from\n" if $kind == 0x800 && $source eq $from;
}
print "sent\n";
"#;

/// Says from whom datagrams came.
const LISTENER: &str = r#"
use IO::Socket::INET;
$| = 1;
my $udp = IO::Socket::INET->new(LocalPort => 7000, Proto => "udp") or die "udp: $!";
print "ready\n";
while (defined $udp->recv(my $text, 100)) { print "heard $text from ", $udp->peerhost, "\n" }
"#;

/// A frame with a packet of IPv4.
fn frame(hardware: [[u8; 6]; 2], addresses: [Ipv4Addr; 2], protocol: u8, payload: &[u8]) -> String {
    let [from, to] = addresses.map(|address| address.octets());
    let [source, target] = hardware;
    let length = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let mut header = [
        &[0x45, 0][..],
        &length,
        &[0, 0, 0, 0, 64, protocol, 0, 0],
        &from,
        &to,
    ]
    .concat();
    let sum: u32 = header
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let [.., high, low] = (!((sum & 0xffff) + (sum >> 16))).to_be_bytes();
    header[10..12].copy_from_slice(&[high, low]);
    let frame = [&target[..], &source, &[8, 0], &header, payload].concat();
    frame.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A datagram to port 7000, without a checksum.
fn datagram(text: &str) -> Vec<u8> {
    let length = u16::try_from(8 + text.len()).unwrap().to_be_bytes();
    let ports = [&9000_u16.to_be_bytes()[..], &7000_u16.to_be_bytes()].concat();
    [&ports[..], &length, &[0, 0], text.as_bytes()].concat()
}

fn octets(mac: &str) -> [u8; 6] {
    let octets: Vec<u8> = mac
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16).unwrap())
        .collect();
    octets.try_into().unwrap()
}

/// A device that a VM has, as its neighbours see it.
#[derive(Clone, Copy)]
struct Seen {
    hardware: [u8; 6],
    address: Ipv4Addr,
}

impl Seen {
    fn of(interface: &Value) -> Self {
        let address = configuration(interface, "/IPConfiguration/IP");
        Self {
            hardware: octets(configuration(interface, "/MacAddress")),
            address: address.parse().unwrap(),
        }
    }
}

/// The host's address by which a VM's agent is answered.
const AGENT: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 253);

/// What somebody sends who would be somebody else, and at last something honest.
fn forged(own: Seen, victim: Seen, gateway: Ipv4Addr) -> [String; 5] {
    let (from, to) = (own.hardware, victim.hardware);
    let (me, at) = (own.address, victim.address);
    let mut other = from;
    other[5] ^= 1;
    // A beginning of a connection to the agent's server, at the victim's device.
    let syn = [
        &[0x23, 0x28, 0, 53][..],
        &[0; 8],
        &[0x50, 2, 0xff, 0xff, 0, 0, 0, 0],
    ]
    .concat();
    [
        frame([from, to], [gateway, at], 17, &datagram("as the gateway")),
        frame([other, to], [me, at], 17, &datagram("by other hardware")),
        frame([to, to], [at, at], 17, &datagram("as the victim")),
        frame([from, to], [me, AGENT], 6, &syn),
        frame([from, to], [me, at], 17, &datagram("honestly")),
    ]
}

/// What was written into a VM's own devices cannot be anybody else's; and what is the host's stays there.
#[test]
fn a_hostile_vm_is_nobody_else_and_reaches_nothing_of_the_hosts() {
    let session = session();
    let victim = Named::new(&session, "victim");
    let hostile = Named::new(&session, "hostile");
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    run(&victim, &[], &[], &["perl", "-e", LISTENER]);
    run(&hostile, &[], &[], &["sleep", "1000"]);
    let mut logs = Live::start(&mut session.command(&["logs", "-f", victim.name]));
    logs.until("ready");
    let own = interface(&hostile, 0);
    let gateway = configuration(&own, "/IPConfiguration/Gateway");
    let gateway: Ipv4Addr = gateway.parse().unwrap();
    let (own, seen) = (Seen::of(&own), Seen::of(&interface(&victim, 0)));
    let frames = forged(own, seen, gateway);
    let agents = AGENT.octets().map(|octet| format!("{octet:02x}")).concat();
    let mut exec = vec!["exec", hostile.name, "--", "perl", "-e", FORGER, &agents];
    exec.extend(frames.iter().map(String::as_str));
    assert_eq!(session.ok(&exec), "sent\n");
    logs.until("honestly");
    let heard = logs.seen.iter().filter(|line| line.contains("heard"));
    let heard: Vec<&String> = heard.collect();
    assert_eq!(heard, [&format!("heard honestly from {}", own.address)]);

    // What listens on all addresses of the host is not for guests, whichever address they take.
    for place in [gateway, seen.address] {
        let script = format!("timeout 5 cat < /dev/tcp/{place}/{port} || echo refused");
        assert_eq!(bash(&hostile, &script).stdout, "refused\n", "{place}");
    }
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "somebody came");
}
