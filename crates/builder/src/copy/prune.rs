//! What `--exclude` and `--parents` leave of a directory: a tree with nothing else in it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use firebuild_core::tree::{Node, NodeId, Tree, TreeError};
use firebuild_plan::ignore::Patterns;

use super::CopyError;

/// The patterns of a copy's `--exclude` flags.
#[derive(Debug, Clone, Default)]
pub struct Exclude(Patterns);

impl Exclude {
    /// Reads them.
    ///
    /// # Errors
    /// [`CopyError::Pattern`].
    pub fn parse(patterns: &[String]) -> Result<Self, CopyError> {
        let parsed = Patterns::from_list(patterns);
        let parsed = parsed.map_err(|_| CopyError::Pattern(patterns.join(" ")))?;
        Ok(Self(parsed))
    }

    /// Whether nothing is excluded.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a path is left out; it is relative to a source's root.
    pub(super) fn excludes(&self, path: &[u8]) -> bool {
        self.0.excluded(path)
    }
}

/// What is left of a directory.
pub(super) struct Pruned<'a> {
    pub(super) tree: Cow<'a, Tree>,
    pub(super) root: NodeId,
    /// Directories that are only there for what is in them.
    pub(super) implied: BTreeSet<NodeId>,
}

/// Takes away from the directory `root` what `exclude` names, and with `include` what that does not
/// name. A directory that is left out stays for what is below it and is not.
pub(super) fn prune<'a>(
    from: &'a Tree,
    root: NodeId,
    include: Option<&Patterns>,
    exclude: &Exclude,
) -> Result<Pruned<'a>, TreeError> {
    if include.is_none() && exclude.is_empty() {
        return Ok(Pruned {
            tree: Cow::Borrowed(from),
            root,
            implied: BTreeSet::new(),
        });
    }
    let tree = Tree::new(from.node(root).metadata.clone());
    let mut pruning = Pruning {
        from,
        include,
        exclude,
        to: tree.root(),
        tree,
        implied: BTreeSet::new(),
        links: BTreeMap::new(),
        path: Vec::new(),
    };
    pruning.contents(root, pruning.to)?;
    Ok(Pruned {
        root: pruning.to,
        tree: Cow::Owned(pruning.tree),
        implied: pruning.implied,
    })
}

struct Pruning<'a> {
    from: &'a Tree,
    include: Option<&'a Patterns>,
    exclude: &'a Exclude,
    tree: Tree,
    to: NodeId,
    implied: BTreeSet<NodeId>,
    /// What is in the new tree under a first name already.
    links: BTreeMap<NodeId, NodeId>,
    path: Vec<u8>,
}

impl Pruning<'_> {
    fn contents(&mut self, directory: NodeId, into: NodeId) -> Result<(), TreeError> {
        let from = self.from;
        for (name, id) in from.entries(directory) {
            let length = self.path.len();
            if length > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name.as_bytes());
            self.entry(into, name.as_bytes(), id)?;
            self.path.truncate(length);
        }
        Ok(())
    }

    fn entry(&mut self, into: NodeId, name: &[u8], id: NodeId) -> Result<(), TreeError> {
        let node = self.from.node(id);
        let taken = self
            .include
            .is_none_or(|include| include.excluded(&self.path))
            && !self.exclude.excludes(&self.path);
        if node.is_directory() {
            let copy = Node::directory(node.metadata.clone());
            let below = self.tree.insert(into, name, copy)?;
            self.contents(id, below)?;
            if !taken && self.tree.entries(below).next().is_none() {
                self.tree.remove(into, name);
            } else if !taken {
                self.implied.insert(below);
            }
            return Ok(());
        }
        match self.links.get(&id) {
            _ if !taken => Ok(()),
            Some(first) => self.tree.link(into, name, *first),
            None => {
                let copy = self.tree.insert(into, name, node.clone())?;
                self.links.insert(id, copy);
                Ok(())
            }
        }
    }
}
