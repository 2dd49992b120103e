//! What comes from elsewhere and is not what it should be: one clear error each, with its place, and
//! nothing under the tag.

use std::process::Command;

use crate::server::{Answer, Server};
use crate::session as fresh;
use crate::session::{Session, output_of};
use crate::sources::{git_server, repository};

/// Instructions that must fail, what is said, and the column of what is marked.
fn refused(session: &Session, cases: &[(&str, &str, u32)]) {
    for (line, said, column) in cases {
        let text = format!("FROM scratch\nCOPY <<a /b\na\nENV A=1\n{line}\n");
        let shown = session.build(&text, &["-t", "broken"]).failure();
        let mut errors = shown.lines().filter(|text| text.starts_with("error: "));
        assert!(errors.next().is_some(), "{line}: {shown}");
        assert_eq!(errors.next(), None, "{line}: {shown}");
        assert!(shown.contains(said), "{line}: {shown}");
        let place = format!(" --> context/Dockerfile:5:{column}\n");
        assert!(shown.contains(&place), "{line}: {shown}");
        // No name, and nothing half-made.
        assert_eq!(session.ok(&["images"]).lines().count(), 1, "{line}");
        let left = fs_err::read_dir(session.root().join("v1/tmp")).unwrap();
        assert_eq!(left.count(), 0, "{line}");
    }
}

#[test]
fn downloads() {
    let (session, _root) = fresh();
    let server = Server::start(|asked| match asked.path.as_str() {
        "/file" => Answer::file(b"text"),
        _ => Answer::status("404 Not Found"),
    });
    let (file, none) = (server.url("/file"), server.url("/none"));
    let (zeros, right) = (
        "0".repeat(64),
        "982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1",
    );
    let cases = [
        (
            format!("ADD {none} /x"),
            format!("`{none}` could not be fetched: the server answers 404 (it is not there)"),
            1,
        ),
        (
            format!("ADD {file} {none} /x/"),
            format!("`{none}` could not be fetched"),
            1,
        ),
        (
            format!("ADD --checksum=sha256:{zeros} {file} /x"),
            format!("`{file}` has the digest sha256:{right}, but sha256:{zeros} was expected"),
            1,
        ),
        (
            "ADD http://127.0.0.1:1/x /x".to_owned(),
            "`http://127.0.0.1:1/x` could not be fetched".to_owned(),
            1,
        ),
        (
            format!("ADD --checksum=sha256:12 {file} /x"),
            "sha256:12".to_owned(),
            16,
        ),
        (
            format!("ADD --checksum=md5:{zeros} {file} /x"),
            "md5".to_owned(),
            16,
        ),
    ];
    let cases: Vec<(&str, &str, u32)> = cases
        .iter()
        .map(|(line, said, column)| (line.as_str(), said.as_str(), *column))
        .collect();
    refused(&session, &cases);
}

#[test]
fn repositories() {
    let (session, _root) = fresh();
    let commit = repository(&session);
    let server = git_server(&session);
    let (one, two) = (server.url("/one.git"), server.url("/two.git"));
    let cases = [
        (
            format!("ADD {one}#mian /x"),
            "has no branch, tag or commit `mian`".to_owned(),
        ),
        (format!("ADD {one}?tag=main /x"), "has no".to_owned()),
        (
            format!("ADD {one}#main:none /x"),
            "has no directory `none`".to_owned(),
        ),
        (format!("ADD {two} /x"), "there is no repository".to_owned()),
        (
            format!("ADD --checksum={} {one}#main /x", "1".repeat(40)),
            commit.clone(),
        ),
        (
            format!("ADD {one}#{} /x", "1".repeat(40)),
            "1111111".to_owned(),
        ),
    ];
    let cases: Vec<(&str, &str, u32)> = cases
        .iter()
        .map(|(line, said)| (line.as_str(), said.as_str(), 1))
        .collect();
    refused(&session, &cases);
    // The beginning of the right one will do.
    let text = format!(
        "FROM scratch\nADD --checksum={} {one}#main:app /x\n",
        &commit[..10]
    );
    session.build(&text, &[]).success();
}

