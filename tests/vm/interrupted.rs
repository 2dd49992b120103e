//! Builds that are interrupted or killed in the middle of a command.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::Signal;

use crate::commands::build_vm;
use crate::live::Live;
use crate::session;
use crate::session::Session;
use crate::traces::{assert_gone, traces};

/// A Dockerfile that nobody has built before, with a command that does not end.
fn endless() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    format!(
        "FROM debian:bookworm-slim\nRUN echo {} > /first\nRUN echo begun; cat /first; exec sleep 1000\n",
        now.as_nanos()
    )
}

/// Builds until the last command has begun.
fn begun(session: &Session, text: &str) -> (Live, String) {
    session.write("context/Dockerfile", text);
    let mut build = Live::start(&mut session.command(&["build", "-t", "test/endless", "context"]));
    build.until("[stage-0 3/3] begun");
    let id = build_vm(&build.seen.join("\n")).to_owned();
    (build, id)
}

#[test]
fn an_interrupted_build_leaves_what_was_finished_and_nothing_else() {
    let session = session();
    let text = endless();
    let (build, id) = begun(&session, &text);
    assert_ne!(traces(&session, &id), Vec::<String>::new());
    build.signal(Signal::INT);
    let (status, said) = build.end();
    assert_eq!(status, Some(125), "{said}");
    assert!(
        said.ends_with(
            "error: the build was interrupted\nhint: what was finished is kept: the same command goes on from there"
        ),
        "{said}"
    );
    assert_gone(&session, &id);
    assert_eq!(session.run(&["inspect", &id]).status, 125);
    let other = text.replace("exec sleep 1000", "true");
    let again = session.build(&other, &[]).success();
    assert!(again.stderr.contains("[stage-0 2/3] cached\n"), "{again}");
}

#[test]
fn what_a_killed_build_leaves_goes_with_the_next_command() {
    let session = session();
    let (build, id) = begun(&session, &endless());
    build.signal(Signal::KILL);
    build.end();
    session.ok(&["ls"]);
    assert_gone(&session, &id);
    session.ok(&["purge"]);
    assert_eq!(session.run(&["inspect", &id]).status, 125);
    let left = fs_err::read_dir(session.root().join("v1/tmp")).map_or(0, Iterator::count);
    assert_eq!(left, 0);
}

#[test]
fn a_cache_survives_the_killing_of_who_writes_it() {
    let session = session();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let id = format!("killed-{}", now.as_nanos());
    let mount = format!("--mount=type=cache,id={id},target=/c");
    let text = format!(
        "FROM debian:bookworm-slim\nRUN {mount} echo kept > /c/kept\n\
         RUN {mount} echo begun; while true; do head -c 100000 /dev/zero > /c/$$; mv /c/$$ /c/last; done\n"
    );
    let (build, vm) = begun(&session, &text);
    build.signal(Signal::KILL);
    build.end();
    let text = format!("FROM debian:bookworm-slim\nRUN {mount} cat /c/kept && touch /c/more\n");
    let built = session.build(&text, &["--no-cache"]).success();
    assert!(built.stderr.contains("[stage-0 2/2] kept\n"), "{built}");
    session.ok(&["ls"]);
    assert_gone(&session, &vm);
    session.ok(&["build", "cache", "rm", &id]);
}
