//! Files and Dockerfiles from elsewhere: standard input, web servers, repositories, named contexts.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::copies::listing;
use crate::server::{Answer, Server, git_backend};
use crate::session as fresh;
use crate::session::{Outcome, Session, output_of};

/// Runs firebuild with this standard input.
fn with_input(session: &Session, arguments: &[&str], input: &[u8]) -> Outcome {
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
fn output(directory: &Path, program: &str, arguments: &[&str]) -> Vec<u8> {
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

fn archive(session: &Session, folder: &str) -> Vec<u8> {
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

#[test]
fn standard_input_can_be_everything() {
    let (session, _root) = fresh();
    session.write("c/Dockerfile", "FROM scratch\nCOPY file /\n");
    session.write("c/file", "text");
    let packed = archive(&session, "c");
    with_input(&session, &["build", "-t", "a", "-"], &packed).success();
    assert_eq!(listing(&session, "a"), ["-rw-r--r-- 0/0 file"]);
    let text = b"FROM scratch\nCOPY <<a /b\nEOF\na\n";
    with_input(&session, &["build", "-t", "b", "-"], text).success();
    with_input(
        &session,
        &["build", "-f", "-", "c"],
        b"FROM scratch\nCOPY file /x/\n",
    )
    .success();

    let broken = with_input(&session, &["build", "-"], b"FROM scratch\nRNU\n").failure();
    assert!(broken.contains(" --> standard input:2:1\n"), "{broken}");
    let both = with_input(&session, &["build", "-f", "-", "-"], b"").failure();
    assert_eq!(
        both,
        "error: context and Dockerfile cannot both come from standard input\n"
    );
    let cut = with_input(&session, &["build", "-"], &packed[..packed.len() / 2]).failure();
    let neither = "error: standard input is neither a whole archive nor a Dockerfile\n";
    assert_eq!(cut, neither);
    let plain = output(&session.path("c"), "tar", &["-c", "."]);
    let cut = with_input(&session, &["build", "-"], &plain[..700]).failure();
    let expected = "error: standard input cannot be used as context\ncaused by: the archive is cut off within ";
    assert!(cut.starts_with(expected), "{cut}");
    let file = session.run(&["build", "c/Dockerfile"]).failure();
    assert_eq!(
        file,
        "error: `c/Dockerfile` is a file, and the context has to be a directory\n\
         hint: name the Dockerfile with `-f FILE`; the last argument is the directory whose files it may copy\n"
    );
}

#[test]
fn a_download_is_added_and_not_fetched_twice() {
    let (session, _root) = fresh();
    let server =
        Server::start(
            |asked| match (asked.path.as_str(), asked.header("if-none-match")) {
                ("/dir/file.txt", Some("one")) => Answer::status("304 Not Modified"),
                ("/dir/file.txt", _) => {
                    let modified = ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT");
                    Answer::new("200 OK", &[("ETag", "one"), modified], b"text")
                }
                _ => Answer::status("404 Not Found"),
            },
        );
    let url = server.url("/dir/file.txt");
    let text = format!("FROM scratch\nADD {url} /a/\nADD --chmod=755 --chown=5:6 {url} /b\n");
    for _ in 0..2 {
        session.build(&text, &["-t", "a"]).success();
    }
    let expected = [
        "drwxr-xr-x 0/0 a/",
        "-rw------- 0/0 a/file.txt",
        "-rwxr-xr-x 5/6 b",
    ];
    assert_eq!(listing(&session, "a"), expected);
    let exported = session.path("a.tar").display().to_string();
    session.ok(&[
        "image",
        "export",
        "a",
        "--type",
        "rootfs-tar",
        "-o",
        &exported,
    ]);
    let times = output_of("tar", &["--full-time", "-tvf", &exported]);
    for name in ["a/file.txt", "b"] {
        let line = times
            .lines()
            .find(|line| line.ends_with(&format!(" {name}")));
        assert!(line.unwrap().contains(" 1994-11-06 08:49:37 "), "{times}");
    }
    let asked = server.asked();
    let answered = asked
        .iter()
        .filter(|asked| asked.header("if-none-match").is_some());
    assert_eq!((asked.len(), answered.count()), (2, 1));

    let kept = session.ok(&["build", "cache", "ls"]);
    assert!(kept.contains(&format!("fetched {url}")), "{kept}");

    let sum = "982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1";
    let sized = format!("FROM scratch\nADD --checksum=sha256:{sum} {url} /a\n");
    session.build(&sized, &[]).success();
    assert_eq!(server.asked().len(), 2);
    session.ok(&["rmi", "a"]);
    session.ok(&["build", "cache", "prune"]);
    session.build(&sized, &[]).success();
    assert_eq!(server.asked().len(), 3);
    drop(server);

    let server = Server::start(|_| Answer::status("404 Not Found"));
    let text = format!("FROM scratch\nADD {} /a\n", server.url("/none"));
    let missing = session.build(&text, &["-t", "b"]).failure();
    let said = format!(
        "`{}` could not be fetched: the server answers 404 (it is not there)",
        server.url("/none")
    );
    assert!(missing.contains(&said), "{missing}");
    assert!(
        missing.contains(" --> context/Dockerfile:2:1\n"),
        "{missing}"
    );
}

#[test]
fn another_digest_than_written_is_named_with_the_right_one() {
    let (session, _root) = fresh();
    let server = Server::start(|_| Answer::file(b"text"));
    let (url, wrong) = (server.url("/file"), "0".repeat(64));
    let text = format!("FROM scratch\nADD --checksum=sha256:{wrong} {url} /a\n");
    let said = session.build(&text, &["-t", "a"]).failure();
    let right = "sha256:982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1";
    let expected = format!("`{url}` has the digest {right}, but sha256:{wrong} was expected");
    assert!(said.contains(&expected), "{said}");
    assert_eq!(session.ok(&["images"]).lines().count(), 1);
}

#[test]
fn authorities_are_named_on_the_command_line() {
    let (session, _root) = fresh();
    let server = Server::encrypted(|_| Answer::file(b"text"));
    let text = format!("FROM scratch\nADD {} /a\n", server.url("/file"));
    let said = session.build(&text, &[]).failure();
    assert!(
        said.contains("its server's certificate is not accepted"),
        "{said}"
    );
    assert!(said.contains("`--ca-certificates FILE`"), "{said}");
    session.write("ca.pem", &server.certificate);
    session
        .build(&text, &["--ca-certificates", "ca.pem"])
        .success();
    session.write("none.pem", "nothing");
    let said = session
        .build(&text, &["--ca-certificates", "none.pem"])
        .failure();
    assert!(
        said.starts_with("error: `none.pem` holds no certificate\n"),
        "{said}"
    );
}

#[test]
fn a_secret_proves_who_asks_and_is_kept_nowhere() {
    let (session, root) = fresh();
    let server = Server::start(|asked| match asked.header("authorization") {
        Some("Bearer very-hidden") => Answer::file(b"text"),
        _ => Answer::status("401 Unauthorized"),
    });
    let text = format!("FROM scratch\nADD {} /a\n", server.url("/file"));
    let said = session.build(&text, &[]).failure();
    assert!(
        said.contains("the server answers 401 (it wants credentials)"),
        "{said}"
    );
    assert!(said.contains("id=HTTP_AUTH_TOKEN_<host>"), "{said}");
    session.write("token", "very-hidden\n");
    let secret = "id=HTTP_AUTH_TOKEN_localhost,src=token";
    let built = session.build(&text, &["--secret", secret]).success();
    assert!(!built.to_string().contains("very-hidden"), "{built}");
    let found = Command::new("grep")
        .args(["-rl", "very-hidden"])
        .arg(root.path())
        .output();
    assert_eq!(String::from_utf8(found.unwrap().stdout).unwrap(), "");
}

/// An error without what was told of downloads before it.
fn after_fetching(said: &str) -> &str {
    &said[said.find("error: ").unwrap()..]
}

#[test]
fn a_web_server_has_contexts_and_dockerfiles() {
    let (session, _root) = fresh();
    session.write("c/Dockerfile", "FROM scratch\nCOPY file /\n");
    session.write("c/other", "FROM scratch\nCOPY file /other\n");
    session.write("c/file", "text");
    let packed = archive(&session, "c");
    let server = Server::start(move |asked| match asked.path.as_str() {
        "/c.tar.gz" => Answer::file(&packed),
        "/x/Dockerfile" => Answer::file(b"FROM scratch\nCOPY file /from-web\n"),
        "/page" => Answer::file(b"\n<!DOCTYPE html>\n<html>"),
        "/x/Broken" => Answer::file(b"FROM scratch\nCOPY . /\n"),
        "/x/file" => Answer::file(b"text"),
        _ => Answer::status("404 Not Found"),
    });
    let packed = server.url("/c.tar.gz");
    let text = format!("FROM scratch\nADD {packed} /whole/\nADD --unpack {packed} /\n");
    session.build(&text, &["-t", "e"]).success();
    let unpacked = listing(&session, "e");
    assert!(
        unpacked.contains(&"-rw------- 0/0 whole/c.tar.gz".to_owned()),
        "{unpacked:?}"
    );
    assert!(
        unpacked.contains(&"-rw-r--r-- 7/0 file".to_owned()),
        "{unpacked:?}"
    );
    session.ok(&["build", "-t", "a", &packed]);
    assert_eq!(listing(&session, "a"), ["-rw-r--r-- 0/0 file"]);
    session.ok(&["build", "-t", "b", "-f", "other", &packed]);
    assert_eq!(listing(&session, "b"), ["-rw-r--r-- 0/0 other"]);
    let web = server.url("/x/Dockerfile");
    for arguments in [
        &["build", "-t", "c", &web][..],
        &["build", "-t", "c", "--dockerfile", &web],
    ] {
        session.ok(arguments);
        assert_eq!(listing(&session, "c"), ["-rw-r--r-- 0/0 from-web"]);
    }
    session.ok(&["build", "-t", "d", "-f", &web, "c"]);
    assert_eq!(listing(&session, "d"), ["-rw-r--r-- 0/0 from-web"]);
    let page = server.url("/page");
    let said = session.run(&["build", &page]).failure();
    assert_eq!(
        after_fetching(&said),
        format!(
            "error: `{page}` is a web page, neither an archive nor a Dockerfile\n\
             hint: a repository's address ends in `.git`, and a file's is that of the file itself\n"
        )
    );
    let said = session.run(&["build", &server.url("/x/Broken")]).failure();
    assert!(said.contains("only single files can be taken"), "{said}");
}

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
fn downloads_go_through_the_environments_proxy() {
    let (session, _root) = fresh();
    let proxy = Server::start(|asked| match asked.path.as_str() {
        "http://host.example/file" => Answer::file(b"text"),
        _ => Answer::status("502 Bad Gateway"),
    });
    session.write(
        "context/Dockerfile",
        "FROM scratch\nADD http://host.example/file /a\n",
    );
    let mut command = session.command(&["build", "-t", "a", "context"]);
    let proxied = command
        .env("http_proxy", proxy.url(""))
        .env_remove("no_proxy")
        .env_remove("NO_PROXY");
    Outcome::of(proxied).success();
    assert_eq!(listing(&session, "a"), ["-rw------- 0/0 a"]);
}

#[test]
fn named_contexts_take_the_place_of_images_and_stages() {
    let (session, _root) = fresh();
    repository(&session);
    let server = git_server(&session);
    session.write("named/file", "named");
    session.write("named/hidden", "hidden");
    session.write("named/.dockerignore", "hidden\n.dockerignore\n");
    let copied = "FROM scratch AS other\nCOPY <<x /y\nx\nFROM scratch\nCOPY --from=other / /got/\n";
    let expected = ["drwxr-xr-x 0/0 got/", "-rw-r--r-- 0/0 got/file"];
    session
        .build(copied, &["-t", "a", "--build-context", "other=named"])
        .success();
    assert_eq!(listing(&session, "a"), expected);
    let remote = format!("other={}#:app", server.url("/one.git"));
    session
        .build(copied, &["-t", "b", "--build-context", &remote])
        .success();
    assert_eq!(listing(&session, "b").len(), 3);

    let based = "FROM base:1\nCOPY <<x /added\nx\n";
    session
        .build(based, &["-t", "c", "--build-context", "base:1=named"])
        .success();
    assert_eq!(
        listing(&session, "c"),
        ["-rw-r--r-- 0/0 added", "-rw-r--r-- 0/0 file"]
    );
    let image = "base:1=docker-image://c";
    session
        .build(based, &["-t", "d", "--build-context", image])
        .success();
    let layout = session.path("layout");
    let layout = layout.to_str().unwrap();
    session.ok(&["image", "export", "a", "--type", "oci-dir", "-o", layout]);
    let layout = format!("base:1=oci-layout://{layout}");
    session
        .build(based, &["-t", "e", "--build-context", &layout])
        .success();
    assert_eq!(listing(&session, "e").len(), 3);

    // Nobody reads it, so nobody looks for it.
    let unread = format!("unread={}", server.url("/none.git"));
    session
        .build(
            based,
            &["--build-context", &unread, "--build-context", image],
        )
        .success();
    let said = session
        .build(copied, &["--build-context", "other=nowhere"])
        .failure();
    assert_eq!(said, "error: there is no directory `nowhere`\n");
    let said = session.build(copied, &["--build-context", "other"]);
    assert!(said.stderr.contains("NAME=CONTEXT"), "{said}");
}

#[test]
fn the_time_can_be_that_of_the_context() {
    let (session, _root) = fresh();
    repository(&session);
    let server = git_server(&session);
    let context = format!("{}?subdir=app", server.url("/one.git"));
    let arguments = [
        "build",
        "--print",
        "plan",
        "--format",
        "json",
        "--source-date-epoch",
        "context",
        &context,
    ];
    let plan = session.json(&arguments);
    assert_eq!(plan["epoch"], commit_time(&session));
}

/// When the only commit was made, in seconds since 1970.
fn commit_time(session: &Session) -> u64 {
    let repository = session.path("repositories/one.git");
    let time = output(&repository, "git", &["show", "-s", "--format=%ct"]);
    String::from_utf8(time).unwrap().trim().parse().unwrap()
}

#[test]
fn the_time_can_be_that_of_a_named_context_or_of_a_stage() {
    let (session, _root) = fresh();
    repository(&session);
    let server = git_server(&session);
    let (remote, time) = (server.url("/one.git"), commit_time(&session));
    session.write("context/file", "content");
    session.write(
        "context/Dockerfile",
        format!(
            "FROM scratch AS when\nADD {remote} /\n\
             FROM when AS other\n\
             FROM scratch AS more\nADD {remote} /\nWORKDIR /x\n\
             FROM scratch\nCOPY file /file\n"
        ),
    );
    let named = format!("there={remote}");
    let plan = ["build", "--print", "plan", "--format", "json", "context"];
    let plan = [&plan[..], &["--build-context", &named]].concat();
    for name in ["there", "when", "When"] {
        let found = session.json(&[&plan[..], &["--source-date-epoch", name]].concat());
        assert_eq!(found["epoch"], time, "{name}");
        let argument = format!("SOURCE_DATE_EPOCH={name}");
        let found = session.json(&[&plan[..], &["--build-arg", &argument]].concat());
        assert_eq!(found["epoch"], time, "{name}");
    }
    for name in ["other", "more", "nothing"] {
        let words = [&plan[..], &["--source-date-epoch", name]].concat();
        let failed = session.run(&words).failure();
        let expected = format!("`SOURCE_DATE_EPOCH` is `{name}`: not a number");
        assert!(failed.contains(&expected), "{failed}");
    }
    let check = ["build", "--check", "context", "--source-date-epoch", "when"];
    session.ok(&check);
}

#[test]
fn what_is_fetched_is_told() {
    let (session, _root) = fresh();
    let server = Server::start(|asked| match asked.path.as_str() {
        "/x/Dockerfile" => Answer::file(b"FROM scratch\nCOPY file /\n"),
        _ if asked.header("if-none-match").is_some() => Answer::status("304 Not Modified"),
        _ => Answer::new("200 OK", &[("ETag", "\"1\"")], b"four"),
    });
    let (dockerfile, file) = (server.url("/x/Dockerfile"), server.url("/x/file"));
    let plain = session.run(&["build", &dockerfile]).success().stderr;
    let told = |text: &str| {
        let about = |line: &&str| line.contains("fetch") || line.contains("changed");
        let lines = text.lines().filter(about);
        // Without how long it took.
        let words = lines.map(|line| line.split(" in ").next().unwrap().to_owned());
        words.collect::<Vec<_>>()
    };
    let expected = [
        format!("fetching {dockerfile}"),
        format!("fetched {dockerfile}: 25 B"),
        format!("fetching {file}"),
        format!("fetched {file}: 4 B"),
    ];
    assert_eq!(told(&plain), expected);
    let json = session.run(&["build", "--progress", "json", &dockerfile]);
    let events: Vec<serde_json::Value> = json
        .success()
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let times: Vec<f64> = events
        .iter()
        .map(|event| event["time"].as_f64().unwrap())
        .collect();
    assert!(times.is_sorted(), "{times:?}");
    let fetched = events.iter().filter(|event| event["event"] == "fetched");
    let fetched: Vec<_> = fetched
        .map(|event| (event["source"].as_str().unwrap(), event["bytes"].as_u64()))
        .collect();
    // The file's server knows an unchanged one.
    assert_eq!(fetched, [(dockerfile.as_str(), Some(25)), (&file, None)]);
    // The check and the plan say it as well, and on standard error.
    let checked = session.run(&["build", "--check", &dockerfile]).success();
    assert_eq!(told(&checked.stderr), expected[..2]);
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
