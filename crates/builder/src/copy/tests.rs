//! The rules of COPY that people get wrong, one test each.

use firebuild_core::tree::{Metadata, Tree, TreeError};

use super::trees::{FROM, copied, lines, tree};
use super::upper::Overlay;
use super::*;

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
        Err(trees::not_found("dangling", &[]))
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
        Err(trees::not_found("none", &[]))
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
    let sources = matches(&from, b"dir", &Exclude::default()).unwrap();
    let upper = copy(
        &lower,
        &Request {
            parts: &[Part::Match(&sources[0])],
            destination: b"/n",
            owner: None,
            mode: None,
        },
    )
    .unwrap();
    assert_eq!(upper.lookup(b"n/x"), upper.lookup(b"n/hard"));
    let mut overlay = Overlay::new(&lower);
    let place = overlay
        .directory(overlay.root(), b"new", &Metadata::default())
        .unwrap();
    let found = overlay.child(overlay.root(), b"new");
    assert!(matches!(found, Some(upper::Found::Upper(id, None)) if id == place.upper));
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
