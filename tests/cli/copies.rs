//! Builds that need no VM: copies alone, resolved on the host.

use crate::server::{Answer, Server};
use crate::session as fresh;
use crate::session::{Session, output_of};

/// The names, owners, modes and sizes of an image's files, as GNU tar reads its export.
pub(crate) fn listing(session: &Session, image: &str) -> Vec<String> {
    let archive = session.path("export.tar");
    let archive = archive.to_str().unwrap();
    session.ok(&[
        "image",
        "export",
        image,
        "--type",
        "rootfs-tar",
        "-o",
        archive,
    ]);
    let text = output_of("tar", &["--numeric-owner", "-tvf", archive]);
    fs_err::remove_file(archive).unwrap();
    text.lines()
        .filter(|line| !line.ends_with(" ./"))
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            // Mode, owner and name; links go on after the name.
            format!("{} {} {}", words[0], words[1], words[5..].join(" "))
        })
        .collect()
}

#[test]
fn files_get_their_places_and_owners() {
    let (session, _root) = fresh();
    session.write("context/a", "a");
    session.write("context/tree/b", "b");
    session.write("context/tree/deep/c", "c");
    session
        .build(
            "\
FROM scratch AS files
COPY tree /from
FROM scratch
COPY a /bin/
COPY --chown=5:6 a /renamed
COPY --from=files /from/deep /copied
COPY <<EOF /etc/motd
hello
EOF
",
            &["-t", "org/app:1"],
        )
        .success();
    assert_eq!(
        listing(&session, "org/app:1"),
        [
            "drwxr-xr-x 0/0 bin/",
            "-rw-r--r-- 0/0 bin/a",
            "drwxr-xr-x 0/0 copied/",
            "-rw-r--r-- 0/0 copied/c",
            "drwxr-xr-x 0/0 etc/",
            "-rw-r--r-- 0/0 etc/motd",
            "-rw-r--r-- 5/6 renamed",
        ]
    );
}

#[test]
fn what_dockerignore_names_stays_out() {
    let (session, _root) = fresh();
    for name in ["keep", "secret.key", "logs/a.log", "logs/keep.log"] {
        session.write(&format!("context/{name}"), name);
    }
    session.write(
        "context/.dockerignore",
        "*.key\nlogs\n!logs/keep.log\nDockerfile\n.dockerignore\n",
    );
    session
        .build("FROM scratch\nCOPY . /\n", &["-t", "ignored"])
        .success();
    assert_eq!(
        listing(&session, "ignored"),
        [
            "-rw-r--r-- 0/0 keep",
            "drwxr-xr-x 0/0 logs/",
            "-rw-r--r-- 0/0 logs/keep.log",
        ]
    );
}

#[test]
fn names_of_owners_come_from_the_image() {
    let (session, _root) = fresh();
    session.write(
        "base/etc/passwd",
        "root:x:0:0::/:/bin/sh\napp:x:1000:1001::/:/bin/sh\n",
    );
    session.write("base/etc/group", "root:x:0:\nstaff:x:50:\n");
    let archive = session.path("base.tar");
    let base = session.path("base");
    output_of(
        "tar",
        &[
            "--owner=0",
            "--group=0",
            "-cf",
            archive.to_str().unwrap(),
            "-C",
            base.to_str().unwrap(),
            "etc",
        ],
    );
    session.ok(&["image", "import", "base.tar", "--tag", "base:1"]);
    session.write("context/f", "f");
    session
        .build(
            "FROM base:1\nUSER app\nCOPY --chown=app f /1\nCOPY --chown=app:staff f /2\nCOPY f /3\n",
            &["-t", "owned"],
        )
        .success();
    let files = listing(&session, "owned");
    for wanted in [
        "-rw-r--r-- 1000/1001 1",
        "-rw-r--r-- 1000/50 2",
        "-rw-r--r-- 0/0 3",
    ] {
        assert!(files.iter().any(|file| file == wanted), "{files:?}");
    }
}

#[test]
fn a_link_does_not_lead_out_of_the_context() {
    let (session, _root) = fresh();
    session.write("context/inner", "inner");
    session.write("outside", "outside");
    std::os::unix::fs::symlink("../outside", session.path("context/link")).unwrap();
    std::os::unix::fs::symlink("/inner", session.path("context/absolute")).unwrap();
    let shown = session.build("FROM scratch\nCOPY link /\n", &[]).failure();
    assert!(shown.contains("not found"), "{shown}");
    session
        .build("FROM scratch\nCOPY absolute /file\n", &["-t", "link"])
        .success();
    assert_eq!(listing(&session, "link"), ["-rw-r--r-- 0/0 file"]);
}

