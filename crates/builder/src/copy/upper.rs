//! What a copy adds to a file tree: a second tree laid over it, as in an overlay file system.
//!
//! The lower tree is only read. Every directory on the way to something new is present in the upper
//! tree with the lower one's metadata, so that the upper tree alone is a complete layer.

use firebuild_core::tree::{
    self, Kind, MOST_LINKS, Metadata, Node, NodeId, Tree, TreeError, shown,
};

/// A lower tree and what is laid over it.
#[derive(Debug)]
pub(crate) struct Overlay<'a> {
    lower: &'a Tree,
    upper: Tree,
}

/// An existing or new directory of both trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The directory in the upper tree.
    pub(crate) upper: NodeId,
    /// The directory in the lower tree, if it is there.
    pub(crate) lower: Option<NodeId>,
}

/// What a name leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// In the upper tree, and in the lower one too if both have a directory there.
    Upper(NodeId, Option<NodeId>),
    /// In the lower tree only.
    Lower(NodeId),
}

impl<'a> Overlay<'a> {
    /// Nothing laid over `lower` yet.
    pub(crate) fn new(lower: &'a Tree) -> Self {
        let root = lower.node(lower.root()).metadata.clone();
        Self {
            lower,
            upper: Tree::new(root),
        }
    }

    /// What was laid over.
    pub(crate) fn into_upper(self) -> Tree {
        self.upper
    }

    /// The root directory.
    pub(crate) fn root(&self) -> Place {
        Place {
            upper: self.upper.root(),
            lower: Some(self.lower.root()),
        }
    }

    /// The entry `name` of `parent`.
    pub(crate) fn child(&self, parent: Place, name: &[u8]) -> Option<Found> {
        let lower = parent.lower.and_then(|lower| self.lower.child(lower, name));
        match self.upper.child(parent.upper, name) {
            Some(upper) => {
                let both = self.upper.node(upper).is_directory();
                Some(Found::Upper(
                    upper,
                    lower.filter(|id| both && self.lower.node(*id).is_directory()),
                ))
            }
            None => lower.map(Found::Lower),
        }
    }

    /// What was found.
    pub(crate) fn node(&self, found: Found) -> &Node {
        match found {
            Found::Upper(id, _) => self.upper.node(id),
            Found::Lower(id) => self.lower.node(id),
        }
    }

    /// The directory `name` of `parent`, made present in the upper tree; new ones get `new`.
    ///
    /// Fails with [`TreeError::NotDirectory`] where something else has the name.
    pub(crate) fn directory(
        &mut self,
        parent: Place,
        name: &[u8],
        new: &Metadata,
    ) -> Result<Place, TreeError> {
        match self.child(parent, name) {
            Some(found) if !self.node(found).is_directory() => {
                Err(TreeError::NotDirectory(shown(name)))
            }
            Some(Found::Upper(upper, lower)) => Ok(Place { upper, lower }),
            Some(Found::Lower(lower)) => {
                let metadata = self.lower.node(lower).metadata.clone();
                let upper = self
                    .upper
                    .insert(parent.upper, name, Node::directory(metadata))?;
                Ok(Place {
                    upper,
                    lower: Some(lower),
                })
            }
            None => {
                let upper = self
                    .upper
                    .insert(parent.upper, name, Node::directory(new.clone()))?;
                Ok(Place { upper, lower: None })
            }
        }
    }

    /// Puts something that is no directory under `parent`.
    pub(crate) fn put(
        &mut self,
        parent: Place,
        name: &[u8],
        node: Node,
    ) -> Result<NodeId, TreeError> {
        self.upper.insert(parent.upper, name, node)
    }

    /// Gives something that was put one more name.
    pub(crate) fn link(
        &mut self,
        parent: Place,
        name: &[u8],
        target: NodeId,
    ) -> Result<(), TreeError> {
        self.upper.link(parent.upper, name, target)
    }

    /// Changes a directory's metadata.
    pub(crate) fn set_metadata(&mut self, place: Place, metadata: Metadata) {
        *self.upper.metadata_mut(place.upper) = metadata;
    }

    /// Where a path leads, symbolic links followed within the root, the last part too. `Missing`
    /// has the existing directory and the parts that are not there.
    pub(crate) fn resolve(&mut self, path: &[u8]) -> Result<Resolved, TreeError> {
        let mut todo: Vec<Vec<u8>> = tree::components(path).rev().map(<[u8]>::to_vec).collect();
        let mut at: Vec<(Vec<u8>, Found)> = Vec::new();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            if part == b".." {
                at.pop();
                continue;
            }
            let Some(parent) = self.found_place(&at) else {
                return Err(TreeError::NotDirectory(shown(path)));
            };
            let Some(found) = self.half_child(parent, &part) else {
                todo.push(part);
                todo.reverse();
                return Ok(Resolved {
                    existing: at.into_iter().map(|(name, _)| name).collect(),
                    missing: lexical(todo),
                    is_directory: true,
                });
            };
            match &self.node(found).kind {
                Kind::Symlink(target) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(TreeError::Loop(shown(path)));
                    }
                    if target.first() == Some(&b'/') {
                        at.clear();
                    }
                    let parts: Vec<Vec<u8>> =
                        tree::components(target).rev().map(<[u8]>::to_vec).collect();
                    todo.extend(parts);
                }
                _ => at.push((part, found)),
            }
        }
        let is_directory = at
            .last()
            .is_none_or(|(_, found)| self.node(*found).is_directory());
        Ok(Resolved {
            existing: at.into_iter().map(|(name, _)| name).collect(),
            missing: Vec::new(),
            is_directory,
        })
    }

    /// The halves of the directory at the end of `at`; none if it is no directory.
    fn found_place(&self, at: &[(Vec<u8>, Found)]) -> Option<(Option<NodeId>, Option<NodeId>)> {
        match at.last() {
            None => Some((Some(self.upper.root()), Some(self.lower.root()))),
            Some((_, found)) if !self.node(*found).is_directory() => None,
            Some((_, Found::Upper(upper, lower))) => Some((Some(*upper), *lower)),
            Some((_, Found::Lower(lower))) => Some((None, Some(*lower))),
        }
    }

    fn half_child(
        &self,
        (upper, lower): (Option<NodeId>, Option<NodeId>),
        name: &[u8],
    ) -> Option<Found> {
        match upper {
            Some(upper) => self.child(Place { upper, lower }, name),
            None => lower
                .and_then(|lower| self.lower.child(lower, name))
                .map(Found::Lower),
        }
    }
}

/// Where a path leads: the parts without symbolic links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// The parts that exist.
    pub(crate) existing: Vec<Vec<u8>>,
    /// The parts below them that do not.
    pub(crate) missing: Vec<Vec<u8>>,
    /// Whether the last existing part is a directory.
    pub(crate) is_directory: bool,
}

/// Takes `..` out of parts that do not exist.
fn lexical(parts: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut result = Vec::with_capacity(parts.len());
    for part in parts {
        if part == b".." {
            result.pop();
        } else {
            result.push(part);
        }
    }
    result
}
