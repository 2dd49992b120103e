//! A table of copies that people write, and what comes of them.

use firebuild_core::tree::{Device, Kind, Metadata, Node, Timestamp, Tree};

use super::trees::{FROM, copied, tree};
use super::*;

/// What is there, the words, the destination, and what is added: or why nothing is.
type Case<'a> = (
    &'a [&'a str],
    &'a [&'a str],
    &'a str,
    Result<&'a [&'a str], &'a str>,
);

const CASES: &[Case<'_>] = &[
    // Several sources: the first that is a directory makes one of the destination.
    (
        &[],
        &["dir/sub", "a"],
        "/m",
        Ok(&["m/ 755 0:0", "m/a 640 0:0 #0"]),
    ),
    (
        &[],
        &["a", "dir"],
        "/m",
        Err("cannot copy a directory to `/m`, which is not a directory"),
    ),
    (&[], &["[a]"], "/m", Ok(&["m 640 0:0 #0"])),
    (
        &[],
        &["[ab]"],
        "/m",
        Err(
            "several files would be copied to the one path `/m`; end the destination with `/` to copy them into a directory",
        ),
    ),
    (
        &[],
        &["[ab]"],
        "/m/",
        Ok(&["m/ 755 0:0", "m/a 640 0:0 #0", "m/b 600 0:0 #1"]),
    ),
    (
        &["d m 711 1:1"],
        &["a", "b"],
        "/m",
        Ok(&["m/ 711 1:1", "m/a 640 0:0 #0", "m/b 600 0:0 #1"]),
    ),
    (
        &[],
        &["a", "a"],
        "/m/",
        Ok(&["m/ 755 0:0", "m/a 640 0:0 #0"]),
    ),
    // The root.
    (&[], &["a"], "/", Ok(&["a 640 0:0 #0"])),
    (&[], &["dir/sub"], "/", Ok(&[])),
    (&[], &["dir/x", "dir/l"], "/", Err("`dir/l` not found")),
    (
        &["d sub 711 1:1"],
        &["dir/"],
        "/",
        Ok(&["hard 644 1:1 #3", "l -> /x", "sub/ 700 2:2", "x 644 1:1 #3"]),
    ),
    // An empty directory is one.
    (
        &[],
        &["dir/sub"],
        "/e/f",
        Ok(&["e/ 755 0:0", "e/f/ 755 0:0"]),
    ),
    (&[], &["dir/s*"], "/e", Ok(&["e/ 755 0:0"])),
    // Wildcards, part by part; what they match is flattened.
    (&[], &["*/x"], "/n/", Ok(&["n/ 755 0:0", "n/x 644 1:1 #3"])),
    (&[], &["d*/[h-x]"], "/n/", Err("`dir/l` not found")),
    (
        &[],
        &["?"],
        "/n/",
        Ok(&["n/ 755 0:0", "n/a 640 0:0 #0", "n/b 600 0:0 #1"]),
    ),
    (&[], &["*/*/*"], "/n/", Ok(&[])),
    (
        &[],
        &["lin*"],
        "/n/",
        Ok(&[
            "n/ 755 0:0",
            "n/hard 644 1:1 #3",
            "n/l -> /x",
            "n/sub/ 700 2:2",
            "n/x 644 1:1 #3",
        ]),
    ),
    (&[], &["dang*"], "/n/", Err("`dangling` not found")),
    (
        &[],
        &["loo*"],
        "/n/",
        Err("`loop` leads through more than 40 symbolic links"),
    ),
    // Upwards is the top.
    (&[], &["dir/../../b"], "/n", Ok(&["n 600 0:0 #1"])),
    (&[], &["/a"], "/n", Ok(&["n 640 0:0 #0"])),
    (&[], &["./a"], "/n", Ok(&["n 640 0:0 #0"])),
    (&[], &["link/../a"], "/n", Ok(&["n 640 0:0 #0"])),
    (&[], &["link/x"], "/n", Ok(&["n 644 1:1 #3"])),
    // What is there.
    (&["f n 600 5:5"], &["a"], "/n", Ok(&["n 640 0:0 #0"])),
    (
        &["f n 600 5:5"],
        &["a"],
        "/n/",
        Err("`/n/` is not a directory"),
    ),
    (
        &["f n 600 5:5"],
        &["a"],
        "/n/x",
        Err("`/n/x` is not a directory"),
    ),
    (
        &["d n 711 1:1", "d n/a 711 1:1"],
        &["a"],
        "/n",
        Err("cannot replace the directory `/n/a` with a file"),
    ),
    (
        &["d n 711 1:1", "f n/l 600 5:5"],
        &["dir"],
        "/n",
        Ok(&[
            "n/ 711 1:1",
            "n/hard 644 1:1 #3",
            "n/l -> /x",
            "n/sub/ 700 2:2",
            "n/x 644 1:1 #3",
        ]),
    ),
    (
        &["d n 711 1:1", "l n/l y"],
        &["dir"],
        "/n",
        Ok(&[
            "n/ 711 1:1",
            "n/hard 644 1:1 #3",
            "n/l -> /x",
            "n/sub/ 700 2:2",
            "n/x 644 1:1 #3",
        ]),
    ),
    (
        &["d n 711 1:1", "d n/l 711 1:1"],
        &["dir"],
        "/n",
        Err("cannot replace the directory `/n/l` with a file"),
    ),
    // A directory goes through no link inside the destination.
    (
        &["d n 711 1:1", "l n/sub /n"],
        &["dir"],
        "/n",
        Err("cannot copy a directory to `/n/sub`, which is not a directory"),
    ),
    // A link that is the destination itself is followed, also to what is not there yet.
    (
        &["l n deep/er"],
        &["a"],
        "/n",
        Ok(&["deep/ 755 0:0", "deep/er 640 0:0 #0"]),
    ),
    (
        &["l n deep/er"],
        &["dir/sub"],
        "/n",
        Ok(&["deep/ 755 0:0", "deep/er/ 755 0:0"]),
    ),
    (
        &["l n n"],
        &["a"],
        "/n",
        Err("`/n` leads through more than 40 symbolic links"),
    ),
    (
        &["d real 711 1:1", "f real/a 600 5:5", "l n real"],
        &["a"],
        "/n",
        Ok(&["real/ 711 1:1", "real/a 640 0:0 #0"]),
    ),
    (
        &["d real 711 1:1", "l real/a /b", "l n real"],
        &["a"],
        "/n/",
        Ok(&["real/ 711 1:1", "real/a 640 0:0 #0"]),
    ),
];