fn shell(session: &Session, script: &str) {
    let context = session.path("context");
    fs_err::create_dir_all(&context).unwrap();
    let mut command = Command::new("sh");
    command.args(["-ec", script]).current_dir(context);
    assert!(command.status().unwrap().success(), "{script}");
}

#[test]
fn archives() {
    let (session, _root) = fresh();
    shell(
        &session,
        "mkdir d; echo text >d/file; ln -s ../../.. d/up; ln d/file d/hard; ln -s loop loop
         tar -cPf up.tar --transform=s,^d/file,../../file, d/file
         tar -cPf absolute.tar --transform=s,^d/file,/deep/file, d/file
         tar -cf through.tar d/up; tar -rf through.tar --transform=s,^d/file,d/up/etc/file, d/file
         tar -cf hard.tar d/file d/hard; tar --delete -f hard.tar d/file
         truncate -s 2G sparse; tar -cSf bomb.tar sparse; gzip -k bomb.tar
         tar -cz d | head -c 100 >cut.tar.gz; tar -c d | head -c 1500 >cut.tar
         truncate -s 1T sparse; tar -cSf holes.tar sparse; rm sparse",
    );
    refused(
        &session,
        &[
            ("ADD up.tar /x/", "`../../file`", 5),
            (
                "ADD through.tar /x/",
                "leads out of the destination through a symbolic link",
                1,
            ),
            (
                "ADD hard.tar /x/",
                "`d/hard` is a hard link to `d/file`, which the archive does not have before it",
                1,
            ),
            ("ADD bomb.tar.gz /x/", "1000", 5),
            ("ADD cut.tar.gz /x/", "cut off", 5),
            ("ADD cut.tar /x/", "cut off", 5),
            ("ADD holes.tar /x/", "too large", 5),
        ],
    );
    // An absolute path begins at the destination.
    session
        .build("FROM scratch\nADD absolute.tar /x/\n", &["-t", "a"])
        .success();
    let listed = crate::copies::listing(&session, "a");
    assert_eq!(
        listed,
        [
            "drwxr-xr-x 0/0 x/",
            "drwxr-xr-x 0/0 x/deep/",
            "-rw-r--r-- 0/0 x/deep/file"
        ]
    );
    assert!(!output_of("ls", &["-a", "/"]).contains("deep"));
}

#[test]
fn loops_of_links() {
    let (session, _root) = fresh();
    shell(
        &session,
        "ln -s loop loop; ln -s two one; ln -s one two; mkdir d; ln -s .. d/up; echo a >d/file",
    );
    refused(
        &session,
        &[
            (
                "COPY loop /x",
                "`loop` leads through more than 40 symbolic links",
                6,
            ),
            (
                "COPY one/two/three /x",
                "leads through more than 40 symbolic links",
                6,
            ),
            (
                "COPY lo* /x/",
                "`loop` leads through more than 40 symbolic links",
                1,
            ),
            (
                "ADD d/file two /x/",
                "leads through more than 40 symbolic links",
                12,
            ),
        ],
    );
    // What nobody follows is copied as it is.
    session
        .build(
            "FROM scratch\nCOPY d /x/\nCOPY . /y/\nCOPY d/up/d/up/d/file /z\nCOPY --parents one /p/\n",
            &["-t", "a"],
        )
        .success();
    let listed = crate::copies::listing(&session, "a");
    for line in [
        "lrwxrwxrwx 0/0 x/up -> ..",
        "lrwxrwxrwx 0/0 y/loop -> loop",
        "-rw-r--r-- 0/0 z",
        "lrwxrwxrwx 0/0 p/one -> two",
    ] {
        assert!(listed.iter().any(|one| one == line), "{listed:?}");
    }
}
