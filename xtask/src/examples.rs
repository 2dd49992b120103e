//! Every folder of `examples/`, built, started in a microVM, and asked for what it serves.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::firebuild::Firebuild;
use crate::{packages, shell};

/// How long a server may take to answer, under emulation.
const PATIENCE: Duration = Duration::from_secs(300);

/// One example.
struct Example {
    /// Its folder.
    name: &'static str,
    /// The port that it listens on.
    port: u16,
    /// What is sent to it.
    question: &'static [u8],
    /// What its answer holds.
    answer: &'static str,
}

const HTTP: &[u8] = b"GET / HTTP/1.1\r\nHost: example\r\nConnection: close\r\n\r\n";

/// PostgreSQL's request for TLS; a server that is up answers it with one letter: no.
const POSTGRES: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 47];

const EXAMPLES: [Example; 6] = [
    example("nginx", 80, HTTP, "A static site, served from a microVM"),
    example("postgres", 5432, POSTGRES, "N"),
    example("redis", 6379, b"PING\r\nQUIT\r\n", "+PONG"),
    example("python", 8000, HTTP, "from a microVM"),
    example("node", 3000, HTTP, "from a microVM"),
    example("c", 8080, HTTP, "One static program, one microVM"),
];

const fn example(
    name: &'static str,
    port: u16,
    question: &'static [u8],
    answer: &'static str,
) -> Example {
    Example {
        name,
        port,
        question,
        answer,
    }
}

/// Builds, runs and asks those that are named, or all.
pub(crate) fn run(root: &Path, names: &[String]) -> anyhow::Result<()> {
    for name in names {
        ensure!(
            EXAMPLES.iter().any(|example| example.name == name),
            "there is no example `{name}`"
        );
    }
    let folders = fs_err::read_dir(root.join("examples"))?.count();
    ensure!(
        folders == EXAMPLES.len(),
        "a folder of `examples` is not in the list, or a listed one is not there"
    );
    packages::install(&packages::DEMO)?;
    let firebuild = Firebuild::built(root)?;
    firebuild.prepare()?;
    let chosen =
        |example: &&Example| names.is_empty() || names.iter().any(|name| name == example.name);
    for example in EXAMPLES.iter().filter(chosen) {
        let started = Instant::now();
        try_out(&firebuild, example).with_context(|| format!("example `{}`", example.name))?;
        let seconds = started.elapsed().as_secs_f64();
        shell::say(&format!(
            "{}: answered, {seconds:.1} s in all",
            example.name
        ));
    }
    Ok(())
}

fn try_out(firebuild: &Firebuild, example: &Example) -> anyhow::Result<()> {
    let image = format!("demo/{}:example", example.name);
    let vm = format!("example-{}", example.name);
    let folder = format!("examples/{}", example.name);
    firebuild.run(&["build", "--ca-certificates", "host", "-t", &image, &folder])?;
    // The port is the example's own, so that several can be tried by hand at once.
    let port = 20_000 + example.port;
    let publish = format!("127.0.0.1:{port}:{}", example.port);
    firebuild.run(&[
        "run", "-d", "--rm", "--name", &vm, "--mem", "512", "-p", &publish, &image,
    ])?;
    let asked = ask(example, SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    if asked.is_err() {
        firebuild.run(&["logs", &vm])?;
    }
    let stopped = firebuild.run(&["stop", &vm]);
    asked.and(stopped)
}

/// Asks until the server answers. One that is not there yet cannot tell when it will be, so this is
/// polled.
fn ask(example: &Example, address: SocketAddr) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = exchange(example.question, address).unwrap_or_default();
        let answer = String::from_utf8_lossy(&answer);
        if answer.contains(example.answer) {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!(
                "it did not answer within {} s: {answer:?}",
                PATIENCE.as_secs()
            );
        }
        // Between two tries of a poll.
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn exchange(question: &[u8], address: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(question)?;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    // Until the server closes, or has nothing more to say.
    while let Ok(read @ 1..) = stream.read(&mut piece) {
        answer.extend_from_slice(&piece[..read]);
        if answer.len() > 1 << 20 || question == POSTGRES {
            break;
        }
    }
    Ok(answer)
}
