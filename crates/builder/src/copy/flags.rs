//! The rules of a copy's flags, one test each.

use super::trees::{FROM, Flags, flagged, not_found};
use super::*;

const NONE: Flags<'_> = Flags {
    owner: None,
    mode: None,
    exclude: &[],
    parents: false,
};

fn with_mode(mode: &str) -> Flags<'_> {
    Flags {
        mode: Some(mode),
        ..NONE
    }
}

fn excluding<'a>(exclude: &'a [&'a str]) -> Flags<'a> {
    Flags { exclude, ..NONE }
}

const PARENTS: Flags<'_> = Flags {
    parents: true,
    ..NONE
};

const DEEP: &[&str] = &[
    "f top.txt 644 0:0",
    "d x 711 3:4",
    "f x/a.txt 644 0:0",
    "f x/b.md 644 0:0",
    "d x/y 700 5:6",
    "f x/y/c.txt 600 0:0",
    "f x/y/d.md 600 0:0",
    "d z 755 0:0",
    "f z/a.txt 644 0:0",
    "l link x",
];

#[test]
fn a_mode_covers_files_and_every_directory_but_no_link() {
    let got = flagged(&[], FROM, &["dir"], "/n", with_mode("640")).unwrap();
    let expected = [
        "n/ 640 0:0",
        "n/hard 640 1:1 #3",
        "n/l -> /x",
        "n/sub/ 640 2:2",
        "n/x 640 1:1 #3",
    ];
    assert_eq!(got, expected);
}

#[test]
fn directories_that_are_made_take_the_raw_bits() {
    for (mode, parent, file) in [
        ("640", "640", "640"),
        // Without set-id and sticky bits.
        ("7755", "755", "7755"),
        ("1777", "777", "1777"),
        // A symbolic mode has no raw bits.
        ("u=rwx,go=", "755", "700"),
        ("a+x", "755", "751"),
    ] {
        let got = flagged(&[], FROM, &["a"], "/p/q/", with_mode(mode)).unwrap();
        assert_eq!(
            got,
            [
                format!("p/ {parent} 0:0"),
                format!("p/q/ {parent} 0:0"),
                format!("p/q/a {file} 0:0 #0")
            ],
            "{mode}"
        );
    }
}

#[test]
fn nested_directories_keep_set_id_bits_of_a_mode() {
    let got = flagged(&[], FROM, &["dir"], "/n", with_mode("3750")).unwrap();
    assert_eq!(got[0], "n/ 750 0:0");
    assert!(got.contains(&"n/sub/ 3750 2:2".to_owned()), "{got:?}");
}

#[test]
fn a_symbolic_mode_is_applied_to_what_each_entry_has() {
    let got = flagged(&[], FROM, &["dir"], "/n", with_mode("u=rwX,go=rX")).unwrap();
    let expected = [
        "n/ 755 0:0",
        "n/hard 644 1:1 #3",
        "n/l -> /x",
        "n/sub/ 755 2:2",
        "n/x 644 1:1 #3",
    ];
    assert_eq!(got, expected);
}

#[test]
fn an_existing_destination_keeps_its_mode_and_owner() {
    let flags = Flags {
        owner: Some((8, 9)),
        ..with_mode("600")
    };
    let got = flagged(&["d n 711 1:1"], FROM, &["dir/sub"], "/n", flags).unwrap();
    assert_eq!(got, ["n/ 711 1:1"]);
    let got = flagged(&["d n 711 1:1"], FROM, &["a"], "/n", flags).unwrap();
    assert_eq!(got, ["n/ 711 1:1", "n/a 600 8:9 #0"]);
}

#[test]
fn an_owner_covers_links_too() {
    let flags = Flags {
        owner: Some((8, 9)),
        ..NONE
    };
    let (lower, from) = (trees::tree(&[]), trees::tree(FROM));
    let sources = matches(&from, b"dir", &Exclude::default()).unwrap();
    let request = Request {
        parts: &[Part::Match(&sources[0])],
        destination: b"/n",
        owner: flags.owner,
        mode: None,
    };
    let upper = copy(&lower, &request).unwrap();
    let link = &upper.node(upper.lookup(b"n/l").unwrap()).metadata;
    assert_eq!((link.uid, link.gid, link.mode), (8, 9, 0o777));
}

