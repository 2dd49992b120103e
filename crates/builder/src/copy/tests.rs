//! The rules of COPY that people get wrong, one test each.

use firebuild_core::tree::{Content, Timestamp};

use super::*;

/// Builds a tree from lines such as `d etc 755 1:2`, `f etc/x 644 0:0`, `l link target`.
fn tree(lines: &[&str]) -> Tree {
    let mut tree = Tree::default();
    for (index, line) in lines.iter().enumerate() {
        let words: Vec<&str> = line.split(' ').collect();
        let (parent, name) = words[1].rsplit_once('/').unwrap_or(("", words[1]));
        let parent = tree.lookup(parent.as_bytes()).unwrap();
        let mut metadata = Metadata::root_owned(0o777);
        metadata.mtime = Timestamp {
            seconds: index as i64 + 1,
            nanoseconds: 0,
        };
        if let Some(mode) = words.get(2).filter(|_| "df".contains(words[0])) {
            metadata.mode = u16::from_str_radix(mode, 8).unwrap();
        }
        if let Some((uid, gid)) = words.get(3).and_then(|owner| owner.split_once(':')) {
            (metadata.uid, metadata.gid) = (uid.parse().unwrap(), gid.parse().unwrap());
        }
        let kind = match words[0] {
            "d" => Kind::Directory(BTreeMap::new()),
            "f" => Kind::File(Content::whole(u32::try_from(index).unwrap(), 0, 1)),
            "l" => Kind::Symlink(words[2].as_bytes().into()),
            "h" => {
                let target = tree.lookup(words[2].as_bytes()).unwrap();
                tree.link(parent, name.as_bytes(), target).unwrap();
                continue;
            }
            other => unreachable!("{other}"),
        };
        tree.insert(parent, name.as_bytes(), Node { metadata, kind })
            .unwrap();
    }
    tree
}

/// One line for each entry but the root: `path mode uid:gid` and what a link leads to.
fn lines(tree: &Tree) -> Vec<String> {
    let mut lines = Vec::new();
    tree.walk(&mut |path, id| {
        let node = tree.node(id);
        let Metadata { mode, uid, gid, .. } = node.metadata;
        let path = String::from_utf8_lossy(path);
        match &node.kind {
            _ if path.is_empty() => {}
            Kind::Symlink(target) => {
                lines.push(format!("{path} -> {}", String::from_utf8_lossy(target)))
            }
            Kind::Directory(_) => lines.push(format!("{path}/ {mode:o} {uid}:{gid}")),
            Kind::File(content) => {
                lines.push(format!("{path} {mode:o} {uid}:{gid} #{}", content.source))
            }
            _ => lines.push(format!("{path} ?")),
        }
    });
    lines
}

fn copied(
    lower: &[&str],
    from: &[&str],
    words: &[&str],
    destination: &str,
    owner: Option<(u32, u32)>,
) -> Result<Vec<String>, CopyError> {
    let (lower, from) = (tree(lower), tree(from));
    let mut sources = Vec::new();
    for word in words {
        sources.extend(matches(&from, word.as_bytes())?);
    }
    let request = Request {
        sources: &sources,
        destination: destination.as_bytes(),
        owner,
    };
    copy(&lower, &request).map(|upper| lines(&upper))
}

const FROM: &[&str] = &[
    "f a 640 0:0",
    "f b 600 0:0",
    "d dir 3750 7:8",
    "f dir/x 644 1:1",
    "d dir/sub 700 2:2",
    "l dir/l /x",
    "h dir/hard dir/x",
    "l link dir",
    "l dangling none",
    "l loop loop",
];

#[test]
fn a_trailing_slash_decides_between_name_and_directory() {
    for (destination, expected) in [
        ("/d", vec!["d 640 0:0 #0"]),
        ("/d/", vec!["d/ 755 0:0", "d/a 640 0:0 #0"]),
        ("/d/.", vec!["d/ 755 0:0", "d/a 640 0:0 #0"]),
    ] {
        assert_eq!(
            copied(&[], FROM, &["a"], destination, None).unwrap(),
            expected,
            "{destination}"
        );
    }
    assert_eq!(
        copied(&["d d 700 5:5"], FROM, &["a"], "/d", None).unwrap(),
        ["d/ 700 5:5", "d/a 640 0:0 #0"]
    );
}

#[test]
fn a_new_top_level_directory_does_not_take_its_sources_mode() {
    let expected = [
        "n/ 755 0:0",
        "n/hard 644 1:1 #3",
        "n/l -> /x",
        "n/sub/ 700 2:2",
        "n/x 644 1:1 #3",
    ];
    assert_eq!(copied(&[], FROM, &["dir"], "/n", None).unwrap(), expected);
}

#[test]
fn an_existing_directory_keeps_its_own_and_nested_ones_take_the_sources() {
    let lower = ["d n 711 9:9", "d n/sub 711 9:9", "f n/sub/old 644 0:0"];
    let got = copied(&lower, FROM, &["dir/"], "/n", None).unwrap();
    assert_eq!(got[0], "n/ 711 9:9");
    assert!(got.contains(&"n/sub/ 700 2:2".to_owned()));
    assert!(!got.iter().any(|line| line.contains("old")));
}

