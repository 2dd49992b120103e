//! Two of the examples, as `cargo xtask examples` tries all of them: built, started, and asked for
//! what they serve.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use crate::live::Named;
use crate::service::free_port;
use crate::session;

/// How long a server may take to answer, under emulation.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the server of an example answers; builds and starts it.
fn answer(example: &'static str, port: u16, question: &[u8]) -> String {
    let session = session();
    let folder = format!("{}/../../examples/{example}", env!("CARGO_MANIFEST_DIR"));
    let image = format!("example/{example}:1");
    session.ok(&["build", "-t", &image, &folder]);
    let vm = Named::new(&session, example);
    let outside = free_port();
    let publish = format!("127.0.0.1:{outside}:{port}");
    session.ok(&[
        "run", "-d", "--name", vm.name, "--mem", "256", "-p", &publish, &image,
    ]);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = ask(outside, question).unwrap_or_default();
        if !answer.is_empty() {
            return String::from_utf8_lossy(&answer).into_owned();
        }
        assert!(
            Instant::now() < deadline,
            "no answer; its logs:\n{}",
            session.ok(&["logs", vm.name])
        );
        // Between two tries: a server that is not there yet cannot tell when it will be.
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn ask(port: u16, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(question)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

#[test]
fn a_static_site_is_served() {
    let question = b"GET / HTTP/1.1\r\nHost: example\r\nConnection: close\r\n\r\n";
    let page = answer("nginx", 80, question);
    assert!(page.starts_with("HTTP/1.1 200 OK"), "{page}");
    assert!(
        page.contains("A static site, served from a microVM"),
        "{page}"
    );
}

#[test]
fn a_database_answers() {
    assert_eq!(
        answer("redis", 6379, b"PING\r\nQUIT\r\n"),
        "+PONG\r\n+OK\r\n"
    );
}
