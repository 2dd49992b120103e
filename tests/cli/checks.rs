//! `build --check`, and what every build says of a Dockerfile that is odd.

use serde_json::{Value, json};

use crate::session as fresh;
use crate::session::Session;

const ODD: &str = "FROM scratch AS base\nARG base=1\nWORKDIR /srv/$bse\nCMD server\n";

fn check(session: &Session, text: &str, arguments: &[&str]) -> (i32, String, String) {
    let mut all = vec!["--check"];
    all.extend(arguments);
    let outcome = session.build(text, &all);
    (outcome.status, outcome.stdout, outcome.stderr)
}

#[test]
fn what_is_odd_is_shown_in_its_line() {
    let (session, _root) = fresh();
    let (status, stdout, stderr) = check(&session, ODD, &[]);
    let expected = "\
warning: the variable `$bse` is not set; did you mean `$base`? (UndefinedVar)
 --> context/Dockerfile:3:14
  |
3 | WORKDIR /srv/$bse
  |              ^^^^
  |
  = note: https://docs.docker.com/go/dockerfile/rule/undefined-var/

warning: CMD should be a JSON array, so that signals reach the program (JSONArgsRecommended)
 --> context/Dockerfile:4:1
  |
4 | CMD server
  | ^^^
  |
  = note: https://docs.docker.com/go/dockerfile/rule/json-args-recommended/

2 warnings
";
    assert_eq!(
        (status, stdout.as_str(), stderr.as_str()),
        (1, expected, "")
    );
    let good = "FROM scratch\nCMD [\"server\"]\n";
    assert_eq!(
        check(&session, good, &[]),
        (0, "no warnings\n".to_owned(), String::new())
    );
}

#[test]
fn programs_read_the_same() {
    let (session, _root) = fresh();
    let (status, stdout, stderr) = check(&session, ODD, &["--format", "json"]);
    assert_eq!((status, stderr.as_str()), (1, ""));
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["version"], 1);
    assert_eq!(report["dockerfile"], "context/Dockerfile");
    assert_eq!(report["error"], false);
    assert_eq!(
        report["warnings"][0],
        json!({
            "rule": "UndefinedVar",
            "message": "the variable `$bse` is not set; did you mean `$base`?",
            "description": "variables should be set before they are used",
            "url": "https://docs.docker.com/go/dockerfile/rule/undefined-var/",
            "start": {"line": 3, "column": 14},
            "end": {"line": 3, "column": 18},
        })
    );
    assert_eq!(report.get("failure"), None);
    let arguments = [
        "--format",
        "json",
        "--build-arg",
        "BUILDKIT_DOCKERFILE_CHECK=skip=all",
    ];
    let (status, stdout, _) = check(&session, ODD, &arguments);
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((status, &report["warnings"]), (0, &json!([])));
}

#[test]
fn all_stages_and_the_context_are_looked_at() {
    let (session, _root) = fresh();
    session.write("context/.dockerignore", "*.log\n");
    let text = "FROM elsewhere:1 AS a\nENV x=$HOME_OF_IT\nFROM scratch\nCOPY x.log /\n";
    let (status, stdout, _) = check(&session, text, &[]);
    assert_eq!(status, 1);
    for expected in [
        "what the base image sets is not known (UndefinedVar)",
        "`x.log` cannot be copied: the ignore file leaves it out (CopyIgnoredFile)",
        "\n2 warnings\n",
    ] {
        assert!(stdout.contains(expected), "{stdout}");
    }
    let (_, stdout, _) = check(&session, text, &["--target", "a"]);
    assert!(stdout.ends_with("\n1 warning\n"), "{stdout}");
}

