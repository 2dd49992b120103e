//! Looking into a failed step: what passes between the user's end and a guest, honest or not.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use firebuild_builder::Error;
use firebuild_builder::debug::Debugger;
use firebuild_machine::terminal::{Input, Shown, UserEnd};
use firebuild_protocol::command::Terminal;
use tokio::sync::mpsc;

use crate::place::{Place, Told};

/// What happened at the user's end, as it was seen.
#[derive(Debug, Default, Clone)]
pub(crate) struct User {
    program: String,
    seen: Arc<Mutex<Vec<String>>>,
    /// Whether the terminal cannot be opened.
    broken: bool,
    /// Whether nobody looks at what is shown.
    blind: bool,
}

/// Tells when it is dropped.
#[derive(Debug)]
struct Guard(User);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.note("given back");
    }
}

impl User {
    fn note(&self, text: impl Into<String>) {
        self.seen.lock().unwrap().push(text.into());
    }
}

impl Debugger for User {
    fn program(&self) -> Option<&str> {
        Some(&self.program)
            .filter(|program| !program.is_empty())
            .map(String::as_str)
    }

    fn open(&self, failure: &Error, program: &str) -> std::io::Result<UserEnd> {
        self.note(format!("{failure}: {program}"));
        if self.broken {
            return Err(std::io::Error::other("no such terminal"));
        }
        let (typed, input) = mpsc::channel(8);
        let (output, mut shown) = mpsc::channel(1);
        for one in [
            Input::Data(Bytes::from_static(b"typed")),
            Input::Resize(7, 70),
            Input::End,
        ] {
            typed.try_send(one).unwrap();
        }
        let user = self.clone();
        tokio::spawn(async move {
            while let Some(shown) = shown.recv().await.filter(|_| !user.blind) {
                let (stream, data) = match shown {
                    Shown::Stdout(data) => ("out", data),
                    Shown::Stderr(data) => ("err", data),
                    Shown::End => break,
                };
                user.note(format!("{stream}: {}", String::from_utf8_lossy(&data)));
            }
            user.note("seen");
        });
        Ok(UserEnd {
            terminal: Some(Terminal {
                kind: "some-kind".to_owned(),
                rows: 3,
                columns: 30,
            }),
            input,
            output,
            guard: Box::new(Guard(self.clone())),
        })
    }
}

/// What the user saw of a failing build, and the build.
fn look(place: &mut Place, user: User, text: &str) -> (Vec<String>, Told) {
    place.user = Some(user.clone());
    let told = place.build(text);
    let seen = std::mem::take(&mut *user.seen.lock().unwrap());
    (seen, told)
}

fn with(program: &str) -> User {
    User {
        program: program.to_owned(),
        ..User::default()
    }
}

const FAILS: &str = "FROM scratch\nSHELL [\"echo\"]\nRUN touch one\nRUN exit 4\n";

/// Where an event stands among all.
#[track_caller]
fn at(told: &Told, what: &str) -> usize {
    let position = told.events.iter().position(|event| event == what);
    position.unwrap_or_else(|| panic!("no {what} in {:#?}", told.events))
}

fn warnings(told: &Told) -> Vec<&str> {
    let warnings = told.events.iter();
    let warnings = warnings.filter_map(|event| event.strip_prefix("warning: "));
    warnings.collect()
}

#[test]
fn what_is_typed_arrives_and_what_is_written_is_shown() {
    let mut place = Place::new();
    let (seen, told) = look(&mut place, User::default(), FAILS);
    assert_eq!(
        seen,
        [
            "step `RUN exit 4` of stage `stage-0` failed: echo",
            "out: some-kind 3x30",
            "out: typed",
            "err: 7x70",
            "out: end of input",
            "seen",
            "given back",
        ]
    );
    assert!(matches!(told.result, Err(Error::Step { .. })));
    assert_eq!(warnings(&told), [""; 0]);
    let debugging = at(&told, "looking into stage-0");
    assert!(at(&told, "stage-0 4 failed") < debugging);
    assert!(debugging < at(&told, "VM of stage-0 ended"));
    assert_eq!(place.cached(), 1);
}

#[test]
fn a_guest_that_does_what_no_agent_does_ends_the_look() {
    let mut place = Place::new();
    let broken = "the build VM broke the protocol: ";
    for (program, expected) in [
        (
            "refuse",
            "cannot start a shell in the failed step: not today; `--debug=PROGRAM` starts another program that the step has",
        ),
        ("large", "it sent what is no piece of a process's output"),
        ("twice", "it sent what is no piece of a process's output"),
        ("no-end", "it did not say how a process ended"),
        ("other", "it did not say how a process ended"),
        ("say", "it spoke of a command that does not run"),
        ("abort", "the build VM's agent gave up: tired"),
        ("die", "the build VM ended before its work was done"),
    ] {
        let (seen, told) = look(&mut place, with(program), FAILS);
        assert_eq!(
            seen.last().map(String::as_str),
            Some("given back"),
            "{program}"
        );
        let [warning] = warnings(&told)[..] else {
            panic!("{program}: {:?}", told.events);
        };
        let warning = warning.strip_prefix(broken).unwrap_or(warning);
        assert!(warning.starts_with(expected), "{program}: {warning}");
        // It is the step's own error that counts.
        let error = told.result.unwrap_err();
        assert!(matches!(error, Error::Step { .. }), "{program}");
        let why = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(why, "the command exited with status 4", "{program}");
    }
}

#[test]
fn without_a_users_end_nothing_is_started() {
    let mut place = Place::new();
    let broken = User {
        broken: true,
        ..User::default()
    };
    let (seen, told) = look(&mut place, broken, FAILS);
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(
        warnings(&told),
        ["cannot open the terminal: no such terminal"]
    );
    let blind = User {
        blind: true,
        ..with("flood")
    };
    let (seen, told) = look(&mut place, blind, FAILS);
    assert_eq!(seen[1..], ["seen", "given back"]);
    assert_eq!(warnings(&told), [""; 0]);
}

#[test]
fn only_a_command_that_failed_is_looked_into() {
    let mut place = Place::new();
    for text in [
        "FROM scratch\nRUN touch one\nCOPY missing /\n",
        "FROM scratch\nRUN abort x\n",
        "FROM scratch\nRUN touch one\n",
    ] {
        let (seen, _) = look(&mut place, User::default(), text);
        assert_eq!(seen, [""; 0], "{text}");
    }
}
