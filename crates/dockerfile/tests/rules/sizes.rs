//! Large inputs, each of which would take minutes if anything were counted twice: what is bounded
//! by the length of the text must be bounded in proportion to it.

use std::fmt::Write as _;

use firebuild_dockerfile::dockerignore::Patterns;
use firebuild_dockerfile::{ErrorKind, MAX_SIZE, parse};

use crate::{bad, good};

const MANY: usize = 20_000;

/// `text` over and over, in lines that are short enough.
fn repeated(text: &str, separator: &str) -> String {
    let mut all = String::new();
    for count in 0..MANY {
        let line = if count % 1000 == 999 { "\\\n" } else { "" };
        write!(all, "{text}{separator}{line}").unwrap();
    }
    all
}

#[test]
fn many_words() {
    let text = format!("FROM scratch\nCOPY {} /", repeated("é", " "));
    assert_eq!(good(&text).instructions.len(), 2);
    let text = format!("FROM scratch\nENV {}", repeated("é=\"ü x\"", " "));
    assert_eq!(good(&text).instructions.len(), 2);
    let text = format!(
        "FROM scratch\nRUN --mount=type=cache,{}type=cache x",
        repeated("uid=1", ",")
    );
    assert_eq!(good(&text).instructions.len(), 2);
    let text = format!("FROM scratch\nCOPY {} a /", repeated("--exclude=a", " "));
    assert_eq!(good(&text).instructions.len(), 2);
    let text = format!("FROM scratch\nCOPY {} a /", repeated("--exlude=a", " "));
    assert!(matches!(bad(&text).kind, ErrorKind::UnknownFlag { .. }));
}

#[test]
fn many_lines() {
    let text = format!("FROM scratch\n{}", "MAINTAINER x\n".repeat(MANY));
    assert_eq!(good(&text).warnings.len(), MANY);
    let text: String = (0..MANY)
        .map(|n| format!("FROM scratch AS A{n}\n"))
        .collect();
    assert_eq!(good(&text).instructions.len(), MANY);
    let comments = "# a b\n".repeat(MANY);
    let names: String = (0..MANY).map(|n| format!("a{n} \\\n")).collect();
    good(&format!("FROM scratch\n{comments}ARG {names}"));
    let text = format!("FROM scratch\nRUN a{}", "\\\n\n# x\n b".repeat(MANY));
    assert_eq!(good(&text).warnings.len(), 1);
}

#[test]
fn many_heredocs() {
    let mut text = "FROM scratch\nCOPY ".to_owned();
    let mut bodies = String::new();
    for count in 0..MANY {
        writeln!(text, "<<E{count} f{count} \\").unwrap();
        writeln!(bodies, "x\nE{count}").unwrap();
    }
    let dockerfile = good(&format!("{text} /\n{bodies}"));
    assert_eq!(dockerfile.instructions[1].kind.heredocs().len(), MANY);
    let unclosed = format!("FROM scratch\nRUN {}", "<<'".repeat(MANY));
    good(&unclosed);
}

#[test]
fn too_much() {
    let error = parse(&vec![b'\n'; MAX_SIZE + 1]).unwrap_err();
    assert_eq!(error.kind, ErrorKind::TooLarge { size: MAX_SIZE + 1 });
}

#[test]
fn hostile_patterns() {
    let patterns = Patterns::parse("**/*a*/**/*b*/**/*c\n".repeat(50).as_bytes()).unwrap();
    let path = "ab/".repeat(200);
    assert!(!patterns.excluded(path.trim_end_matches('/').as_bytes()));
}
