//! The flags of COPY and ADD, and archives, from a Dockerfile to an image. No VM.

use std::path::Path;
use std::process::Command;

use crate::files::{built, cached, listing, place_failure};
use crate::place::Place;

/// Checks that the last image has these lines, and how many below each `prefix/` there are.
fn expect(place: &Place, prefix: &str, expected: &[&str]) {
    let listed = listing(place);
    let below: Vec<&str> = listed
        .iter()
        .map(String::as_str)
        .filter(|line| {
            let path = line.split(' ').nth(3).unwrap_or_default();
            path.starts_with(prefix)
        })
        .collect();
    assert_eq!(below, expected);
}

fn tar(place: &Place, arguments: &[&str]) {
    let mut command = Command::new("tar");
    command.current_dir(place.root().join("context"));
    assert!(command.args(arguments).status().unwrap().success());
}

fn sample() -> Place {
    let place = Place::new();
    for (path, text) in [
        ("src/a.txt", "a"),
        ("src/b.md", "bb"),
        ("src/deep/c.txt", "ccc"),
        ("other/a.txt", "dddd"),
        ("etc/passwd", "app:x:7:8::/:/bin/sh\n"),
        ("etc/group", "app:x:8:\nweb:x:9:\n"),
    ] {
        place.write(path, text);
    }
    place
}

#[test]
fn a_mode_is_given_in_octal_or_symbols() {
    let place = sample();
    built(
        &place,
        "FROM scratch\nCOPY --chmod=640 src /x\nCOPY --chmod=u=rwX,go=rX src /y/\nARG M=4711\nCOPY --chmod=$M src/a.txt /z/\n",
    );
    expect(
        &place,
        "x/",
        &[
            "drw-r----- 0/0 0 x/",
            "-rw-r----- 0/0 1 x/a.txt",
            "-rw-r----- 0/0 2 x/b.md",
            "drw-r----- 0/0 0 x/deep/",
            "-rw-r----- 0/0 3 x/deep/c.txt",
        ],
    );
    expect(
        &place,
        "y/d",
        &["drwxr-xr-x 0/0 0 y/deep/", "-rw-r--r-- 0/0 3 y/deep/c.txt"],
    );
    expect(
        &place,
        "z/",
        &["drwx--x--x 0/0 0 z/", "-rws--x--x 0/0 1 z/a.txt"],
    );
}

#[test]
fn exclusions_and_parents_choose_what_is_copied() {
    let place = sample();
    let text = "FROM scratch\nCOPY --exclude=*.md --exclude=deep src /x/\nCOPY --parents **/a.txt /y/\n\
                COPY --parents src/./deep/c.txt other/a.txt /z/\n";
    built(&place, text);
    expect(
        &place,
        "x/",
        &["drwxr-xr-x 0/0 0 x/", "-rw-r--r-- 0/0 1 x/a.txt"],
    );
    let mut expected = vec![
        "drwxr-xr-x 0/0 0 y/",
        "drwxr-xr-x 0/0 0 y/other/",
        "-rw-r--r-- 0/0 4 y/other/a.txt",
        "drwxr-xr-x 0/0 0 y/src/",
        "-rw-r--r-- 0/0 1 y/src/a.txt",
    ];
    expect(&place, "y/", &expected);
    expected = vec![
        "drwxr-xr-x 0/0 0 z/",
        "drwxr-xr-x 0/0 0 z/deep/",
        "-rw-r--r-- 0/0 3 z/deep/c.txt",
        "drwxr-xr-x 0/0 0 z/other/",
        "-rw-r--r-- 0/0 4 z/other/a.txt",
    ];
    expect(&place, "z/", &expected);
    // What is excluded is not read for the cache either.
    place.write("src/b.md", "changed");
    assert_eq!(
        cached(&built(&place, text)),
        ["stage-0 2", "stage-0 3", "stage-0 4"]
    );
    let error = place_failure(&place, "FROM scratch\nCOPY --parents src/none /\n");
    assert!(error.ends_with("`src/none` not found"), "{error}");
}

#[test]
fn a_link_makes_a_layer_that_looks_at_nothing_below() {
    let place = sample();
    let below = |first: &str| {
        format!(
            "FROM scratch\nCOPY --chmod=700 --chown=3:4 {first} /opt/\nCOPY --link --chown=7:8 src/a.txt /opt/lower/\n"
        )
    };
    built(&place, &below("src/a.txt"));
    expect(
        &place,
        "opt/",
        &[
            "drwxr-xr-x 7/8 0 opt/",
            "-rwx------ 3/4 1 opt/a.txt",
            "drwxr-xr-x 7/8 0 opt/lower/",
            "-rw-r--r-- 7/8 1 opt/lower/a.txt",
        ],
    );
    // Something else below, and the same layer.
    assert_eq!(cached(&built(&place, &below("src/b.md"))), ["stage-0 3"]);
    // A link in the destination's place is replaced, and not followed.
    std::os::unix::fs::symlink("/elsewhere", place.root().join("context/src/opt")).unwrap();
    let text = "FROM scratch\nCOPY src /\nCOPY --link src/a.txt /opt/\nCOPY src/b.md /opt/\n";
    built(&place, text);
    expect(
        &place,
        "opt",
        &[
            "drwxr-xr-x 0/0 0 opt/",
            "-rw-r--r-- 0/0 1 opt/a.txt",
            "-rw-r--r-- 0/0 2 opt/b.md",
        ],
    );
    // With a mode it is an ordinary copy.
    let text = "FROM scratch\nCOPY src /\nCOPY --link --chmod=600 src/a.txt /opt/\n";
    built(&place, text);
    expect(&place, "elsewhere/a", &["-rw------- 0/0 1 elsewhere/a.txt"]);
    for flags in ["--chown=app", "--chown=0:web"] {
        let text = format!("FROM scratch\nCOPY etc /etc/\nCOPY --link {flags} src /x\n");
        let error = place_failure(&place, &text);
        assert!(error.contains("`--link` copies without looking"), "{error}");
        built(&place, &text.replace("--link ", ""));
    }
}

