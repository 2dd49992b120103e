//! A layer that is being made: what it adds to the layers below and what it hides of them.
//!
//! However it was put together, the same changes give the same bytes: entries in the order of
//! [`Tree::walk`], every directory above an entry listed with its metadata, the root too, a file
//! with several names under its first name with its bytes and under the others as hard links.

use std::collections::{HashMap, HashSet};
use std::io::Write;

use firebuild_core::layer::{Entry, LayerWriter};
use firebuild_core::tree::{Kind, Metadata, Node, NodeId, Tree, TreeError, components, shown};

use crate::Sources;
use crate::error::{Error, Result};
use crate::merge::split;

/// The mode of directories that nothing says the mode of.
const UNLISTED_MODE: u16 = 0o755;

/// Changes to the tree of the layers below.
///
/// Paths are plain: relative to the root, and their parts are not followed if they are symbolic
/// links, so a caller that means what a link leads to resolves it first.
#[derive(Debug)]
pub struct Changes<'a> {
    lower: Option<&'a Tree>,
    tree: Tree,
    whiteouts: HashSet<NodeId>,
    opaque: HashSet<NodeId>,
    empty: bool,
    plain: bool,
}

impl<'a> Changes<'a> {
    /// No changes to `lower`.
    #[must_use]
    pub fn over(lower: &'a Tree) -> Self {
        let root = lower.node(lower.root()).metadata.clone();
        Self::with(Some(lower), Tree::new(root))
    }

    /// No changes to nothing: a layer that lies on no other.
    #[must_use]
    pub fn new() -> Self {
        Self::with(None, Tree::default())
    }

    /// A layer that makes the whole of `tree` and lies on no other.
    #[must_use]
    pub fn whole(tree: Tree) -> Self {
        let empty = tree.entries(tree.root()).next().is_none();
        Self {
            empty,
            ..Self::with(None, tree)
        }
    }

    fn with(lower: Option<&'a Tree>, tree: Tree) -> Self {
        Self {
            lower,
            tree,
            whiteouts: HashSet::new(),
            opaque: HashSet::new(),
            empty: true,
            plain: false,
        }
    }

    /// To be written as an archive that is no layer, in the same form: names that begin with
    /// `.wh.` mean nothing more than others, as for [`firebuild_core::layer::LayerReader::plain`].
    #[must_use]
    pub fn plain(mut self) -> Self {
        self.plain = true;
        self
    }