#[test]
fn exclusions_are_relative_to_each_source() {
    for (words, exclude, expected) in [
        (
            &["x"][..],
            &["a.txt"][..],
            &["b.md", "y/", "y/c.txt", "y/d.md"][..],
        ),
        (&["x"], &["*.txt"], &["b.md", "y/", "y/c.txt", "y/d.md"]),
        (&["x"], &["**/*.txt"], &["b.md", "y/", "y/d.md"]),
        (
            &["x"],
            &["x/a.txt"],
            &["a.txt", "b.md", "y/", "y/c.txt", "y/d.md"],
        ),
        (&["x"], &["y"], &["a.txt", "b.md"]),
        (&["x"], &["/y/"], &["a.txt", "b.md"]),
        // What is excluded and has something to keep stays for it.
        (&["x"], &["*", "!y/c.txt"], &["y/", "y/c.txt"]),
        (
            &["x", "z"],
            &["a.txt"],
            &["b.md", "y/", "y/c.txt", "y/d.md"],
        ),
        (&["."], &["x", "z", "link"], &["top.txt"]),
        (&["link"], &["y"], &["a.txt", "b.md"]),
        // A directory that a wildcard found is one more source.
        (&["*"], &["a.txt", "y"], &["b.md", "top.txt"]),
        // A file that a wildcard found is held against the patterns by its name.
        (&["*.txt"], &["top*"], &[]),
        (&["x/*"], &["*.txt"], &["b.md", "d.md"]),
        // One that is named is not: it was asked for.
        (&["top.txt"], &["*.txt"], &["top.txt"]),
    ] {
        let got = flagged(&["d n 755 0:0"], DEEP, words, "/n/", excluding(exclude)).unwrap();
        let names: Vec<&str> = got
            .iter()
            .filter_map(|line| line.split(' ').next()?.strip_prefix("n/"))
            .filter(|name| !name.is_empty())
            .collect();
        assert_eq!(names, expected, "{words:?} without {exclude:?}");
    }
    let error = flagged(&[], DEEP, &["x"], "/n", excluding(&["["]));
    assert!(matches!(error, Err(CopyError::Pattern(_))), "{error:?}");
}

#[test]
fn parents_keep_their_paths_and_metadata() {
    for (word, expected) in [
        (
            "x/y/c.txt",
            &["x/ 711 3:4", "x/y/ 700 5:6", "x/y/c.txt 600"][..],
        ),
        ("./x/./y/c.txt", &["y/ 700 5:6", "y/c.txt 600"]),
        ("/x/y/./c.txt", &["c.txt 600"]),
        ("x/./**/*.md", &["b.md 644", "y/ 700 5:6", "y/d.md 600"]),
        (
            "**/*.md",
            &["x/ 711 3:4", "x/b.md 644", "x/y/ 700 5:6", "x/y/d.md 600"],
        ),
        (
            "*/a.txt",
            &["x/ 711 3:4", "x/a.txt 644", "z/ 755 0:0", "z/a.txt 644"],
        ),
        (
            "x/y",
            &[
                "x/ 711 3:4",
                "x/y/ 700 5:6",
                "x/y/c.txt 600",
                "x/y/d.md 600",
            ],
        ),
        // A link is copied, not followed.
        ("link", &["link ->"]),
        ("none*", &[]),
    ] {
        let got = flagged(&[], DEEP, &[word], "/", PARENTS).unwrap();
        let matching = got
            .iter()
            .zip(expected)
            .all(|(got, expected)| got.starts_with(expected));
        assert!(matching && got.len() == expected.len(), "{word}: {got:?}");
    }
    assert_eq!(
        flagged(&[], DEEP, &["x/none"], "/", PARENTS),
        Err(not_found("x/none", &[]))
    );
    // Nothing is found behind a link, and no link is followed.
    assert_eq!(
        flagged(&[], DEEP, &["link/a.txt"], "/", PARENTS),
        Err(not_found("link/a.txt", &[]))
    );
    for (link, expected) in [("dangling", "dangling -> none"), ("loop", "loop -> loop")] {
        let got = flagged(&[], FROM, &[link], "/", PARENTS).unwrap();
        assert_eq!(got, [expected]);
    }
    assert_eq!(
        flagged(&[], DEEP, &["x/./a.text"], "/", PARENTS),
        Err(not_found("x/./a.text", &["x/a.txt"]))
    );
}

#[test]
fn parents_that_exist_take_only_the_bits() {
    let lower = ["d n 755 0:0", "d n/x 777 1:1", "d n/x/y 777 1:1"];
    let got = flagged(&lower, DEEP, &["x/y/c.txt"], "/n", PARENTS).unwrap();
    assert_eq!(got[..3], ["n/ 755 0:0", "n/x/ 711 1:1", "n/x/y/ 700 1:1"]);
    let got = flagged(&lower, DEEP, &["x/y"], "/n", PARENTS).unwrap();
    assert_eq!(got[..3], ["n/ 755 0:0", "n/x/ 711 1:1", "n/x/y/ 700 5:6"]);
}

#[test]
fn parents_and_exclusions_go_together() {
    let flags = Flags {
        exclude: &["x/y/d.md"],
        ..PARENTS
    };
    let got = flagged(&[], DEEP, &["**/*.md"], "/", flags).unwrap();
    assert_eq!(got, ["x/ 711 3:4", "x/b.md 644 0:0 #3"]);
    // Relative to what stands before the pivot.
    let flags = Flags {
        exclude: &["y/d.md"],
        ..PARENTS
    };
    let got = flagged(&[], DEEP, &["x/./**/*.md"], "/", flags).unwrap();
    assert_eq!(got, ["b.md 644 0:0 #3"]);
}
