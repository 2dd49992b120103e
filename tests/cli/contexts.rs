//! Files and Dockerfiles from elsewhere: standard input, web servers, repositories, named contexts.

use crate::copies::listing;
use crate::server::{Answer, Server};
use crate::session as fresh;
use crate::sources::{
    after_fetching, archive, commit_time, git_server, output, repository, with_input,
};

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
