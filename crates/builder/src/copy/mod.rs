//! What COPY and ADD of files mean, written once.
//!
//! A copy takes files from one tree (a build context or an image), and gives the tree of what it
//! adds to another: a layer. The rules are BuildKit's; the parts that people get wrong are each
//! named by a test. It never reads a file's bytes: content is passed on by reference.

mod place;
mod source;
mod upper;

use std::collections::BTreeMap;

use firebuild_core::tree::{Kind, Metadata, Node, NodeId, Tree, TreeError, shown};

pub use place::make_directory;
pub use source::{Match, matches};
use upper::{Found, Overlay, Place};

/// What to copy where.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// What [`matches`] found, in the order of the instruction's words.
    pub sources: &'a [Match<'a>],
    /// An absolute path; a trailing `/` or `/.` says that it is a directory.
    pub destination: &'a [u8],
    /// The owner of everything copied or made; none keeps what the source has.
    pub owner: Option<(u32, u32)>,
}

/// Why a copy is impossible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// A source without wildcards that is not there.
    #[error("`{0}` not found")]
    NotFound(String),
    /// A directory was to be copied onto something that is none.
    #[error("cannot copy a directory to `{0}`, which is not a directory")]
    ToNonDirectory(String),
    /// A file was to replace a directory inside a merged directory.
    #[error("cannot replace the directory `{0}` with a file")]
    OverDirectory(String),
    /// A second file was to take the place of the first.
    #[error(
        "several files would be copied to the one path `{0}`; end the destination with `/` to copy them into a directory"
    )]
    Overwrites(String),
    /// A pattern that is malformed.
    #[error("`{0}` is not a pattern: a `[` is not closed, or a `\\` ends it")]
    Pattern(String),
    /// A path that leads nowhere.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// Copies: the result is what `lower` gains, with every parent directory.
///
/// # Errors
/// [`CopyError`] where a rule forbids it.
pub fn copy(lower: &Tree, request: &Request<'_>) -> Result<Tree, CopyError> {
    let mut copier = Copier {
        request,
        overlay: Overlay::new(lower),
        written: Vec::new(),
    };
    for source in request.sources {
        copier.source(source)?;
    }
    Ok(copier.overlay.into_upper())
}

struct Copier<'a> {
    request: &'a Request<'a>,
    overlay: Overlay<'a>,
    /// The paths of files that sources were copied to by name.
    written: Vec<Vec<u8>>,
}

/// A directory's contents on their way.
struct Merge<'a> {
    from: &'a Tree,
    /// Where the entry in hand goes, for errors.
    path: Vec<u8>,
    /// What was copied under a first name already.
    links: BTreeMap<NodeId, NodeId>,
}

impl<'a> Copier<'a> {
    fn source(&mut self, source: &Match<'a>) -> Result<(), CopyError> {
        let node = source.tree.node(source.node);
        let mut owned = Metadata {
            mtime: node.metadata.mtime,
            ..Metadata::root_owned(0o755)
        };
        if let Some((uid, gid)) = self.request.owner {
            (owned.uid, owned.gid) = (uid, gid);
        }
        if node.is_directory() {
            self.directory(source, &owned)
        } else {
            self.file(source, &owned)
        }
    }

    /// The directory's contents go into the destination.
    fn directory(&mut self, source: &Match<'a>, new: &Metadata) -> Result<(), CopyError> {
        let destination = self.request.destination;
        let place =
            place::directory(&mut self.overlay, destination, new).map_err(|error| match error {
                TreeError::NotDirectory(_) => CopyError::ToNonDirectory(shown(destination)),
                other => CopyError::Tree(other),
            })?;
        let mut merge = Merge {
            from: source.tree,
            path: destination.to_vec(),
            links: BTreeMap::new(),
        };
        self.contents(source.node, place, &mut merge)
    }

