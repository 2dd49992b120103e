//! Where tests fetch from: archives, repositories, and what serves them.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::server::{Server, git_backend};
use crate::session::{Outcome, Session};

/// Runs firebuild with this standard input.
pub(crate) fn with_input(session: &Session, arguments: &[&str], input: &[u8]) -> Outcome {
    let mut child = session
        .command(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have failed, and be gone, before it has read all.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap().into()
}

/// What a program writes.
pub(crate) fn output(directory: &Path, program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
    output.stdout
}

pub(crate) fn archive(session: &Session, folder: &str) -> Vec<u8> {
    output(&session.path(folder), "tar", &["-cz", "--owner=7", "."])
}

/// A repository `one.git` with a Dockerfile in a folder, and the commit's hash.
pub(crate) fn repository(session: &Session) -> String {
    session.write(
        "repositories/one.git/app/Dockerfile",
        "FROM scratch\nCOPY . /app/\n",
    );
    session.write("repositories/one.git/app/file", "text");
    session.write("repositories/one.git/outside", "text");
    let directory = session.path("repositories/one.git");
    // Not for those who fetch it.
    session.write("repositories/one.git/.dockerignore", "app\n");
    let git = |arguments: &[&str]| {
        let mut all = vec!["-c", "user.name=a", "-c", "user.email=a@host.example"];
        all.extend(arguments);
        output(&directory, "git", &all)
    };
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "-A"]);
    git(&["commit", "-qm", "message"]);
    let hash = git(&["rev-parse", "HEAD"]);
    String::from_utf8(hash).unwrap().trim().to_owned()
}

pub(crate) fn git_server(session: &Session) -> Server {
    let repositories = session.path("repositories");
    Server::start(move |asked| git_backend(&repositories, asked))
}

/// An error without what was told of downloads before it.
pub(crate) fn after_fetching(said: &str) -> &str {
    &said[said.find("error: ").unwrap()..]
}

/// When the only commit was made, in seconds since 1970.
pub(crate) fn commit_time(session: &Session) -> u64 {
    let repository = session.path("repositories/one.git");
    let time = output(&repository, "git", &["show", "-s", "--format=%ct"]);
    String::from_utf8(time).unwrap().trim().parse().unwrap()
}
