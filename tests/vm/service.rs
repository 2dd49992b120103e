//! A VM that stays: its ports, its logs, its end.

use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use crate::live::{Live, Named};
use crate::traces::{assert_gone, id, traces};
use crate::{BASE, session};

const SERVER: &str = r#"
use IO::Socket::INET; use IO::Select;
$| = 1;
$SIG{TERM} = sub { print "bye\n"; exit 0 };
my $tcp = IO::Socket::INET->new(LocalPort => 7000, Listen => 5) or die "tcp: $!";
my $udp = IO::Socket::INET->new(LocalPort => 7001, Proto => "udp") or die "udp: $!";
print "ready\n";
my $both = IO::Select->new($tcp, $udp);
while (1) {
  for my $socket ($both->can_read) {
    if ($socket == $tcp) { my $peer = $tcp->accept; print $peer "tcp\n"; close $peer }
    else { $udp->recv(my $text, 100); $udp->send("udp $text") }
  }
}
"#;

/// A port of the host that nobody has at this moment.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn ask_tcp(port: u16) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn ask_udp(port: u16) -> String {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    socket
        .send_to(b"hello", (Ipv4Addr::LOCALHOST, port))
        .unwrap();
    let mut answer = [0; 100];
    let length = socket.recv(&mut answer).unwrap();
    String::from_utf8(answer[..length].to_vec()).unwrap()
}

#[test]
fn a_service_is_reached_and_stopped() {
    let session = session();
    let vm = Named::new(&session, "service");
    let (tcp, udp) = (free_port(), free_port());
    let tcp_flag = format!("127.0.0.1:{tcp}:7000");
    let udp_flag = format!("127.0.0.1:{udp}:7001/udp");
    let started = session.ok(&[
        "run", "-d", "--name", vm.name, "-p", &tcp_flag, "-p", &udp_flag, BASE, "--", "perl", "-e",
        SERVER,
    ]);
    let record = vm.inspect();
    let id = id(&record);
    assert_eq!(started.trim_end(), id);
    let path = &record["NetworkInterfaces"][0]["StaticConfiguration"]["IPConfiguration"]["IP"];
    let address: Ipv4Addr = path.as_str().unwrap().parse().unwrap();
    let mut logs = Live::start(&mut session.command(&["logs", "-f", vm.name]));
    logs.until("ready");
    assert_eq!(ask_tcp(tcp), "tcp\n");
    assert_eq!(ask_udp(udp), "udp hello");
    let listed = session.ok(&["ls"]);
    for part in [
        vm.name,
        BASE,
        "running",
        &address.to_string(),
        &tcp.to_string(),
    ] {
        assert!(listed.contains(part), "{part}: {listed}");
    }
    what_is_taken(&session, &vm, &tcp_flag);
    assert_ne!(traces(&session, &id), Vec::<String>::new());

    assert_eq!(session.ok(&["stop", vm.name]), "service\n");
    assert_gone(&session, &id);
    assert_eq!(logs.end(), (Some(0), "ready\nbye".to_owned()));
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, tcp)).is_err());
    let state = vm.inspect()["State"].clone();
    assert_eq!(
        state,
        serde_json::json!({"Status": "Stopped", "Exit": {"Status": 0}})
    );
    assert!(!session.ok(&["ls"]).contains(vm.name));
    assert!(session.ok(&["ls", "-a"]).contains(vm.name));
}

/// A name and a port that another VM has.
fn what_is_taken(session: &crate::session::Session, vm: &Named<'_>, port: &str) {
    let same_name = session.run(&["run", "-d", "--name", vm.name, BASE, "--", "true"]);
    let said = same_name.failure();
    assert!(said.contains("the name `service` is taken"), "{said}");
    let same_port = session.run(&["run", "--rm", "-p", port, BASE, "--", "true"]);
    let said = same_port.failure();
    assert!(
        said.contains("hint: ") && said.contains("firebuild stop"),
        "{said}"
    );
    assert_eq!(
        session
            .json(&["ls", "-a", "--format", "json"])
            .as_array()
            .unwrap()
            .len(),
        1
    );
}
