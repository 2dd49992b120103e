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

    /// The metadata of something in the upper tree, to change it.
    pub(crate) fn metadata_mut(&mut self, upper: NodeId) -> &mut Metadata {
        self.upper.metadata_mut(upper)
    }

    /// As [`Self::directory`], but in place of anything else that has the name: what is there then
    /// is a new directory without entries.
    pub(crate) fn replace_by_directory(
        &mut self,
        parent: Place,
        name: &[u8],
        new: &Metadata,
    ) -> Result<Place, TreeError> {
        match self.child(parent, name) {
            Some(found) if !self.node(found).is_directory() => {
                let node = Node::directory(new.clone());
                let upper = self.upper.insert(parent.upper, name, node)?;
                Ok(Place { upper, lower: None })
            }
            _ => self.directory(parent, name, new),
        }
    }

    /// Where a path leads, symbolic links followed within the root, the last part too.
    pub(crate) fn resolve(&self, path: &[u8]) -> Result<Resolved, TreeError> {
        self.resolve_in(&[], path, true)
    }

    /// Where a path leads that begins in the directory `base`, as a process confined to that
    /// directory would see it: absolute links begin there, and `..` stops there. `base` is a path
    /// without symbolic links. The last part is followed if `follow_last`.
    pub(crate) fn resolve_in(
        &self,
        base: &[Vec<u8>],
        path: &[u8],
        follow_last: bool,
    ) -> Result<Resolved, TreeError> {
        let mut way = Way::new(self, base, path)?;
        let floor = base.len();
        while let Some(part) = way.todo.pop() {
            if part == b".." {
                if way.at.len() > floor {
                    way.at.pop();
                } else {
                    way.stopped = true;
                }
                continue;
            }
            let Some(parent) = self.found_place(&way.at) else {
                return Err(TreeError::NotDirectory(shown(path)));
            };
            let Some(found) = self.half_child(parent, &part) else {
                if way.leaves_missing(part) {
                    continue;
                }
                return Ok(way.found(self));
            };
            match &self.node(found).kind {
                Kind::Symlink(target) if follow_last || !way.todo.is_empty() => {
                    way.links += 1;
                    if way.links > MOST_LINKS {
                        return Err(TreeError::Loop(shown(path)));
                    }
                    if target.first() == Some(&b'/') {
                        way.at.truncate(floor);
                    }
                    way.todo
                        .extend(tree::components(target).rev().map(<[u8]>::to_vec));
                }
                _ => way.at.push((part, found)),
            }
        }
        Ok(way.found(self))
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

/// A path on its way to where it leads.
struct Way {
    /// The parts that are ahead, the last first.
    todo: Vec<Vec<u8>>,
    /// The parts that were found.
    at: Vec<(Vec<u8>, Found)>,
    /// The parts that are not there.
    missing: Vec<Vec<u8>>,
    links: usize,
    stopped: bool,
}

impl Way {
    fn new(overlay: &Overlay<'_>, base: &[Vec<u8>], path: &[u8]) -> Result<Self, TreeError> {
        let mut at: Vec<(Vec<u8>, Found)> = Vec::new();
        for part in base {
            let parent = overlay.found_place(&at);
            let found = parent.and_then(|parent| overlay.half_child(parent, part));
            let found = found.ok_or_else(|| TreeError::NotFound(shown(&base.join(&b'/'))))?;
            at.push((part.clone(), found));
        }
        Ok(Self {
            todo: tree::components(path).rev().map(<[u8]>::to_vec).collect(),
            at,
            missing: Vec::new(),
            links: 0,
            stopped: false,
        })
    }

    /// Goes on from a part that is not there, as if it were a directory. Whether the path comes
    /// back out of it; else it ends there.
    fn leaves_missing(&mut self, part: Vec<u8>) -> bool {
        self.missing.push(part);
        while let Some(part) = self.todo.pop() {
            if part != b".." {
                self.missing.push(part);
                continue;
            }
            self.missing.pop();
            if self.missing.is_empty() {
                return true;
            }
        }
        false
    }

    fn found(self, overlay: &Overlay<'_>) -> Resolved {
        let last = self.at.last();
        let is_directory = last.is_none_or(|(_, found)| overlay.node(*found).is_directory());
        Resolved {
            existing: self.at.into_iter().map(|(name, _)| name).collect(),
            missing: self.missing,
            is_directory,
            stopped: self.stopped,
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
    /// Whether a `..` would have led out, and did not.
    pub(crate) stopped: bool,
}
