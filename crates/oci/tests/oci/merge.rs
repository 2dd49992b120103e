//! What a layer does to those below it.

use crate::notation::{layer, lines, merged};

pub(crate) struct Case {
    pub(crate) what: &'static str,
    pub(crate) layers: &'static [&'static [&'static str]],
    pub(crate) result: &'static [&'static str],
    /// Whether umoci does the same.
    pub(crate) umoci: bool,
}

pub(crate) const CASES: &[Case] = &[
    Case {
        what: "a whiteout hides a file and a whole directory",
        layers: &[&["f a 1", "d d", "f d/x 2", "f e 3"], &["w a", "w d"]],
        result: &["f e 3"],
        umoci: true,
    },
    Case {
        what: "a whiteout of nothing is nothing",
        layers: &[&["f a 1"], &["w b", "w c/d", "w a/x"]],
        result: &["f a 1"],
        umoci: true,
    },
    Case {
        what: "a whiteout hides lower entries only, before or after the entry",
        layers: &[
            &["f a 1", "d d", "f d/old 2", "d e", "f e/old 3"],
            &[
                "w a",
                "f a new",
                "d d 700",
                "f d/new 4",
                "w d",
                "w e",
                "d e",
                "f e/new 5",
            ],
        ],
        result: &["f a new", "d d 700", "f d/new 4", "d e", "f e/new 5"],
        umoci: true,
    },
    Case {
        what: "an opaque directory keeps only what its layer has, wherever the marker stands",
        layers: &[
            &[
                "d d",
                "f d/old 1",
                "d d/sub",
                "f d/sub/old 2",
                "d e",
                "f e/old 3",
            ],
            &[
                "d d",
                "f d/new 4",
                "o d",
                "f d/sub/new 5",
                "o e",
                "d e 711",
                "f e/new 6",
            ],
        ],
        result: &[
            "d d",
            "f d/new 4",
            "d d/sub",
            "f d/sub/new 5",
            "d e 711",
            "f e/new 6",
        ],
        umoci: true,
    },
    Case {
        what: "an opaque root hides everything",
        layers: &[&["f a 1", "d d", "f d/x 2"], &["o /", "f b 3"]],
        result: &["f b 3"],
        umoci: true,
    },
    Case {
        what: "an opaque marker of a directory that is not there is nothing",
        layers: &[&["f a 1"], &["o d", "o a"]],
        result: &["f a 1"],
        umoci: true,
    },
    Case {
        what: "a directory in both keeps the entries and takes the upper metadata",
        layers: &[&["d d 700", "f d/a 1"], &["d d 750", "f d/b 2"]],
        result: &["d d 750", "f d/a 1", "f d/b 2"],
        umoci: true,
    },
    Case {
        what: "a directory that is not listed stays as it is",
        layers: &[&["d d 700", "f d/a 1"], &["f d/b 2"]],
        result: &["d d 700", "f d/a 1", "f d/b 2"],
        umoci: true,
    },
    Case {
        what: "a directory that is needed and nowhere listed is made",
        layers: &[&["f new/deep/a 1"]],
        result: &["d new", "d new/deep", "f new/deep/a 1"],
        umoci: true,
    },
    Case {
        what: "a file replaces a directory and a directory a file",
        layers: &[&["d d", "f d/x 1", "f f 2"], &["f d 3", "d f", "f f/y 4"]],
        result: &["f d 3", "d f", "f f/y 4"],
        umoci: true,
    },
    Case {
        what: "a file in the way of a directory that is not listed is replaced",
        layers: &[&["f a 1"], &["f a/b 2"]],
        result: &["d a", "f a/b 2"],
        umoci: false,
    },
    Case {
        what: "the last of two entries wins",
        layers: &[&["f a 1", "f a 2", "d b", "f b 3", "f c 4", "d c 700"]],
        result: &["f a 2", "f b 3", "d c 700"],
        umoci: true,
    },
    Case {
        what: "a hard link to a lower file, and the file replaced",
        layers: &[&["f a 1", "h b a"], &["h c a"], &["f a 2"]],
        result: &["f a 2", "f b 1", "h c b"],
        umoci: true,
    },
    Case {
        what: "a removed name leaves the others",
        layers: &[&["f a 1", "h b a", "h c a"], &["w a"]],
        result: &["f b 1", "h c b"],
        umoci: true,
    },
    Case {
        what: "a hard link to itself is nothing",
        layers: &[&["f a 1"], &["h a a"]],
        result: &["f a 1"],
        umoci: false,
    },
    Case {
        what: "a hard link replaces what has its name",
        layers: &[&["f a 1", "d b", "f b/x 2"], &["h b a"]],
        result: &["f a 1", "h b a"],
        umoci: true,
    },
    Case {
        what: "a hard link to a symbolic link is that link's other name",
        layers: &[&["s l nowhere", "h k l"]],
        result: &["s k nowhere", "h l k"],
        umoci: true,
    },
    Case {
        what: "a path through a symbolic link is followed within the tree",
        layers: &[
            &[
                "d usr",
                "d usr/lib 711",
                "s lib usr/lib",
                "s out ../../../usr",
                "s abs /usr/lib",
            ],
            &["f lib/a 1", "f out/b 2", "f abs/c 3", "h d lib/a"],
        ],
        result: &[
            "s abs /usr/lib",
            "f d 1",
            "s lib usr/lib",
            "s out ../../../usr",
            "d usr",
            "f usr/b 2",
            "d usr/lib 711",
            "h usr/lib/a d",
            "f usr/lib/c 3",
        ],
        umoci: true,
    },
    Case {
        what: "a whiteout through a symbolic link hides what the link leads to",
        layers: &[
            &["d usr", "d usr/lib", "f usr/lib/a 1", "s lib usr/lib"],
            &["w lib/a"],
        ],
        result: &["s lib usr/lib", "d usr", "d usr/lib"],
        umoci: true,
    },
    Case {
        what: "a link that the layer replaces is not followed to hide something",
        layers: &[
            &["d usr", "d usr/lib", "f usr/lib/a 1", "s lib usr/lib"],
            &["d lib", "w lib/a", "o lib", "f lib/b 2"],
        ],
        result: &["d lib", "f lib/b 2", "d usr", "d usr/lib", "f usr/lib/a 1"],
        umoci: true,
    },
    Case {
        what: "a directory replaces a symbolic link to a directory",
        layers: &[&["d a", "f a/x 1", "s l a"], &["d l 700", "f l/y 2"]],
        result: &["d a", "f a/x 1", "d l 700", "f l/y 2"],
        umoci: true,
    },
    Case {
        what: "a symbolic link to nothing leads to a directory that is made",
        layers: &[&["s l d/e"], &["f l/x 1"]],
        result: &["d d", "d d/e", "f d/e/x 1", "s l d/e"],
        umoci: true,
    },
    Case {
        what: "the root's metadata is that of the last layer that lists it",
        layers: &[&["d / 700"], &["f a 1"], &["d / 711"], &["f b 2"]],
        result: &["d  711", "f a 1", "f b 2"],
        umoci: true,
    },
];

#[test]
fn layers_on_layers() {
    for case in CASES {
        let layers: Vec<_> = case.layers.iter().map(|lines| layer(lines)).collect();
        let (tree, sources) = merged(&layers).unwrap();
        assert_eq!(lines(&tree, &sources), case.result, "{}", case.what);
    }
}

#[test]
fn what_cannot_be_applied_is_an_error_that_names_it() {
    let cases: [(&[&str], &str); 5] = [
        (&["h a missing"], "a"),
        (&["d d", "h b d"], "b"),
        (&["s loop loop", "f loop/x 1"], "loop/x"),
        (&["s l /", "h c l/l/l/nothing"], "c"),
        (&["f / 1"], "/"),
    ];
    for (lines, entry) in cases {
        let error = merged(&[layer(lines)]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&format!("`{entry}`")), "{text}");
    }
}
