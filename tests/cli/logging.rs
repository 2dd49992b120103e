//! firebuild's own talk: as JSON lines, and as much of it as is wanted.

use serde_json::Value;

use crate::server::{Answer, Server};
use crate::session;
use crate::session::{Outcome, Session};

/// The lines of standard error, each of which has to be a JSON object with level, time and message.
fn lines(shown: &Outcome) -> Vec<Value> {
    let lines = shown.stderr.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        let time = line["time"].as_str().unwrap();
        assert!(time.ends_with('Z') && time.contains('T'), "{line}");
        assert!(
            line["message"].is_string() && line["level"].is_string(),
            "{line}"
        );
        line
    });
    lines.collect()
}

fn built(session: &Session, arguments: &[&str]) -> Outcome {
    session.write("context/file", "x");
    // The name of the stage is warned about.
    session
        .build("FROM scratch AS B\nCOPY file /\n", arguments)
        .success()
}

#[test]
fn errors_have_their_causes_and_hints() {
    let (session, _root) = session();
    let cases: [(&[&str], &str); 4] = [
        (&["inspect", "ghost"], "there is no VM `ghost`"),
        (&["frobnicate"], "unrecognized subcommand 'frobnicate'"),
        (
            &["run", "--mem", "lots", "a"],
            "invalid value 'lots' for '--mem <MIB>'",
        ),
        (&["ls", "--profile", "none"], "there is no profile `none`"),
    ];
    for (arguments, message) in cases {
        let mut all = vec!["--log-as-json"];
        all.extend(arguments);
        let shown = session.run(&all);
        assert_eq!(shown.status, 125, "{shown}");
        let lines = lines(&shown);
        let [line] = &lines[..] else {
            panic!("{shown}");
        };
        assert_eq!(line["level"], "error");
        let said = line["message"].as_str().unwrap();
        assert!(said.starts_with(message), "{said}");
    }
    let mut command = session.command(&["inspect", "ghost"]);
    let shown = Outcome::of(command.env("FIREBUILD_LOG_AS_JSON", "true"));
    assert_eq!(lines(&shown)[0]["hint"], "see `firebuild ls -a`");
    let mut command = session.command(&["frobnicate"]);
    let shown = Outcome::of(command.env("FIREBUILD_LOG_AS_JSON", "true"));
    lines(&shown);
    let shown = session.run(&["--log-as-json", "images", "--root", "/dev/null/x"]);
    let told = lines(&shown);
    let causes = told.last().unwrap()["causes"].as_array().unwrap();
    assert!(!causes.is_empty(), "{shown}");
}

#[test]
fn what_a_build_says_is_one_object_a_line() {
    let (session, _root) = session();
    let shown = built(
        &session,
        &["--log-as-json", "--progress", "plain", "-t", "a"],
    );
    let lines = lines(&shown);
    let levels = |level: &str| lines.iter().filter(|line| line["level"] == level).count();
    assert!(levels("warn") >= 1 && levels("info") >= 2, "{shown}");
    let warned = lines.iter().find(|line| line["level"] == "warn").unwrap();
    let said = warned["message"].as_str().unwrap();
    assert!(!said.starts_with("warning"), "{said}");
}

#[test]
fn levels_leave_out_what_is_less_grave() {
    let (session, _root) = session();
    for (level, informed, warned) in [
        ("debug", true, true),
        ("info", true, true),
        ("warn", false, true),
        ("error", false, false),
    ] {
        let shown = built(&session, &["--log-level", level, "-t", "a"]);
        assert_eq!(
            shown.stderr.contains("warning: "),
            warned,
            "{level}: {shown}"
        );
        assert_eq!(
            shown.stderr.contains("COPY file /"),
            informed,
            "{level}: {shown}"
        );
        assert!(
            shown.stdout.starts_with("sha256:"),
            "facts are no talk: {shown}"
        );
    }
    let shown = session
        .run(&["--log-level", "error", "inspect", "ghost"])
        .failure();
    assert!(shown.starts_with("error: there is no VM"), "{shown}");
    // Events are for programs: neither another form nor fewer.
    let shown = built(
        &session,
        &["--log-level", "error", "--progress", "json", "-t", "a"],
    );
    assert!(shown.stderr.contains("\"event\":"), "{shown}");
}

#[test]
fn colours_can_be_forced() {
    let (session, _root) = session();
    let shown = session
        .run(&["--log-force-color", "inspect", "ghost"])
        .failure();
    assert!(shown.starts_with("\x1b[1;31merror:\x1b[0m "), "{shown:?}");
    let shown = session.run(&["--log-color", "inspect", "ghost"]).failure();
    assert!(!shown.contains('\x1b'), "{shown:?}");
}

#[test]
fn who_asks_for_more_is_told_how_it_is_done() {
    let (session, _root) = session();
    let server = Server::start(|_| Answer::file(b"text"));
    let address = server.url("/file");
    let with_user = address.replace("http://", "http://me:password@");
    let told = |level: &str| {
        let text = format!("FROM scratch\nADD {with_user} /{level}\n");
        let shown = session.build(&text, &["--no-cache", "--log-level", level]);
        shown.success().stderr
    };
    let asked = format!("{}: 200 OK\n", address.split_once("://").unwrap().1);
    for level in ["debug", "trace"] {
        let shown = told(level);
        let line = shown.lines().find(|line| line.starts_with("debug: GET "));
        let line = line.unwrap_or_else(|| panic!("{shown}"));
        assert!(format!("{line}\n").ends_with(&asked), "{line}");
        assert!(!line.contains("password"), "{line}");
    }
    assert!(!told("info").contains("GET "));
    session.write(
        "context/Dockerfile",
        format!("FROM scratch\nADD {address} /x\n"),
    );
    let shown = session
        .run(&[
            "build",
            "--no-cache",
            "--log-level=debug",
            "--log-as-json",
            "context",
        ])
        .success();
    let about =
        |line: &Value| line["level"] == "debug" && line["message"].to_string().contains("GET");
    assert!(lines(&shown).iter().any(about), "{shown}");
}
