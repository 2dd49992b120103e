//! Trees of tests, written and read as lines.

use std::collections::BTreeMap;

use firebuild_core::tree::{Content, Kind, Metadata, Node, Timestamp, Tree};

use super::*;

/// Builds a tree from lines such as `d etc 755 1:2`, `f etc/x 644 0:0`, `l link target`.
pub(super) fn tree(lines: &[&str]) -> Tree {
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
pub(super) fn lines(tree: &Tree) -> Vec<String> {
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

/// The flags of a copy.
#[derive(Clone, Copy, Default)]
pub(super) struct Flags<'a> {
    pub(super) owner: Option<(u32, u32)>,
    pub(super) mode: Option<&'a str>,
    pub(super) exclude: &'a [&'a str],
    pub(super) parents: bool,
}

/// What a copy with flags adds to a tree.
pub(super) fn flagged(
    lower: &[&str],
    from: &[&str],
    words: &[&str],
    destination: &str,
    flags: Flags<'_>,
) -> Result<Vec<String>, CopyError> {
    let (lower, from) = (tree(lower), tree(from));
    let patterns: Vec<String> = flags.exclude.iter().map(|text| (*text).into()).collect();
    let exclude = Exclude::parse(&patterns)?;
    let mut sources = Vec::new();
    for word in words {
        sources.extend(match flags.parents {
            true => matches_with_parents(&from, word.as_bytes(), &exclude)?,
            false => matches(&from, word.as_bytes(), &exclude)?,
        });
    }
    let mode = flags.mode.map(|mode| ModeChange::parse(mode).unwrap());
    let parts: Vec<Part<'_>> = sources.iter().map(Part::Match).collect();
    let request = Request {
        parts: &parts,
        destination: destination.as_bytes(),
        owner: flags.owner,
        mode: mode.as_ref(),
    };
    copy(&lower, &request).map(|upper| lines(&upper))
}

/// What a copy with no more than an owner adds to a tree.
pub(super) fn copied(
    lower: &[&str],
    from: &[&str],
    words: &[&str],
    destination: &str,
    owner: Option<(u32, u32)>,
) -> Result<Vec<String>, CopyError> {
    let flags = Flags {
        owner,
        ..Flags::default()
    };
    flagged(lower, from, words, destination, flags)
}

pub(super) fn not_found(word: &str, near: &[&str]) -> CopyError {
    CopyError::NotFound {
        word: word.into(),
        near: near.iter().map(|name| (*name).into()).collect(),
    }
}

pub(super) const FROM: &[&str] = &[
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
