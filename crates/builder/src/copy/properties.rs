//! Copies between trees that nobody would think of.

use std::collections::BTreeMap;

use firebuild_core::layer::Limits;
use firebuild_core::tree::{Content, Kind, Metadata, Node, NodeId};
use firebuild_oci::{Changes, LayerIndex, Sources};
use proptest::prelude::*;

use super::*;

/// An entry: the directory that it goes to, by its number among those there are, its name, and
/// what it is.
type Line = (usize, String, u8, String);

fn lines() -> impl Strategy<Value = Vec<Line>> {
    let target = "(/|\\.\\./|)[abc](/[abc.])?";
    prop::collection::vec((0..8_usize, "[abc]", 0..5_u8, target), 0..16)
}

fn tree(lines: &[Line]) -> Tree {
    let mut tree = Tree::default();
    let mut directories = vec![tree.root()];
    let mut files = Vec::new();
    for (parent, name, kind, target) in lines {
        let parent = directories[parent % directories.len()];
        if tree.child(parent, name.as_bytes()).is_some() {
            continue;
        }
        let kind = match kind {
            0 | 1 => Kind::Directory(BTreeMap::new()),
            2 => Kind::File(Content::whole(0, 0, 0)),
            3 => Kind::Symlink(target.as_bytes().into()),
            _ => {
                if let Some(first) = files.last() {
                    tree.link(parent, name.as_bytes(), *first).unwrap();
                }
                continue;
            }
        };
        let is_directory = matches!(kind, Kind::Directory(_));
        let metadata = Metadata::root_owned(0o750);
        let id = tree
            .insert(parent, name.as_bytes(), Node { metadata, kind })
            .unwrap();
        if is_directory {
            directories.push(id);
        } else {
            files.push(id);
        }
    }
    tree
}

/// Every path below `top` with its kind and metadata.
fn shown_below(tree: &Tree, top: NodeId, path: &str, into: &mut Vec<String>) {
    for (name, id) in tree.entries(top) {
        let node = tree.node(id);
        let path = format!("{path}/{}", String::from_utf8_lossy(name.as_bytes()));
        let kind = match &node.kind {
            Kind::Directory(_) => "directory".to_owned(),
            other => format!("{other:?}"),
        };
        into.push(format!("{path} {kind} {:?}", node.metadata));
        shown_below(tree, id, &path, into);
    }
}

proptest! {
    /// Whatever is copied to wherever, it is refused, or what it adds can be written as a layer and
    /// laid on.
    #[test]
    fn a_copy_is_refused_or_fits(
        (lower, from) in (lines(), lines()),
        words in prop::collection::vec("(\\.\\./)?[abc*?\\[.]{1,3}(/[abc*.]{1,2})?", 1..4),
        destination in "/([abc]{1,2}|\\.\\.)?(/[abc.]{1,2})?/?",
        owner in prop::option::of((0..3_u32, 0..3_u32)),
        mode in prop::option::of(0..0o10000_u16),
        exclude in prop::collection::vec("!?(\\*\\*/)?[abc*]{1,2}(/[abc*]{1,2})?", 0..3),
        parents in any::<bool>(),
    ) {
        let (mut lower, from) = (tree(&lower), tree(&from));
        let exclude = Exclude::parse(&exclude);
        let Ok(exclude) = exclude else { return Ok(()) };
        let find = |word: &String| match parents {
            true => matches_with_parents(&from, word.as_bytes(), &exclude),
            false => matches(&from, word.as_bytes(), &exclude),
        };
        let found: Result<Vec<_>, _> = words.iter().map(find).collect();
        let Ok(found) = found else { return Ok(()) };
        let found = found.concat();
        let parts: Vec<_> = found.iter().map(Part::Match).collect();
        let mode = mode.map(ModeChange::Octal);
        let request = Request {
            parts: &parts,
            destination: destination.as_bytes(),
            owner,
            mode: mode.as_ref(),
        };
        let Ok(upper) = copy(&lower, &request) else { return Ok(()) };
        let layer = Changes::whole(upper).write(&Sources::new(), Vec::new()).unwrap();
        let index = LayerIndex::read(std::io::Cursor::new(layer), 0, Limits::default()).unwrap();
        firebuild_oci::apply(&mut lower, index).unwrap();
    }

    /// Whatever an archive holds, it is refused, or what it becomes can be written as a layer.
    #[test]
    fn an_archive_is_refused_or_fits(
        (mut lower, packed) in (lines().prop_map(|lines| tree(&lines)), lines()),
        more in lines(),
        destination in "/([abc]{1,2})?(/[abc.]{1,2})?/?",
    ) {
        let mut entries = Vec::new();
        for lines in [packed, more] {
            let layer = Changes::whole(tree(&lines)).write(&Sources::new(), Vec::new()).unwrap();
            let index = LayerIndex::read(std::io::Cursor::new(layer), 0, Limits::default()).unwrap();
            entries.extend_from_slice(index.entries());
        }
        let parts = [Part::Archive { entries: &entries, source: 0, mtime: Timestamp::default() }];
        let request = Request {
            parts: &parts,
            destination: destination.as_bytes(),
            owner: None,
            mode: None,
        };
        let Ok(upper) = copy(&lower, &request) else { return Ok(()) };
        let layer = Changes::whole(upper).write(&Sources::new(), Vec::new()).unwrap();
        let index = LayerIndex::read(std::io::Cursor::new(layer), 0, Limits::default()).unwrap();
        firebuild_oci::apply(&mut lower, index).unwrap();
    }

    /// A whole tree that is copied to a new directory is there as it was.
    #[test]
    fn a_new_directory_gets_everything(from in lines()) {
        let from = tree(&from);
        let sources = matches(&from, b".", &Exclude::default()).unwrap();
        let lower = Tree::default();
        let request = Request {
            parts: &[Part::Match(&sources[0])],
            destination: b"/new/",
            owner: None,
            mode: None,
        };
        let upper = copy(&lower, &request).unwrap();
        let (mut before, mut after) = (Vec::new(), Vec::new());
        shown_below(&from, from.root(), "", &mut before);
        shown_below(&upper, upper.lookup(b"new").unwrap(), "", &mut after);
        prop_assert_eq!(before, after);
    }
}
