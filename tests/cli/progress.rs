//! What a build shows on a terminal, which is one that `script` makes, and elsewhere.

use std::process::Stdio;

use crate::session as fresh;
use crate::session::{Outcome, Session};

/// A name that would clear the screen and set the terminal's title.
const TEXT: &str = "FROM scratch\nCOPY one /o\u{1b}[2J\u{1b}]0;title\u{7}ne\nCOPY two /a/long/path/that/does/not/fit/in/so/narrow/a/terminal\n";

/// A build on a terminal of 50 columns; standard output is the terminal, too.
fn on_terminal(session: &Session, arguments: &str, environment: &[(&str, &str)]) -> String {
    let firebuild = env!("CARGO_BIN_EXE_firebuild");
    let line = format!("stty rows 24 cols 50; exec {firebuild} build {arguments} context");
    let environment = environment.iter().copied();
    let mut script = std::process::Command::new("script");
    script
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .current_dir(session.path("."))
        .env_remove("NO_COLOR")
        .env("FIREBUILD_ROOT", session.root())
        .env("TERM", "xterm")
        .envs(environment)
        .stdin(Stdio::null());
    Outcome::of(&mut script).success().stdout
}

#[test]
fn a_terminal_gets_a_live_view_and_nothing_else_does() {
    let (session, _root) = fresh();
    session.write("context/one", "1");
    session.write("context/two", "2");
    session.build(TEXT, &[]).success();
    let cached = "\u{1b}[36mCACHED\u{1b}[0m";
    for (arguments, environment, moves, colours) in [
        ("", &[][..], true, true),
        ("--progress tty", &[], true, true),
        ("", &[("NO_COLOR", "1")], true, false),
        ("", &[("TERM", "dumb")], false, false),
        ("--progress plain", &[], false, false),
    ] {
        let said = on_terminal(&session, arguments, environment);
        let case = format!("{arguments} {environment:?}: {said:?}");
        assert_eq!(said.contains(cached), colours, "{case}");
        assert_eq!(said.contains("CACHED"), moves, "{case}");
        let escapes = said.matches('\u{1b}').count();
        assert_eq!(escapes == 0, !moves, "{case}");
        assert!(colours || !said.contains("\u{1b}[3"), "{case}");
        assert!(
            !said.contains("\u{1b}[2J") && !said.contains("\u{1b}]"),
            "{case}"
        );
        // The last line is the digest, with nothing of the live view before it.
        assert!(
            said.trim_end()
                .rsplit('\n')
                .next()
                .unwrap()
                .starts_with("sha256:"),
            "{case}"
        );
        for line in said.lines().filter(|line| moves && line.contains("CACHED")) {
            let shown = line
                .rsplit("\u{1b}[K")
                .next()
                .unwrap()
                .rsplit("\u{1b}[2K")
                .next()
                .unwrap();
            let plain = shown.replace(cached, "CACHED");
            assert!(plain.trim_end().chars().count() <= 50, "{plain:?}");
        }
    }
    let piped = session.build(TEXT, &["--progress", "tty"]).success();
    assert!(piped.stderr.contains("[stage-0 2/3] cached\n"), "{piped}");
    assert!(!piped.stderr.contains('\u{1b}'), "{piped}");
}

#[test]
fn a_program_gets_one_object_a_line() {
    let (session, _root) = fresh();
    session.write("context/one", "1");
    let text = "FROM scratch AS a\nCOPY one /\nFROM scratch\nCOPY --from=a /one /\n";
    let built = session.build(text, &["--progress", "json"]).success();
    let objects = built.stderr.lines().filter(|line| line.starts_with('{'));
    let events: Vec<serde_json::Value> = objects
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(events[0]["event"], "build", "{built}");
    assert_eq!(
        (&events[0]["stages"], &events[0]["steps"]),
        (&2.into(), &4.into())
    );
    let done: Vec<String> = events
        .iter()
        .filter(|event| event["event"] == "done" && event["size"].is_u64())
        .map(|event| format!("{} {} {}", event["index"], event["stage"], event["step"]))
        .collect();
    assert_eq!(done, ["0 \"a\" 2", "1 \"stage-1\" 2"]);
    assert!(events.iter().all(|event| event["time"].is_f64()), "{built}");
    let last = events.last().unwrap();
    assert_eq!(last["event"], "built", "{built}");
    assert_eq!(last["digest"].as_str(), Some(built.stdout.trim_end()));
    assert_eq!(events.len(), built.stderr.lines().count(), "{built}");
}
