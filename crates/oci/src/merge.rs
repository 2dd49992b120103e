//! Lays a layer on a file tree, as the OCI image specification's `layer.md` says.
//!
//! First everything that the layer hides is taken away, then everything that it has is put in.
//! So a whiteout or an opaque marker hides lower entries only, wherever in the layer it stands.
//! What the specification leaves open is done as container runtimes do it:
//!
//! * A directory over a directory keeps the entries and takes the layer's metadata. Anything else
//!   replaces what was there.
//! * Directories that the layer needs and does not list are kept as they are, or made with mode
//!   0755 and owner 0, also in place of a file.
//! * A path that leads through a symbolic link is followed within the tree, as a process confined
//!   to it would: absolute targets begin at the tree's root, and `..` stops there. So nothing leads
//!   out. The path's last part is never followed.
//! * A whiteout under a link that this same layer replaces hides nothing.
//! * A hard link's own metadata is ignored: it is another name of the file that it links to.

use std::collections::HashSet;

use firebuild_core::layer::{Item, LayerEntry};
use firebuild_core::tree::{
    Kind, MOST_LINKS, Metadata, Node, NodeId, Steps, Tree, TreeError, components, shown,
};

use crate::LayerIndex;
use crate::error::{Error, Result};

/// The mode of directories that a layer needs and does not list.
const UNLISTED_MODE: u16 = 0o755;

/// The mode of every symbolic link in Linux, whatever an archive says.
const SYMLINK_MODE: u16 = 0o777;

/// How far all paths of a layer may lead through symbolic links, in parts of paths. A distribution with
/// `/lib` as a link to `/usr/lib` needs some hundred thousand.
const MOST_STEPS: u64 = 20_000_000;

/// Lays `layer` on `tree`. After an error the tree is of no use.
///
/// # Errors
/// [`Error::Entry`] for an entry that cannot be there: a hard link to nothing or to a directory, a
/// root that is no directory, a path through too many symbolic links, more than a tree can hold.
pub fn apply(tree: &mut Tree, layer: LayerIndex) -> Result<()> {
    let mut steps = Steps(MOST_STEPS);
    hide(tree, &layer, &mut steps)?;
    for mut entry in layer.into_entries() {
        let path = std::mem::take(&mut entry.path);
        put(tree, &path, entry, &mut steps).map_err(|source| Error::entry(&path, source))?;
    }
    Ok(())
}

/// Takes away what the layer hides. All paths are looked up before the first is taken away, so
/// that their order does not matter.
fn hide(tree: &mut Tree, layer: &LayerIndex, steps: &mut Steps) -> Result<()> {
    let hidden = |entry: &&LayerEntry| matches!(entry.item, Item::Whiteout | Item::Opaque);
    let mut hiding = layer.entries().iter().filter(hidden).peekable();
    if hiding.peek().is_none() {
        return Ok(());
    }
    let listed: HashSet<&[u8]> = layer
        .entries()
        .iter()
        .filter(|entry| !hidden(entry))
        .map(|entry| entry.path.as_ref())
        .collect();
    let mut removed = Vec::new();
    let mut cleared = Vec::new();
    for entry in hiding {
        let mut lower = |path| {
            let directory = lower_directory(tree, path, &listed, steps);
            directory.map_err(|source| Error::entry(path, source))
        };
        if entry.item == Item::Opaque {
            cleared.extend(lower(&entry.path)?);
        } else {
            let (parent, name) = split(&entry.path);
            removed.extend(lower(parent)?.map(|parent| (parent, name)));
        }
    }
    for (parent, name) in removed {
        tree.remove(parent, name);
    }
    for directory in cleared {
        tree.clear(directory);
    }
    Ok(())
}

/// The lower directory that a path of this layer means, if there is one.
fn lower_directory(
    tree: &Tree,
    path: &[u8],
    listed: &HashSet<&[u8]>,
    steps: &mut Steps,
) -> Result<Option<NodeId>, TreeError> {
    let mut at = tree.root();
    let mut end = 0;
    for part in components(path) {
        let Some(child) = tree.child(at, part) else {
            return Ok(None);
        };
        end += part.len() + usize::from(end > 0);
        at = match &tree.node(child).kind {
            Kind::Directory(_) => child,
            // Unless the layer has something else in the link's place.
            Kind::Symlink(_) if !listed.contains(&path[..end]) => {
                match tree.resolve_within(&path[..end], true, steps) {
                    Ok(resolved) if tree.node(resolved).is_directory() => resolved,
                    Err(error @ TreeError::TooFar(_)) => return Err(error),
                    _ => return Ok(None),
                }
            }
            _ => return Ok(None),
        };
    }
    Ok(Some(at))
}