    /// Whether nothing was changed. Changes that undo each other count as changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.empty
    }

    /// Makes a directory with this metadata, or gives it to the directory that is there in these
    /// changes or below. An empty path means the root.
    ///
    /// # Errors
    /// [`Error::Entry`] if `path` cannot be a path in a tree.
    pub fn directory(&mut self, path: &[u8], metadata: Metadata) -> Result<()> {
        self.empty = false;
        let id = self.ensure_directory(path)?;
        *self.tree.metadata_mut(id) = metadata;
        Ok(())
    }

    /// Puts a file, link or device at `path`, in place of what is there.
    ///
    /// # Errors
    /// [`Error::Entry`] if `path` cannot be a path in a tree; [`Error::Change`] for names that
    /// begin with `.wh.`, which mean something else in a layer.
    pub fn insert(&mut self, path: &[u8], node: Node) -> Result<()> {
        if node.is_directory() {
            return self.directory(path, node.metadata);
        }
        self.empty = false;
        self.put(path, node)?;
        Ok(())
    }

    /// Gives the file at `target`, which must be of these changes, one more name.
    ///
    /// # Errors
    /// [`Error::Entry`] if `target` is not there or is a directory; those of
    /// [`Changes::insert`].
    pub fn link(&mut self, path: &[u8], target: &[u8]) -> Result<()> {
        let fail = |source| Error::entry(path, source);
        let missing = || fail(TreeError::NotFound(shown(target)));
        let target = self.at(target).ok_or_else(missing)?;
        if self.whiteouts.contains(&target) {
            return Err(missing());
        }
        if self.tree.node(target).is_directory() {
            return Err(fail(TreeError::LinkToDirectory(shown(path))));
        }
        let (parent, name) = self.parent(path)?;
        self.tree.link(parent, name, target).map_err(fail)?;
        self.empty = false;
        Ok(())
    }

    /// Takes away what is at `path`, in these changes and below.
    ///
    /// # Errors
    /// Those of [`Changes::insert`].
    pub fn remove(&mut self, path: &[u8]) -> Result<()> {
        let path = path.strip_suffix(b"/").unwrap_or(path);
        if !self.shows_below(path) {
            let (parent, name) = split(path);
            if let Some(parent) = self.at(parent) {
                self.tree.remove(parent, name);
            }
            return Ok(());
        }
        self.empty = false;
        let node = Node {
            metadata: Metadata::default(),
            kind: Kind::Fifo,
        };
        let id = self.put(path, node)?;
        self.whiteouts.insert(id);
        Ok(())
    }

    /// Takes away all that is in the directory `path`, in these changes and below.
    ///
    /// # Errors
    /// Those of [`Changes::insert`].
    pub fn opaque(&mut self, path: &[u8]) -> Result<()> {
        self.empty = false;
        let id = self.ensure_directory(path)?;
        self.tree.clear(id);
        if self.below(path).is_some() {
            self.opaque.insert(id);
        }
        Ok(())
    }

    /// What these changes have at `path`; none for what is hidden or is only below.
    #[must_use]
    pub fn get(&self, path: &[u8]) -> Option<&Node> {
        self.at(path)
            .filter(|id| !self.whiteouts.contains(id))
            .map(|id| self.tree.node(id))
    }

    fn at(&self, path: &[u8]) -> Option<NodeId> {
        self.tree.lookup(path)
    }

    fn put(&mut self, path: &[u8], node: Node) -> Result<NodeId> {
        let (parent, name) = self.parent(path)?;
        self.tree
            .insert(parent, name, node)
            .map_err(|source| Error::entry(path, source))
    }

    fn parent<'p>(&mut self, path: &'p [u8]) -> Result<(NodeId, &'p [u8])> {
        let path = path.strip_suffix(b"/").unwrap_or(path);
        let (parent, name) = split(path);
        if name.starts_with(b".wh.") {
            return Err(Error::Change {
                path: shown(path),
                reason: "names that begin with `.wh.` mean that something is removed",
            });
        }
        Ok((self.ensure_directory(parent)?, name))
    }

    /// Whether the layers below have something at `path` that no change above it hides.
    fn shows_below(&self, path: &[u8]) -> bool {
        if self.lower.and_then(|lower| lower.lookup(path)).is_none() {
            return false;
        }
        let mut at = Some(self.tree.root());
        for part in components(path) {
            let Some(id) = at else {
                return true;
            };
            if self.opaque.contains(&id) || !self.tree.node(id).is_directory() {
                return false;
            }
            at = self.tree.child(id, part);
        }
        true
    }

    /// The directory that the layers below have at `path`.
    fn below(&self, path: &[u8]) -> Option<(&'a Tree, NodeId)> {
        let lower = self.lower?;
        let id = lower.lookup(path)?;
        lower.node(id).is_directory().then_some((lower, id))
    }

    /// The directory of `path` in these changes: as it is there, else as it is below, else new.
    fn ensure_directory(&mut self, path: &[u8]) -> Result<NodeId> {
        let mut at = self.tree.root();
        let mut below = self.below(b"");
        for part in components(path) {
            if self.opaque.contains(&at) {
                below = None;
            }
            below = below.and_then(|(lower, id)| {
                let child = lower.child(id, part)?;
                lower.node(child).is_directory().then_some((lower, child))
            });
            let there = self.tree.child(at, part);
            at = match there {
                Some(id) if self.tree.node(id).is_directory() => id,
                _ => self
                    .make_directory(at, part, &mut below, there.is_some())
                    .map_err(|source| Error::entry(path, source))?,
            };
        }
        Ok(at)
    }

    /// Makes a directory with the metadata of the one `below`. In place of something else, it is
    /// another one, so that `below` must not be seen through it.
    fn make_directory(
        &mut self,
        parent: NodeId,
        name: &[u8],
        below: &mut Option<(&'a Tree, NodeId)>,
        replaces: bool,
    ) -> Result<NodeId, TreeError> {
        let seen = below.filter(|_| !replaces);
        let metadata = seen.map_or_else(
            || Metadata::root_owned(UNLISTED_MODE),
            |(lower, id)| lower.node(id).metadata.clone(),
        );
        let id = self.tree.insert(parent, name, Node::directory(metadata))?;
        if replaces && below.is_some() {
            self.opaque.insert(id);
        }
        *below = seen;
        Ok(id)
    }

    /// Writes the layer. Sockets are left out, as archives have no form for them.
    ///
    /// # Errors
    /// [`Error::Io`] of the sources and the output; [`Error::Store`] if the output is the store's;
    /// [`Error::Change`] for names that mean something else in a layer.
    pub fn write<W: Write>(&self, sources: &Sources, output: W) -> Result<W> {
        let mut writing = Writing {
            changes: self,
            sources,
            writer: LayerWriter::new(output),
            names: HashMap::new(),
        };
        let mut result = Ok(());
        self.tree.walk(&mut |path, id| {
            if result.is_ok() {
                result = writing.node(path, id);
            }
        });
        result?;
        let finished = writing.writer.finish();
        finished.map_err(|error| Error::io(error, || "write a layer".to_owned()))
    }
}

