//! Repositories as contexts and as what is added.

use crate::copies::listing;
use crate::server::{Answer, Server, git_backend};
use crate::session as fresh;
use crate::session::Outcome;
use crate::sources::{after_fetching, git_server, output, repository};

#[test]
fn a_repository_is_a_context_and_is_added() {
    let (session, _root) = fresh();
    let commit = repository(&session);
    let server = git_server(&session);
    let remote = server.url("/one.git");
    let expected = [
        "drwxr-xr-x 0/0 app/",
        "-rw-r--r-- 0/0 app/Dockerfile",
        "-rw-r--r-- 0/0 app/file",
    ];
    for context in [
        format!("{remote}#main:app"),
        format!("{remote}?branch=main&subdir=app"),
        format!("git+{remote}:/app/Dockerfile#{}", &commit[..8]),
    ] {
        session.ok(&["build", "-t", "a", &context]);
        assert_eq!(listing(&session, "a"), expected, "{context}");
    }
    let text = format!("FROM scratch\nADD --exclude=file {remote}#{commit}:app /app/\n");
    let asked = server.asked().len();
    session.build(&text, &["-t", "b"]).success();
    assert_eq!(listing(&session, "b"), expected[..2]);
    assert_eq!(server.asked().len(), asked, "the commit was fetched again");

    let said = session.run(&["build", &format!("{remote}#mian")]).failure();
    let expected = format!(
        "error: repository `{remote}` has no branch, tag or commit `mian`; did you mean `main`?\n"
    );
    assert_eq!(after_fetching(&said), expected);
    let said = session.run(&["build", &remote]).failure();
    let expected = format!(
        "error: there is no Dockerfile `Dockerfile` in {remote}\nhint: name the Dockerfile with `-f FILE`, a path in the context\n"
    );
    assert_eq!(after_fetching(&said), expected);
    let said = session.run(&["build", &server.url("/two.git")]).failure();
    assert!(
        after_fetching(&said).starts_with("error: there is no repository"),
        "{said}"
    );
    let said = Outcome::of(
        session
            .command(&["build", &remote])
            .env("PATH", "/nonexistent"),
    )
    .failure();
    assert_eq!(
        after_fetching(&said),
        "error: the program `git`, which fetches repositories, is not installed\n\
         hint: install it, as Debian does with `apt install git`\n"
    );
}

#[test]
fn ssh_is_the_users_own() {
    let (session, _root) = fresh();
    repository(&session);
    // What ssh would do on the server, here.
    let ssh = session.write(
        "ssh",
        "#!/bin/sh\nfor last; do :; done\necho \"$@\" >>log\nexec sh -c \"$last\"\n",
    );
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs_err::set_permissions(&ssh, executable).unwrap();
    let log = session.path("log");
    fs_err::write(
        &ssh,
        fs_err::read_to_string(&ssh)
            .unwrap()
            .replace("log", log.to_str().unwrap()),
    )
    .unwrap();
    let remote = session.path("repositories/one.git");
    let remote = format!("git@host.example:{}", remote.display());
    for context in [
        format!("{remote}#main:app"),
        format!("ssh://{}:/app/Dockerfile#main", remote.replace(":/", "/")),
    ] {
        let mut command = session.command(&["build", "-t", "a", &context]);
        Outcome::of(command.env("GIT_SSH_COMMAND", &ssh)).success();
        assert_eq!(listing(&session, "a").len(), 3);
    }
    let log = fs_err::read_to_string(log).unwrap();
    assert!(
        log.lines()
            .all(|line| line.contains("git@host.example git-upload-pack")),
        "{log}"
    );
}

#[test]
fn what_was_fetched_is_not_hashed_again() {
    let (session, root) = fresh();
    repository(&session);
    session.write("packed/file", "in the archive");
    let packed = output(&session.path("packed"), "tar", &["-c", "."]);
    let repositories = session.path("repositories");
    let server = Server::start(move |asked| match asked.path.as_str() {
        "/packed.tar" if asked.header("if-none-match").is_some() => {
            Answer::status("304 Not Modified")
        }
        "/packed.tar" => Answer::new("200 OK", &[("ETag", "\"1\"")], &packed),
        _ => git_backend(&repositories, asked),
    });
    let (git, tar) = (server.url("/one.git"), server.url("/packed.tar"));
    let text = format!("FROM scratch\nADD {git} {tar} /\nCOPY --from=packed file /\n");
    let named = format!("packed={tar}");
    let arguments = ["--build-context", named.as_str()];
    session.build(&text, &arguments).success();
    // Whoever reads files' bytes now finds others.
    change_files(&root.path().join("v1/images/blobs/sha256"));
    let again = session.build(&text, &arguments).success().stderr;
    assert_eq!(again.matches("] cached").count(), 2, "{again}");
}

/// Changes the bytes of every archive's files in a directory, and nothing else of them.
fn change_files(directory: &std::path::Path) {
    let mut changed = 0;
    for entry in fs_err::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs_err::read(&path).unwrap();
        if bytes.starts_with(b"{") {
            continue;
        }
        for content in [&b"in the archive"[..], b"text"] {
            let found = bytes
                .windows(content.len())
                .position(|part| part == content);
            if let Some(at) = found {
                bytes[at] = b'X';
                changed += 1;
            }
        }
        fs_err::write(&path, bytes).unwrap();
    }
    // The two archives, and in the layers what was copied from them.
    assert_eq!(changed, 5);
}