#[test]
fn an_owner_covers_everything_that_is_made() {
    let got = copied(&["d opt 755 0:0"], FROM, &["dir"], "/opt/p/n", Some((3, 4))).unwrap();
    assert_eq!(
        got[..3],
        ["opt/ 755 0:0", "opt/p/ 755 3:4", "opt/p/n/ 755 3:4"]
    );
    assert!(
        got[3..]
            .iter()
            .all(|line| line.contains(" 3:4") || line.contains("->"))
    );
}

#[test]
fn named_links_are_followed_and_links_inside_stay() {
    let got = copied(&[], FROM, &["link"], "/n", None).unwrap();
    assert!(got.contains(&"n/l -> /x".to_owned()));
    assert_eq!(
        copied(&[], FROM, &["dangling"], "/n", None),
        Err(CopyError::NotFound("dangling".into()))
    );
    assert!(matches!(
        copied(&[], FROM, &["loop"], "/n", None),
        Err(CopyError::Tree(TreeError::Loop(_)))
    ));
}

#[test]
fn patterns_may_match_nothing_and_names_may_not() {
    assert_eq!(copied(&[], FROM, &["none*"], "/n/", None).unwrap(), [""; 0]);
    assert_eq!(
        copied(&[], FROM, &["none"], "/n/", None),
        Err(CopyError::NotFound("none".into()))
    );
    assert_eq!(
        copied(&[], FROM, &["[ab]", "d?r"], "/n/", None)
            .unwrap()
            .len(),
        7
    );
    assert_eq!(
        copied(&[], FROM, &["../../a"], "/n", None).unwrap(),
        ["n 640 0:0 #0"]
    );
    assert!(matches!(
        copied(&[], FROM, &["[a"], "/n/", None),
        Err(CopyError::Pattern(_))
    ));
}

#[test]
fn the_destinations_links_are_followed_within_the_root() {
    let lower = [
        "d real 755 0:0",
        "l abs /real",
        "l up ../../../real",
        "f real/f 644 0:0",
        "l to real/f",
    ];
    for destination in ["/abs/", "/up/", "/abs"] {
        assert_eq!(
            copied(&lower, FROM, &["a"], destination, None).unwrap(),
            ["real/ 755 0:0", "real/a 640 0:0 #0"],
            "{destination}"
        );
    }
    assert_eq!(
        copied(&lower, FROM, &["a"], "/to", None).unwrap(),
        ["real/ 755 0:0", "real/f 640 0:0 #0"]
    );
    assert_eq!(
        copied(&["l d /gone/deep"], FROM, &["a"], "/d/", None).unwrap(),
        [
            "gone/ 755 0:0",
            "gone/deep/ 755 0:0",
            "gone/deep/a 640 0:0 #0"
        ]
    );
}

#[test]
fn a_merged_file_replaces_a_link_and_never_a_directory() {
    let got = copied(&["d n 755 0:0", "l n/x /etc"], FROM, &["dir"], "/n", None).unwrap();
    assert!(
        got.contains(&"n/x 644 1:1 #3".to_owned()) || got.contains(&"n/hard 644 1:1 #3".to_owned())
    );
    assert_eq!(
        copied(
            &["d n 755 0:0", "d n/x 755 0:0"],
            FROM,
            &["dir"],
            "/n",
            None
        ),
        Err(CopyError::OverDirectory("/n/x".into()))
    );
    assert_eq!(
        copied(
            &["d n 755 0:0", "f n/sub 644 0:0"],
            FROM,
            &["dir"],
            "/n",
            None
        ),
        Err(CopyError::ToNonDirectory("/n/sub".into()))
    );
    assert_eq!(
        copied(&["f n 644 0:0"], FROM, &["dir"], "/n", None),
        Err(CopyError::ToNonDirectory("/n".into()))
    );
}

#[test]
fn one_file_never_silently_overwrites_another() {
    assert_eq!(
        copied(&[], FROM, &["a", "b"], "/n", None),
        Err(CopyError::Overwrites("/n".into()))
    );
    assert!(copied(&[], FROM, &["a", "b"], "/n/", None).is_ok());
    assert!(copied(&["d n 755 0:0"], FROM, &["a", "b"], "/n", None).is_ok());
}

#[test]
fn hard_links_within_a_directory_stay_links() {
    let (lower, from) = (Tree::default(), tree(FROM));
    let sources = matches(&from, b"dir").unwrap();
    let upper = copy(
        &lower,
        &Request {
            sources: &sources,
            destination: b"/n",
            owner: None,
        },
    )
    .unwrap();
    assert_eq!(upper.lookup(b"n/x"), upper.lookup(b"n/hard"));
    let mut overlay = Overlay::new(&lower);
    let place = overlay
        .directory(overlay.root(), b"new", &Metadata::default())
        .unwrap();
    assert_eq!(
        overlay.child(overlay.root(), b"new").and_then(Found::upper),
        Some(place.upper)
    );
}

#[test]
fn a_working_directory_is_made_once() {
    let lower = tree(&["d a 700 1:1", "f f 644 0:0", "l l a"]);
    let new = Metadata {
        uid: 77,
        gid: 77,
        ..Metadata::root_owned(0o755)
    };
    assert!(make_directory(&lower, b"/a", &new).unwrap().is_none());
    assert!(make_directory(&lower, b"/", &new).unwrap().is_none());
    assert_eq!(
        lines(&make_directory(&lower, b"/l/b/c", &new).unwrap().unwrap()),
        ["a/ 700 1:1", "a/b/ 755 77:77", "a/b/c/ 755 77:77"]
    );
    assert!(make_directory(&lower, b"/f/x", &new).is_err());
}