impl Default for Changes<'_> {
    fn default() -> Self {
        Self::new()
    }
}

struct Writing<'a, W> {
    changes: &'a Changes<'a>,
    sources: &'a Sources,
    writer: LayerWriter<W>,
    /// The first names of files that have been written.
    names: HashMap<NodeId, Vec<u8>>,
}

impl<W: Write> Writing<'_, W> {
    fn node(&mut self, path: &[u8], id: NodeId) -> Result<()> {
        let (_, name) = split(path);
        if !self.changes.plain && name.starts_with(b".wh.") {
            return Err(Error::Change {
                path: shown(path),
                reason: "names that begin with `.wh.` mean that something is removed",
            });
        }
        let written = if self.changes.whiteouts.contains(&id) {
            self.writer.whiteout(path)
        } else {
            self.entry(path, id)
        };
        written.map_err(|error| Error::io(error, || format!("write `{}` to a layer", shown(path))))
    }

    fn entry(&mut self, path: &[u8], id: NodeId) -> std::io::Result<()> {
        let changes = self.changes;
        let Node { metadata, kind } = changes.tree.node(id);
        let entry = match kind {
            Kind::Directory(_) => Entry::Directory,
            Kind::Socket => return Ok(()),
            _ if self.names.contains_key(&id) => Entry::HardLink(&self.names[&id]),
            Kind::File(content) => {
                let mut bytes = self.sources.open(content)?;
                self.writer
                    .file(path, metadata, content.length, &mut bytes)?;
                self.names.insert(id, path.to_vec());
                return Ok(());
            }
            Kind::Symlink(target) => Entry::Symlink(target),
            Kind::CharacterDevice(device) => Entry::CharacterDevice(*device),
            Kind::BlockDevice(device) => Entry::BlockDevice(*device),
            Kind::Fifo => Entry::Fifo,
        };
        self.writer.entry(path, metadata, entry)?;
        if changes.opaque.contains(&id) {
            self.writer.opaque(path)?;
        }
        if !matches!(entry, Entry::Directory | Entry::HardLink(_)) {
            self.names.insert(id, path.to_vec());
        }
        Ok(())
    }
}