    /// Copies what is in `source` into `place`. Recursion is as deep as the source tree is.
    fn contents(
        &mut self,
        source: NodeId,
        place: Place,
        merge: &mut Merge<'a>,
    ) -> Result<(), CopyError> {
        for (name, id) in merge.from.entries(source) {
            let length = merge.path.len();
            if merge.path.last() != Some(&b'/') {
                merge.path.push(b'/');
            }
            merge.path.extend_from_slice(name.as_bytes());
            self.nested(id, place, name.as_bytes(), merge)?;
            merge.path.truncate(length);
        }
        Ok(())
    }

    fn nested(
        &mut self,
        id: NodeId,
        place: Place,
        name: &[u8],
        merge: &mut Merge<'a>,
    ) -> Result<(), CopyError> {
        let node = merge.from.node(id);
        let existing = self
            .overlay
            .child(place, name)
            .map(|found| self.overlay.node(found).is_directory());
        match (node.is_directory(), existing) {
            (true, Some(false)) => Err(CopyError::ToNonDirectory(shown(&merge.path))),
            (true, _) => {
                let metadata = self.owned(&node.metadata);
                let below = self.overlay.directory(place, name, &metadata)?;
                self.overlay.set_metadata(below, metadata);
                self.contents(id, below, merge)
            }
            (false, Some(true)) => Err(CopyError::OverDirectory(shown(&merge.path))),
            (false, _) => match merge.links.get(&id) {
                Some(first) => Ok(self.overlay.link(place, name, *first)?),
                None => {
                    let copied = self.put(node, place, name)?;
                    merge.links.extend(copied.map(|copied| (id, copied)));
                    Ok(())
                }
            },
        }
    }

    /// Copies one node that is no directory. A socket is nothing without its process.
    fn put(&mut self, node: &Node, place: Place, name: &[u8]) -> Result<Option<NodeId>, CopyError> {
        if matches!(node.kind, Kind::Socket) {
            return Ok(None);
        }
        let copied = Node {
            metadata: self.owned(&node.metadata),
            kind: node.kind.clone(),
        };
        Ok(Some(self.overlay.put(place, name, copied)?))
    }

    /// One file that the instruction named: into a directory under its own name, or to a path.
    fn file(&mut self, source: &Match<'a>, new: &Metadata) -> Result<(), CopyError> {
        let destination = self.request.destination;
        let resolved = self.overlay.resolve(destination)?;
        let into = place::names_directory(destination)
            || (resolved.missing.is_empty() && resolved.is_directory);
        let (parent, name, path) = if into {
            let parent = place::directory(&mut self.overlay, destination, new)?;
            (
                parent,
                source.name.clone(),
                [destination, b"/", &source.name].concat(),
            )
        } else {
            let (parent, name) = place::parent(&mut self.overlay, &resolved, new)?;
            (parent, name, destination.to_vec())
        };
        if self.written.contains(&path) {
            return Err(CopyError::Overwrites(shown(&path)));
        }
        let occupied = self
            .overlay
            .child(parent, &name)
            .is_some_and(|found| self.overlay.node(found).is_directory());
        if occupied {
            return Err(CopyError::OverDirectory(shown(&path)));
        }
        self.written.push(path);
        self.put(source.tree.node(source.node), parent, &name)
            .map(|_| ())
    }

    fn owned(&self, metadata: &Metadata) -> Metadata {
        let mut metadata = metadata.clone();
        if let Some((uid, gid)) = self.request.owner {
            (metadata.uid, metadata.gid) = (uid, gid);
        }
        metadata
    }
}

/// True if a path exists in a tree as a directory, links followed.
#[must_use]
pub fn is_directory(tree: &Tree, path: &[u8]) -> bool {
    tree.resolve(path, true)
        .is_ok_and(|id| tree.node(id).is_directory())
}

impl Found {
    /// The node in the upper tree, if it is there.
    #[cfg(test)]
    fn upper(self) -> Option<NodeId> {
        match self {
            Self::Upper(id, _) => Some(id),
            Self::Lower(_) => None,
        }
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
