//! What one file tree has over another, in the form of an overlay's lower directory.
//!
//! As Linux reads it (`Documentation/filesystems/overlayfs.rst`): a character device with the number
//! 0/0 takes a name away, a directory with `trusted.overlay.opaque` hides all that the one below it
//! has, any other directory is one with it. What must hold: whoever mounts the difference over the
//! tree below sees the whole tree, with its hard links. A file of which one name is in the difference
//! is there with all its names, because no link leads from one file system into another.

use firebuild_core::tree::{Device, Kind, Metadata, Name, Node, NodeId, Tree, TreeError};

/// The attribute of a directory that hides the one below it, and its value.
const OPAQUE: (&[u8], &[u8]) = (b"trusted.overlay.opaque", b"y");

/// What has to lie over `below`, so that all of `whole` is seen.
///
/// # Errors
/// [`TreeError::Full`].
pub(super) fn difference(below: &Tree, whole: &Tree) -> Result<Tree, TreeError> {
    let tree = Tree::new(whole.node(whole.root()).metadata.clone());
    let mut difference = Difference {
        below,
        whole,
        same: same(below, whole),
        directories: vec![Pair {
            above: None,
            below: Some(below.root()),
            whole: whole.root(),
            made: Some(tree.root()),
        }],
        made: vec![None; whole.capacity()],
        tree,
    };
    let mut next = 0;
    while next < difference.directories.len() {
        difference.directory(next)?;
        next += 1;
    }
    Ok(difference.tree)
}

/// A directory of the whole tree.
struct Pair<'t> {
    /// The position of the one that it is in, and its name there.
    above: Option<(usize, &'t Name)>,
    /// The directory that shows through it.
    below: Option<NodeId>,
    whole: NodeId,
    /// What it is in the difference, once something of it has to be there.
    made: Option<NodeId>,
}

struct Difference<'t> {
    below: &'t Tree,
    whole: &'t Tree,
    /// By node of the whole tree: whether it may stay where it is below.
    same: Vec<bool>,
    directories: Vec<Pair<'t>>,
    /// By node of the whole tree: what it is in the difference.
    made: Vec<Option<NodeId>>,
    tree: Tree,
}

impl<'t> Difference<'t> {
    fn directory(&mut self, position: usize) -> Result<(), TreeError> {
        let (whole, below) = (self.whole, self.below);
        let Pair {
            whole: id,
            below: shown,
            ..
        } = self.directories[position];
        let metadata = &whole.node(id).metadata;
        if shown.is_none_or(|shown| below.node(shown).metadata != *metadata) {
            self.make(position)?;
        }
        // The roots are always one, whatever their attributes say.
        let mut hides = position != 0;
        for (name, child) in whole.entries(id) {
            let under = shown.and_then(|shown| below.child(shown, name.as_bytes()));
            hides &= under.is_none();
            if whole.node(child).is_directory() {
                self.directories.push(Pair {
                    above: Some((position, name)),
                    below: under.filter(|under| below.node(*under).is_directory()),
                    whole: child,
                    made: None,
                });
            } else if under.is_none() || !self.same[child.index()] {
                self.put(position, name, child)?;
            }
        }
        let shown = shown.filter(|shown| below.entries(*shown).next().is_some());
        match shown {
            Some(_) if hides => self.hide_all(position),
            Some(shown) => self.hide(position, shown, id),
            None => Ok(()),
        }
    }

    /// Takes away what the directory below has and the whole tree has not.
    fn hide(&mut self, position: usize, shown: NodeId, id: NodeId) -> Result<(), TreeError> {
        for (name, _) in self.below.entries(shown) {
            if self.whole.child(id, name.as_bytes()).is_none() {
                let parent = self.make(position)?;
                let whiteout = Node {
                    metadata: Metadata::root_owned(0),
                    kind: Kind::CharacterDevice(Device::default()),
                };
                self.tree.insert(parent, name.as_bytes(), whiteout)?;
            }
        }
        Ok(())
    }

    fn hide_all(&mut self, position: usize) -> Result<(), TreeError> {
        let id = self.make(position)?;
        let (name, value) = OPAQUE;
        let xattrs = &mut self.tree.metadata_mut(id).xattrs;
        xattrs.insert(name.into(), value.into());
        Ok(())
    }

    fn put(&mut self, position: usize, name: &Name, id: NodeId) -> Result<(), TreeError> {
        let parent = self.make(position)?;
        if let Some(made) = self.made[id.index()] {
            return self.tree.link(parent, name.as_bytes(), made);
        }
        let node = self.whole.node(id).clone();
        let made = self.tree.insert(parent, name.as_bytes(), node)?;
        self.made[id.index()] = Some(made);
        Ok(())
    }

    /// The directory of the difference, made with all above it if it is not there.
    fn make(&mut self, position: usize) -> Result<NodeId, TreeError> {
        let mut missing = Vec::new();
        let mut at = position;
        let mut id = loop {
            let pair = &self.directories[at];
            match (pair.made, pair.above) {
                (Some(made), _) => break made,
                (None, Some((above, name))) => {
                    missing.push((at, name));
                    at = above;
                }
                // The root is there from the beginning.
                (None, None) => break self.tree.root(),
            }
        };
        while let Some((at, name)) = missing.pop() {
            let pair = &mut self.directories[at];
            let metadata = self.whole.node(pair.whole).metadata.clone();
            let node = Node::directory(metadata);
            id = self.tree.insert(id, name.as_bytes(), node)?;
            pair.made = Some(id);
        }
        Ok(id)
    }
}

/// Which nodes of the whole tree, directories apart, are below as they are: at all their names, and
/// there as names of one node that no other node of the whole tree has.
fn same(below: &Tree, whole: &Tree) -> Vec<bool> {
    /// What a node was found to be on the other side.
    #[derive(Clone, Copy, PartialEq)]
    enum Other {
        Unknown,
        One(NodeId),
        None,
    }
    fn meet(known: &mut Other, other: NodeId) {
        *known = match *known {
            Other::Unknown => Other::One(other),
            Other::One(one) if one == other => Other::One(one),
            _ => Other::None,
        };
    }
    let mut of_whole = vec![Other::Unknown; whole.capacity()];
    let mut of_below = vec![Other::Unknown; below.capacity()];
    let mut directories = vec![(whole.root(), Some(below.root()))];
    while let Some((id, shown)) = directories.pop() {
        for (name, child) in whole.entries(id) {
            let under = shown.and_then(|shown| below.child(shown, name.as_bytes()));
            let node = whole.node(child);
            if node.is_directory() {
                directories.push((child, under));
                continue;
            }
            match under {
                Some(under) if below.node(under) == node => {
                    meet(&mut of_whole[child.index()], under);
                    meet(&mut of_below[under.index()], child);
                }
                _ => of_whole[child.index()] = Other::None,
            }
        }
    }
    let only = |other: &Other| match other {
        Other::One(under) => matches!(of_below[under.index()], Other::One(_)),
        Other::Unknown | Other::None => false,
    };
    of_whole.iter().map(only).collect()
}