fn put(
    tree: &mut Tree,
    path: &[u8],
    entry: LayerEntry,
    steps: &mut Steps,
) -> Result<(), TreeError> {
    let mut metadata = entry.metadata;
    let kind = match entry.item {
        Item::Whiteout | Item::Opaque => return Ok(()),
        Item::Directory => return put_directory(tree, path, metadata, steps),
        Item::HardLink(target) => return put_link(tree, path, &target, steps),
        Item::File(content) => Kind::File(content),
        Item::Symlink(target) => Kind::Symlink(target),
        Item::CharacterDevice(device) => Kind::CharacterDevice(device),
        Item::BlockDevice(device) => Kind::BlockDevice(device),
        Item::Fifo => Kind::Fifo,
    };
    let (parent, name) = split(path);
    let parent = directory(tree, parent, steps)?;
    if let Kind::Symlink(_) = kind {
        metadata.mode = SYMLINK_MODE;
    }
    tree.insert(parent, name, Node { metadata, kind })?;
    Ok(())
}

fn put_directory(
    tree: &mut Tree,
    path: &[u8],
    metadata: Metadata,
    steps: &mut Steps,
) -> Result<(), TreeError> {
    if path.is_empty() {
        let root = tree.root();
        *tree.metadata_mut(root) = metadata;
        return Ok(());
    }
    let (parent, name) = split(path);
    let parent = directory(tree, parent, steps)?;
    match tree.child(parent, name) {
        Some(old) if tree.node(old).is_directory() => *tree.metadata_mut(old) = metadata,
        _ => {
            tree.insert(parent, name, Node::directory(metadata))?;
        }
    }
    Ok(())
}

fn put_link(
    tree: &mut Tree,
    path: &[u8],
    target: &[u8],
    steps: &mut Steps,
) -> Result<(), TreeError> {
    let target = match tree.lookup(target) {
        Some(target) => target,
        None => tree.resolve_within(target, false, steps)?,
    };
    let (parent, name) = split(path);
    let parent = directory(tree, parent, steps)?;
    if tree.child(parent, name) != Some(target) {
        tree.link(parent, name, target)?;
    }
    Ok(())
}

/// The directory of `path`, made where it is missing.
fn directory(tree: &mut Tree, path: &[u8], steps: &mut Steps) -> Result<NodeId, TreeError> {
    let mut at = tree.root();
    for part in components(path) {
        match tree.child(at, part) {
            Some(child) if tree.node(child).is_directory() => at = child,
            // Rare: what follows a link, or has to be made.
            _ => return make_directory(tree, path, steps),
        }
    }
    Ok(at)
}

fn make_directory(tree: &mut Tree, path: &[u8], steps: &mut Steps) -> Result<NodeId, TreeError> {
    let mut todo: Vec<Box<[u8]>> = components(path).rev().map(Into::into).collect();
    let mut at = vec![tree.root()];
    let mut links = 0;
    while let Some(part) = todo.pop() {
        steps.take(path)?;
        let here = at.last().copied().unwrap_or(tree.root());
        if part.as_ref() == b".." {
            at.truncate(at.len().saturating_sub(1).max(1));
            continue;
        }
        let child = tree.child(here, &part);
        match child.map(|child| (child, &tree.node(child).kind)) {
            Some((child, Kind::Directory(_))) => at.push(child),
            Some((_, Kind::Symlink(target))) => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(TreeError::Loop(shown(path)));
                }
                if target.starts_with(b"/") {
                    at.truncate(1);
                }
                todo.extend(components(target).rev().map(Into::into));
            }
            _ => {
                let new = Node::directory(Metadata::root_owned(UNLISTED_MODE));
                at.push(tree.insert(here, &part, new)?);
            }
        }
    }
    Ok(at.last().copied().unwrap_or(tree.root()))
}

/// The parent's path and the name.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}