#[test]
fn what_is_wrong_is_said_beside_what_is_odd() {
    let (session, _root) = fresh();
    let (status, stdout, stderr) = check(&session, "FROM scratch\nRNU x\n", &[]);
    assert_eq!((status, stdout.as_str()), (125, ""));
    assert!(
        stderr.starts_with("error: unknown instruction `RNU`"),
        "{stderr}"
    );
    let wrong = "FROM scratch as a\nEXPOSE nonsense\n";
    let (status, stdout, stderr) = check(&session, wrong, &["--format", "json"]);
    assert_eq!(status, 125);
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["warnings"][0]["rule"], "FromAsCasing");
    assert_eq!(report["failure"]["start"], json!({"line": 2, "column": 8}));
    assert!(stderr.contains("Dockerfile:2:8"), "{stderr}");
    let argument = ["--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skpi=all"];
    let (status, _, stderr) = check(&session, ODD, &argument);
    assert_eq!(status, 125);
    assert_eq!(
        stderr,
        "error: `skpi=all` of the build argument `BUILDKIT_DOCKERFILE_CHECK` is not a check option\n"
    );
}

#[test]
fn another_language_is_warned_about() {
    let (session, _root) = fresh();
    for (top, warned) in [
        ("# syntax=docker/dockerfile:1", false),
        (
            "#syntax = docker.io/docker/dockerfile-upstream:master-labs",
            false,
        ),
        ("# syntax=docker/dockerfile@sha256:00", false),
        ("# no syntax=x", false),
        ("# syntax=some/other:2 x", true),
        ("#!/usr/bin/env x\n# syntax=some/other:2", true),
    ] {
        let text = format!("{top}\nFROM scratch\nENV A=1\n");
        let said = session.build(&text, &[]).success().stderr;
        let warning =
            "warning: `# syntax=some/other:2` is not loaded; the file is read as a Dockerfile\n";
        assert_eq!(said.contains(warning), warned, "{top}: {said}");
        assert_eq!(said.contains("warning"), warned, "{top}: {said}");
    }
}

#[test]
fn a_build_tells_and_goes_on() {
    let (session, _root) = fresh();
    let text = "FROM scratch as a\nLABEL a b\n";
    let built = session.build(text, &["-t", "odd:1"]).success();
    let told: Vec<&str> = built
        .stderr
        .lines()
        .filter(|line| line.starts_with("warning: "))
        .collect();
    assert_eq!(
        told,
        [
            "warning: context/Dockerfile:1:14: `as` should be in the same case as `FROM` (FromAsCasing)",
            "warning: context/Dockerfile:2:7: a blank between name and value is the legacy form; write `LABEL a=…` (LegacyKeyValueFormat)",
        ]
    );
    let built = session.build(text, &["--progress", "json"]).success();
    let events = built.stderr.lines();
    let events: Vec<Value> = events
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|event: &Value| event["event"] == "warning")
        .collect();
    assert_eq!(events.len(), 2, "{built}");
    assert_eq!(events[1]["rule"], "LegacyKeyValueFormat");
    assert_eq!(
        events[1]["text"],
        "a blank between name and value is the legacy form; write `LABEL a=…`"
    );
    assert_eq!(events[1]["start"], json!({"line": 2, "column": 7}));
}

#[test]
fn a_file_may_ask_that_nothing_odd_is_built() {
    let (session, _root) = fresh();
    let text = "# check=error=true\nFROM scratch as a\nLABEL a b\n";
    let refused = session.build(text, &["-t", "odd:1"]).failure();
    assert!(refused.contains("(FromAsCasing)"), "{refused}");
    assert!(
        refused.ends_with(
            "error: the checks found something, which `check=error=true` makes an error: FromAsCasing, LegacyKeyValueFormat\n\
             hint: `build --check` shows where; `check=skip=RULE` turns a rule off\n"
        ),
        "{refused}"
    );
    assert_eq!(session.run(&["image", "inspect", "odd:1"]).status, 125);
    let skipped = [
        "-t",
        "odd:1",
        "--build-arg",
        "BUILDKIT_DOCKERFILE_CHECK=skip=all",
    ];
    session.build(text, &skipped).success();
}