#[test]
fn copies_give_what_buildkit_gives() {
    for (lower, words, destination, expected) in CASES {
        let found = copied(lower, FROM, words, destination, None);
        let found = found.map_err(|error| error.to_string());
        let expected = match expected {
            Ok(lines) => Ok(lines.iter().map(ToString::to_string).collect()),
            Err(message) => Err((*message).to_owned()),
        };
        assert_eq!(found, expected, "{words:?} {destination}");
    }
}

fn copied_tree(lower: &Tree, from: &Tree, words: &[&str], destination: &str) -> Tree {
    let exclude = Exclude::default();
    let sources: Vec<Match<'_>> = words
        .iter()
        .flat_map(|word| matches(from, word.as_bytes(), &exclude).unwrap())
        .collect();
    let parts: Vec<Part<'_>> = sources.iter().map(Part::Match).collect();
    let request = Request {
        parts: &parts,
        destination: destination.as_bytes(),
        owner: None,
        mode: None,
    };
    copy(lower, &request).unwrap()
}

#[test]
fn hard_links_are_kept_within_one_source_only() {
    let from = tree(FROM);
    for (words, linked) in [
        (&["dir"][..], true),
        (&["dir/x", "dir/hard"], false),
        (&["dir/[hx]*"], false),
    ] {
        let upper = copied_tree(&Tree::default(), &from, words, "/n/");
        let same = upper.lookup(b"n/x") == upper.lookup(b"n/hard");
        assert_eq!(same, linked, "{words:?}");
    }
}

#[test]
fn times_are_kept() {
    let (lower, from) = (tree(&["d old 755 0:0", "d old/sub 755 0:0"]), tree(FROM));
    let upper = copied_tree(&lower, &from, &["dir", "a"], "/new/made/");
    let seconds = |tree: &Tree, path: &str| {
        let node = tree.node(tree.lookup(path.as_bytes()).unwrap());
        node.metadata.mtime.seconds
    };
    for (copy, source) in [
        ("new/made/x", "dir/x"),
        ("new/made/sub", "dir/sub"),
        ("new/made/l", "dir/l"),
        ("new/made/a", "a"),
        ("new/made", "dir"),
        ("new", "dir"),
    ] {
        assert_eq!(seconds(&upper, copy), seconds(&from, source), "{copy}");
    }
    let upper = copied_tree(&lower, &from, &["dir"], "/old");
    assert_eq!(seconds(&upper, "old"), seconds(&lower, "old"));
    assert_eq!(seconds(&upper, "old/sub"), seconds(&from, "dir/sub"));
}

#[test]
fn what_is_no_file_is_copied_as_it_is() {
    let mut from = Tree::default();
    let device = Device { major: 1, minor: 3 };
    let metadata = Metadata {
        mtime: Timestamp {
            seconds: 9,
            nanoseconds: 0,
        },
        ..Metadata::root_owned(0o620)
    };
    for (name, kind) in [
        ("fifo", Kind::Fifo),
        ("character", Kind::CharacterDevice(device)),
        ("block", Kind::BlockDevice(device)),
        ("socket", Kind::Socket),
    ] {
        let node = Node {
            metadata: metadata.clone(),
            kind,
        };
        from.insert(from.root(), name.as_bytes(), node).unwrap();
    }
    for (words, destination) in [
        (&["/"][..], "/n/"),
        (&["fifo", "character", "block", "socket"], "/n/"),
    ] {
        let upper = copied_tree(&Tree::default(), &from, words, destination);
        let kind = |name: &str| {
            let found = upper.lookup(format!("n/{name}").as_bytes());
            found.map(|id| upper.node(id).kind.clone())
        };
        assert_eq!(kind("fifo"), Some(Kind::Fifo));
        assert_eq!(kind("character"), Some(Kind::CharacterDevice(device)));
        assert_eq!(kind("block"), Some(Kind::BlockDevice(device)));
        // No layer can hold one.
        assert_eq!(kind("socket"), None);
    }
}
