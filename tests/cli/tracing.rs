//! Traces of commands.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::collector::{attributes, collector, spans};
use crate::session;
use crate::session::{Outcome, Session};

fn build(session: &Session, arguments: &[&str], variables: &[(&str, &str)]) -> Outcome {
    session.write("context/file", "x");
    session.write(
        "context/Dockerfile",
        "FROM scratch AS one\nCOPY file /\nCOPY file /two\n",
    );
    let mut all = vec!["build", "-t", "a"];
    all.extend(arguments);
    all.push("context");
    let mut command = session.command(&all);
    Outcome::of(command.envs(variables.iter().copied()))
}

#[test]
fn a_build_is_a_trace_of_its_stages_and_steps() {
    let (session, _root) = session();
    let (address, received) = collector();
    let flags = [
        "--tracing-enable",
        "--tracing-collector-host-port",
        &address,
    ];
    build(&session, &flags, &[]).success();
    let (resource, all) = spans(&received);
    assert_eq!(resource["service.name"], "firebuild");
    assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
    let named = |name: &str| all.iter().find(|span| span.name == name);
    let command = named("firebuild build").unwrap();
    assert!(command.parent_span_id.is_empty());
    assert!(command.status.is_none());
    let stage = named("stage one").unwrap();
    assert_eq!(stage.parent_span_id, command.span_id);
    let step = named("COPY file /").unwrap();
    assert_eq!(step.parent_span_id, stage.span_id);
    let told = attributes(&step.attributes);
    assert_eq!(told["firebuild.step.number"], "2");
    assert_eq!(told["firebuild.step.line"], "2");
    assert_eq!(told["firebuild.step.cached"], "false");
    assert!(stage.start_time_unix_nano <= step.start_time_unix_nano);
    assert!(command.start_time_unix_nano <= stage.start_time_unix_nano);
    assert!(stage.end_time_unix_nano <= command.end_time_unix_nano);
    build(&session, &flags, &[]).success();
    let (_, again) = spans(&received);
    let step = again
        .iter()
        .find(|span| span.name == "COPY file /")
        .unwrap();
    assert_eq!(
        attributes(&step.attributes)["firebuild.step.cached"],
        "true"
    );
    assert_ne!(again[0].trace_id, all[0].trace_id);
}

#[test]
fn the_environment_has_collector_name_and_parent() {
    let (session, _root) = session();
    let (address, received) = collector();
    let endpoint = format!("http://{address}");
    let mut command = session.command(&["inspect", "ghost"]);
    command
        .env("FIREBUILD_TRACING_ENABLE", "true")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)
        .env("OTEL_SERVICE_NAME", "ci")
        .env(
            "TRACEPARENT",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        );
    Outcome::of(&mut command).failure();
    let (resource, all) = spans(&received);
    assert_eq!(resource["service.name"], "ci");
    let [only] = &all[..] else {
        panic!("{all:?}");
    };
    assert_eq!(only.name, "firebuild inspect");
    assert_eq!(only.parent_span_id, 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
    assert_eq!(only.trace_id[..2], [0x4b, 0xf9]);
    let status = only.status.as_ref().unwrap();
    assert_eq!(status.code, 2);
    assert_eq!(status.message, "there is no VM `ghost`");
}

#[test]
fn nothing_is_sent_unless_it_is_wanted() {
    let (session, _root) = session();
    let (address, received) = collector();
    build(&session, &["--tracing-collector-host-port", &address], &[]).success();
    assert!(received.try_recv().is_err());
    let shown = session.run(&["--tracing-log-enable", "ls"]).success();
    assert!(
        shown.stderr.contains("`--tracing-log-enable` does nothing"),
        "{shown}"
    );
}

/// Who is not there, does not answer, or answers nonsense is warned of; the command is as ever.
#[test]
fn a_collector_never_holds_a_command_up() {
    let (session, _root) = session();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_at = silent.local_addr().unwrap().to_string();
    let nonsense = TcpListener::bind("127.0.0.1:0").unwrap();
    let nonsense_at = nonsense.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = nonsense.accept() {
            let _ = std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    for at in [&silent_at, &nonsense_at, &closed] {
        let began = Instant::now();
        let flags = [
            "ls",
            "--tracing-enable",
            "--tracing-collector-host-port",
            at,
        ];
        let shown = session.run(&flags).success();
        let expected = format!("warning: the spans could not be sent to `{at}`: ");
        assert!(shown.stderr.starts_with(&expected), "{shown}");
        assert!(shown.stdout.starts_with("ID"), "{shown}");
        assert!(began.elapsed() < Duration::from_secs(20), "{at}");
    }
    let mut command = session.command(&["ls", "--tracing-enable"]);
    let shown = Outcome::of(command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "https://a:1")).success();
    assert!(
        shown.stderr.starts_with("warning: nothing is traced: "),
        "{shown}"
    );
}
