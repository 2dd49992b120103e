//! `metrics`: what Prometheus' own reader makes of it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use crate::session;

/// Reads the text with Prometheus' library for Python, and prints what it found.
const JUDGE: &str = "\
import sys
from prometheus_client.parser import text_string_to_metric_families as read
for family in read(sys.stdin.read()):
    assert family.documentation, family.name
    for sample in family.samples:
        print(family.type, sample.name, sorted(sample.labels.items()), sample.value)
";

/// What the judge finds in a text.
pub(crate) fn judged(text: &str) -> String {
    let mut judge = Command::new("/usr/bin/python3")
        .args(["-c", JUDGE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = judge.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    let output = judge.wait_with_output().unwrap();
    assert!(output.status.success(), "{text}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_store_is_told_in_numbers() {
    let (session, _root) = session();
    session.write("context/file", "x");
    let built = session.build("FROM scratch\nCOPY file /\n", &["-t", "a"]);
    built.success();
    let found = judged(&session.ok(&["metrics"]));
    for expected in [
        "gauge firebuild_vms [] 0.0",
        "gauge firebuild_store_entries [('category', 'images')] 1.0",
        "gauge firebuild_store_entries [('category', 'kernels')] 0.0",
        "gauge firebuild_info [('version', ",
        "gauge firebuild_store_free_bytes [] ",
    ] {
        assert!(found.contains(expected), "{expected}: {found}");
    }
}

/// What a server answers; it closes the connection.
fn asked(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_same_is_served() {
    let (session, _root) = session();
    let mut server = session
        .command(&["metrics", "--serve=127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let address = line.trim().strip_prefix("http://").unwrap();
    let address = address.strip_suffix("/metrics").unwrap();
    let idle = TcpStream::connect(address).unwrap();
    let answer = asked(address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    assert!(judged(body).contains("firebuild_vms"), "{body}");
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        (
            "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
            "405",
        ),
        ("nonsense\r\n\r\n", "400"),
        (
            &format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000)),
            "4",
        ),
    ] {
        let answer = asked(address, request);
        let expected = format!("HTTP/1.1 {status}");
        assert!(
            answer.starts_with(&expected),
            "{request:.40}: {answer:.200}"
        );
    }
    drop(idle);
    let pid = rustix::process::Pid::from_child(&server);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(server.wait().unwrap().success());
}

#[test]
fn an_address_that_is_taken_is_told() {
    let (session, _root) = session();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let shown = session
        .run(&["metrics", &format!("--serve={address}")])
        .failure();
    let expected = format!("error: cannot listen at `{address}`\n");
    assert!(shown.starts_with(&expected), "{shown}");
}
