//! `ADD` of addresses: what is fetched, by whom, how it is told, and when it is not fetched again.

use std::process::Command;

use crate::copies::listing;
use crate::server::{Answer, Server};
use crate::session as fresh;
use crate::session::{Outcome, output_of};

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
