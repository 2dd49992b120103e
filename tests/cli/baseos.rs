//! `baseos --dockerfile`: bases called after what they were made from.

use crate::copies::listing;
use crate::session as fresh;
use crate::session::Session;

/// A base called `os:1`, with one file.
fn start(session: &Session) -> String {
    session.write("first/file", "content");
    let dockerfile = session.write("first/Dockerfile", "FROM scratch\nCOPY file /first\n");
    let dockerfile = dockerfile.to_str().unwrap();
    session.ok(&["baseos", "--dockerfile", dockerfile, "--tag", "os:1"])
}

#[test]
fn a_base_is_called_after_what_it_was_made_from() {
    let (session, _root) = fresh();
    let below = start(&session);
    let text = "ARG version=0\nFROM os:$version AS one\nCOPY file /second\nFROM one\nENV a=b\n";
    session.write("os/Dockerfile", text);
    session.write("os/file", "content");
    let words = [
        "baseos",
        "--dockerfile",
        "os/Dockerfile",
        "--build-arg",
        "version=1",
    ];
    let made = session.ok(&words);
    let files = ["-rw-r--r-- 0/0 first", "-rw-r--r-- 0/0 second"];
    assert_eq!(listing(&session, "os:1"), files);
    // What it was made from is still there, and is what the same is made from again.
    let pinned = format!("os:1@{}", below.trim_end());
    let inspected = session.json(&["image", "inspect", &pinned]);
    assert_eq!(inspected["Digest"], below.trim_end());
    assert!(session.ok(&["images"]).contains(&pinned));
    assert_eq!(session.ok(&words), made);
    session.write("os/file", "other");
    session.ok(&words);
    let layers = &session.json(&["image", "inspect", "os:1"])["Layers"];
    assert_eq!(layers.as_array().unwrap().len(), 2);
    assert_eq!(listing(&session, "os:1"), files);
    assert_eq!(session.json(&["image", "inspect", &pinned]), inspected);
    // Another build means the base by that name, and `--tag` gives another one.
    session.ok(&[
        "baseos",
        "--dockerfile",
        "os/Dockerfile",
        "--build-arg=version=1",
        "-t",
        "new",
    ]);
    session
        .build("FROM os:1\nCOPY Dockerfile /third\n", &["-t", "app:1"])
        .success();
    assert_eq!(listing(&session, "app:1").len(), 3);
    assert_eq!(listing(&session, "new"), files);
    session.ok(&["tag", "os:1", "copy:1"]);
    session.write("copy/Dockerfile", "FROM copy:1\nCOPY Dockerfile /third\n");
    session.ok(&[
        "baseos",
        "--dockerfile",
        "copy/Dockerfile",
        "-t",
        "copied:1",
    ]);
    assert_eq!(listing(&session, "copied:1").len(), 3);
    // Without that, it is not made from itself.
    session.ok(&["tag", &pinned, "aside:1"]);
    session.ok(&["rmi", &pinned, "aside:1"]);
    let said = session.run(&words).failure();
    assert!(said.contains("is not in the store"), "{said}");
    // Another image of that name is one that bases begin with.
    session.ok(&["tag", "app:1", "os:1"]);
    session.ok(&words);
    assert_eq!(listing(&session, "os:1").len(), 3);
}

#[test]
fn what_is_missing_or_too_much_is_said() {
    let (session, _root) = fresh();
    start(&session);
    session.write("none/Dockerfile", "FROM scratch\nENV a=b\n");
    let digest = start(&session);
    let pinned = format!("FROM os:1@{digest}ENV a=b\n");
    session.write("pinned/Dockerfile", pinned);
    let cases: [(&[&str], &str); 7] = [
        (
            &["baseos"],
            "error: it is not said what the base is made of\nhint: give `--dockerfile FILE`, or `--bootstrap debian:SUITE` to make it from packages\n",
        ),
        (
            &["baseos", "--dockerfile", "none/Dockerfile"],
            "error: the Dockerfile's FROM names no image that the base could be called after\nhint: give it a name with `--tag NAME:TAG`\n",
        ),
        (
            &["baseos", "--dockerfile", "pinned/Dockerfile"],
            "error: the Dockerfile's FROM names an image by its digest, which is not the base's\nhint: give it a name with `--tag NAME:TAG`\n",
        ),
        (
            &[
                "baseos",
                "--dockerfile",
                "x",
                "--bootstrap",
                "debian:bookworm",
            ],
            "error: the argument '--dockerfile <FILE>' cannot be used with '--bootstrap <DISTRIBUTION:SUITE>'",
        ),
        (
            &["baseos", "--dockerfile", "x", "--include", "curl"],
            "error: the argument '--dockerfile <FILE>' cannot be used with '--include <PKG,PKG>'",
        ),
        (
            &["baseos", "--dockerfile", "x/Dockerfile", "-t", "x"],
            "error: there is no directory `x`",
        ),
        (
            &["baseos", "--docker-image", "os:1"],
            "error: it is not said what the base is made of",
        ),
    ];
    for (arguments, said) in cases {
        let shown = session.run(arguments).failure();
        assert!(shown.starts_with(said), "{arguments:?}: {shown}");
    }
}