#[test]
fn sources_that_are_missing_are_named_and_others_offered() {
    let place = sample();
    place.write("ignored.txt", "");
    place.write(".dockerignore", "ignored.txt\n");
    for (word, expected, hint) in [
        (
            "src/a.text",
            "`src/a.text` not found",
            "did you mean `src/a.txt`?",
        ),
        ("scr/a.txt", "`scr/a.txt` not found", "did you mean `src`?"),
        (
            "ignored.txt",
            "`ignored.txt` not found",
            "`.dockerignore` leaves it out",
        ),
    ] {
        let told = place.build(&format!("FROM scratch\nCOPY src/b.md {word} /x/\n"));
        let Err(firebuild_builder::Error::Step { source, .. }) = told.result else {
            panic!("{word}");
        };
        assert_eq!(source.to_string(), expected);
        assert_eq!(source.item(), Some(1));
        let found = source.hint().unwrap_or_default();
        assert!(found.contains(hint), "{word}: {found}");
    }
}

#[test]
fn archives_are_unpacked_by_their_content() {
    let place = sample();
    for (flag, name) in [
        ("-cf", "plain"),
        ("-czf", "zipped.txt"),
        ("-cjf", "b"),
        ("-cJf", "x.zip"),
    ] {
        tar(
            &place,
            &[
                "--owner=3",
                "--group=4",
                "--numeric-owner",
                flag,
                name,
                "-C",
                "src",
                ".",
            ],
        );
    }
    tar(
        &place,
        &[
            "--owner=3",
            "--group=4",
            "--zstd",
            "-cf",
            "z",
            "-C",
            "src",
            ".",
        ],
    );
    let zipped = Command::new("gzip")
        .args(["-k", "a.txt"])
        .current_dir(place.root().join("context/src"))
        .status();
    assert!(zipped.unwrap().success());
    for name in ["plain", "zipped.txt", "b", "x.zip", "z"] {
        built(&place, &format!("FROM scratch\nADD {name} /d\n"));
        expect(
            &place,
            "d/",
            &[
                "drwxr-xr-x 0/0 0 d/",
                "-rw-r--r-- 3/4 1 d/a.txt",
                "-rw-r--r-- 3/4 2 d/b.md",
                "drwxr-xr-x 3/4 0 d/deep/",
                "-rw-r--r-- 3/4 3 d/deep/c.txt",
            ],
        );
        for text in [
            format!("COPY {name} /d/x"),
            format!("ADD --unpack=false {name} /d/x"),
        ] {
            built(&place, &format!("FROM scratch\n{text}\n"));
            let listed = listing(&place);
            assert!(
                listed.iter().any(|line| line.ends_with(" d/x")),
                "{listed:?}"
            );
        }
    }
    // Compressed, and no archive.
    built(&place, "FROM scratch\nADD src/a.txt.gz /d/\n");
    assert!(
        listing(&place)
            .iter()
            .any(|line| line.ends_with(" d/a.txt.gz"))
    );
}

#[test]
fn an_archives_flags_and_links_mean_what_they_should() {
    let place = sample();
    tar(
        &place,
        &["--owner=3", "--group=4", "-cf", "a.tar", "src/deep/c.txt"],
    );
    built(
        &place,
        "FROM scratch\nADD --chown=5:6 --chmod=600 a.tar /p/d\n",
    );
    expect(
        &place,
        "p/",
        &[
            "drwxr-xr-x 5/6 0 p/",
            "drwxr-xr-x 5/6 0 p/d/",
            "drwxr-xr-x 0/0 0 p/d/src/",
            "drwxr-xr-x 0/0 0 p/d/src/deep/",
            "-rw-r--r-- 5/6 3 p/d/src/deep/c.txt",
        ],
    );
    // A link that is there already is followed, from the destination.
    let links = place.root().join("context/links");
    fs_err::create_dir(&links).unwrap();
    std::os::unix::fs::symlink("/real", links.join("src")).unwrap();
    built(&place, "FROM scratch\nCOPY links /d/\nADD a.tar /d/\n");
    expect(
        &place,
        "d/real",
        &[
            "drwxr-xr-x 0/0 0 d/real/",
            "drwxr-xr-x 0/0 0 d/real/deep/",
            "-rw-r--r-- 3/4 3 d/real/deep/c.txt",
        ],
    );
    fs_err::remove_file(links.join("src")).unwrap();
    std::os::unix::fs::symlink("../../etc", links.join("src")).unwrap();
    let error = place_failure(&place, "FROM scratch\nCOPY links /d/\nADD a.tar /d/\n");
    assert!(
        error.ends_with("leads out of the destination through a symbolic link"),
        "{error}"
    );
    tar(
        &place,
        &[
            "-P",
            "-cf",
            "evil.tar",
            "--transform=s,^,../,",
            "etc/passwd",
        ],
    );
    let error = place_failure(&place, "FROM scratch\nADD evil.tar /d/\n");
    assert!(
        error.contains("cannot unpack `evil.tar` <- entry `../etc/passwd`"),
        "{error}"
    );
    assert!(Path::new("/etc/passwd").exists());
}