#[test]
fn a_source_that_is_missing_is_marked_and_another_offered() {
    let (session, _root) = fresh();
    session.write("context/conf/app.toml", "");
    let error = session
        .build("FROM scratch\nCOPY conf \\\n  conf/app.tml /etc/\n", &[])
        .failure();
    let expected = "\
error: stage `stage-0`: `conf/app.tml` not found
 --> context/Dockerfile:3:3
  |
3 |   conf/app.tml /etc/
  |   ^^^^^^^^^^^^
  |
  = hint: did you mean `conf/app.toml`?
";
    assert!(error.ends_with(expected), "{error}");
    session.write("context/.dockerignore", "conf/*.toml\n");
    let error = session
        .build("FROM scratch\nCOPY conf/app.toml /etc/\n", &[])
        .failure();
    assert!(
        error.ends_with("= hint: it is in the context, but `.dockerignore` leaves it out\n"),
        "{error}"
    );
}

#[test]
fn a_name_that_means_something_else_in_a_layer_is_refused_with_its_line() {
    let (session, _root) = fresh();
    session.write("context/d/.wh.x", "");
    let packed = session.path("context/packed.tar").display().to_string();
    let directory = session.path("context").display().to_string();
    output_of("tar", &["-cf", &packed, "-C", &directory, "d"]);
    for (instruction, path) in [
        ("COPY d /to/", "to/.wh.x"),
        ("ADD packed.tar /to", "to/d/.wh.x"),
        ("WORKDIR /.wh.y", ".wh.y"),
    ] {
        let text = format!("FROM scratch\n{instruction}\n");
        let marks = "^".repeat(instruction.len());
        let said = session.build(&text, &["-t", "none"]).failure();
        let (_, said) = said.split_once("failed\n").unwrap();
        let expected = format!(
            "\
error: stage `stage-0`: `/{path}` cannot be in an image: in a layer, a name that begins with `.wh.` says that another file is removed
 --> context/Dockerfile:2:1
  |
2 | {instruction}
  | {marks}
  |
  = hint: leave it out, by an ignore file or `--exclude`, or give it another name
"
        );
        assert_eq!(said, expected);
    }
    session
        .build("FROM scratch\nCOPY --exclude=.wh.* d /to/\n", &[])
        .success();
}

/// Who makes an archive or a repository has left out what is not for others.
#[test]
fn ignore_files_are_for_directories() {
    let (session, _root) = fresh();
    session.write("packed/Dockerfile", "FROM scratch\nCOPY f* /\n");
    session.write("packed/file", "text");
    session.write("packed/.dockerignore", "file\n");
    let directory = session.path("packed");
    let packed = session.path("packed.tar");
    let (directory, packed) = (directory.to_str().unwrap(), packed.to_str().unwrap());
    output_of("tar", &["-cf", packed, "-C", directory, "."]);
    session.ok(&["build", "-t", "directory", "packed"]);
    assert_eq!(listing(&session, "directory"), [""; 0]);
    let archive = fs_err::read(packed).unwrap();
    let server = Server::start(move |_| Answer::file(&archive));
    session.ok(&["build", "-t", "archive", &server.url("/packed.tar")]);
    assert_eq!(listing(&session, "archive"), ["-rw-r--r-- 0/0 file"]);
    // One that lies beside the Dockerfile takes the place of the context's, and is not merged.
    session.write(
        "packed/other",
        "FROM scratch\nCOPY [\"fi*\", \".d*\", \"/\"]\n",
    );
    session.write(
        "packed/other.dockerignore",
        "\u{feff}# nothing\n.dockerignore\n",
    );
    session.ok(&["build", "-t", "beside", "-f", "packed/other", "packed"]);
    assert_eq!(listing(&session, "beside"), ["-rw-r--r-- 0/0 file"]);
    session.write("packed/.dockerignore", "a\n !\n");
    let said = session.run(&["build", "packed"]).failure();
    assert!(said.contains(".dockerignore"), "{said}");
}
