//! Traces at a receiver that was written by others: Rotel, which prints what it understood.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::session;

/// How long it may take to start, or to print.
const PATIENCE: Duration = Duration::from_secs(60);

/// Rotel on a port of its own. It ends when it is dropped.
struct Rotel {
    child: Child,
    address: String,
    printed: Receiver<String>,
}

impl Rotel {
    fn start(directory: &Path) -> Self {
        let tools = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tools");
        let program: PathBuf = tools.join("rotel-0.0.1a15/rotel/rotel-agent");
        assert!(program.exists(), "`cargo xtask test` fetches Rotel once");
        let [address, other] = [(); 2].map(|()| free_address());
        let mut child = Command::new(program)
            .args(["start", "--exporter", "blackhole"])
            .args(["--otlp-grpc-endpoint", &address])
            .args(["--otlp-http-endpoint", &other])
            .args(["--debug-log", "traces", "--debug-log-verbosity", "detailed"])
            .current_dir(directory)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, printed) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // Nobody listens any more when the test is at its end.
                let _ = sender.send(line);
            }
        });
        let rotel = Self {
            child,
            address,
            printed,
        };
        let started = Instant::now();
        while TcpStream::connect(&rotel.address).is_err() {
            assert!(started.elapsed() < PATIENCE, "Rotel does not listen");
            // Nothing tells when it does.
            std::thread::sleep(Duration::from_millis(10));
        }
        rotel
    }

    /// The next line about a span's or the resource's, by its name and value.
    fn next(&self) -> Option<(String, String)> {
        let line = self.printed.recv_timeout(PATIENCE).unwrap();
        let line = line.trim().trim_start_matches("-> ");
        let (name, value) = line.split_once(':')?;
        Some((name.trim().to_owned(), value.trim().to_owned()))
    }

    /// What it prints of spans until one of each name was there, by their names.
    fn spans(&self, names: &[&str]) -> BTreeMap<String, BTreeMap<String, String>> {
        let mut spans = BTreeMap::<String, BTreeMap<String, String>>::new();
        let mut span = BTreeMap::new();
        while !names.iter().all(|name| spans.contains_key(*name)) {
            let Some((name, value)) = self.next() else {
                continue;
            };
            span.insert(name.clone(), value);
            // The last line that every span has.
            if name == "End time" {
                let mut span = std::mem::take(&mut span);
                spans.insert(span.remove("Name").unwrap(), span);
            }
        }
        spans
    }
}

impl Drop for Rotel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Nobody else takes it in the moment until it is used: ports are given in turn.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn a_receiver_of_others_understands_a_trace() {
    let (session, root) = session();
    let rotel = Rotel::start(root.path());
    session.write("context/file", "x");
    session.write(
        "context/Dockerfile",
        "FROM scratch AS one\nCOPY file /\nCOPY nothing /\n",
    );
    let said = session
        .run(&[
            "--tracing-enable",
            "--tracing-collector-host-port",
            &rotel.address,
            "build",
            "context",
        ])
        .failure();
    assert!(said.contains("nothing"), "{said}");
    let names = [
        "firebuild build",
        "stage one",
        "COPY file /",
        "COPY nothing /",
    ];
    let spans = rotel.spans(&names);
    let [command, stage, step, failed] = names.map(|name| &spans[name]);
    assert_eq!(command["service.name"], "Str(firebuild)");
    assert_eq!(command["Parent ID"], "");
    assert_eq!(stage["Parent ID"], command["ID"]);
    for step in [step, failed] {
        assert_eq!(step["Parent ID"], stage["ID"]);
        assert_eq!(step["Trace ID"], command["Trace ID"]);
        assert_eq!(step["Kind"], "SPAN_KIND_INTERNAL");
    }
    let time = |span: &BTreeMap<String, String>, which: &str| span[which].parse::<u64>().unwrap();
    assert!(time(command, "Start time") <= time(step, "Start time"));
    assert!(time(step, "End time") <= time(command, "End time"));
}
