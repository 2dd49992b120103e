//! A file tree with all its metadata: the common form of layers, root file systems and copies.
//!
//! A tree holds names and metadata; the bytes of files stay where they are, and a file's
//! [`Content`] says where that is. What must hold, and what the methods here keep true:
//!
//! * every name is 1 to 255 bytes without `/` and NUL, and is neither `.` nor `..`;
//! * a directory has exactly one parent, so the tree has no loops;
//! * anything else may have several names, which are hard links to one node.

use std::collections::BTreeMap;
use std::fmt;

use crate::printable;

/// The longest name that Linux file systems hold, in bytes.
pub const LONGEST_NAME: usize = 255;

/// The most links that a path may lead through before it counts as a loop, as in Linux.
pub const MOST_LINKS: usize = 40;

/// The most nodes of a tree, reachable or not: a path of a few bytes may make many directories, and
/// each takes memory.
pub const MOST_NODES: usize = 4_000_000;

/// Names a node of one [`Tree`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u32);

impl NodeId {
    /// The position in [`Tree`]'s own numbering: dense, below [`Tree::capacity`].
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// The name of a directory's entry: any bytes that Linux takes for one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

impl Name {
    /// Checks that `bytes` can name an entry.
    ///
    /// # Errors
    /// [`TreeError::Name`] if they are empty, longer than [`LONGEST_NAME`], `.`, `..`, or hold a
    /// slash or NUL.
    pub fn new(bytes: &[u8]) -> Result<Self, TreeError> {
        let fits = !bytes.is_empty()
            && bytes.len() <= LONGEST_NAME
            && bytes != b"."
            && bytes != b".."
            && !bytes.contains(&b'/')
            && !bytes.contains(&0);
        if fits {
            Ok(Self(bytes.into()))
        } else {
            Err(TreeError::Name(shown(bytes)))
        }
    }

    /// The name's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::borrow::Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// A point in time: seconds since 1970 and nanoseconds below a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z; negative before it.
    pub seconds: i64,
    /// 0 to 999,999,999, counted forward from `seconds`.
    pub nanoseconds: u32,
}

/// Extended attributes, by full name (`user.x`, `security.capability`).
pub type Xattrs = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// What every node has beside its kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Metadata {
    /// Permission, set-id and sticky bits: 0 to 0o7777.
    pub mode: u16,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// When the content last changed.
    pub mtime: Timestamp,
    /// Extended attributes.
    pub xattrs: Xattrs,
}

impl Metadata {
    /// Owner and group 0, time 0, no attributes.
    #[must_use]
    pub fn root_owned(mode: u16) -> Self {
        Self {
            mode,
            ..Self::default()
        }
    }
}

/// A run of a file's bytes that lies in a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Segment {
    /// Where the run begins in the file, in bytes.
    pub start: u64,
    /// Where it begins in the source, in bytes.
    pub offset: u64,
    /// Its length in bytes, above 0.
    pub length: u64,
}

/// Where a file's bytes are. What no segment covers is a hole, read as zeros.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Content {
    /// Which source the segments lie in; what the number means is the tree's owner's to say.
    pub source: u32,
    /// The file's length in bytes, holes included.
    pub length: u64,
    /// Ascending, not overlapping, within `length`.
    pub segments: Box<[Segment]>,
}

impl Content {
    /// A file of `length` bytes that lies in one piece at `offset` of `source`.
    #[must_use]
    pub fn whole(source: u32, offset: u64, length: u64) -> Self {
        let segments: Box<[Segment]> = if length == 0 {
            Box::new([])
        } else {
            Box::new([Segment {
                start: 0,
                offset,
                length,
            }])
        };
        Self {
            source,
            length,
            segments,
        }
    }
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory and its entries, in the order of their names' bytes.
    Directory(BTreeMap<Name, NodeId>),
    /// A regular file.
    File(Content),
    /// A symbolic link and its target.
    Symlink(Box<[u8]>),
    /// A character device.
    CharacterDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A named pipe.
    Fifo,
    /// A Unix socket's name.
    Socket,
}

/// The number of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Device {
    /// The driver: 12 bits in Linux.
    pub major: u32,
    /// The unit: 20 bits in Linux.
    pub minor: u32,
}

/// A file, directory, link or device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Mode, owner, time, attributes.
    pub metadata: Metadata,
    /// What it is.
    pub kind: Kind,
}

impl Node {
    /// A directory without entries.
    #[must_use]
    pub fn directory(metadata: Metadata) -> Self {
        Self {
            metadata,
            kind: Kind::Directory(BTreeMap::new()),
        }
    }

    /// True for a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory(_))
    }
}

/// Why a tree refused a change or a look-up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// Bytes that cannot name an entry.
    #[error("`{0}` cannot be a file's name")]
    Name(String),
    /// The parent is there and is no directory.
    #[error("`{0}` is not a directory")]
    NotDirectory(String),
    /// Nothing has that path.
    #[error("`{0}` does not exist")]
    NotFound(String),
    /// A path led through too many symbolic links.
    #[error("`{0}` leads through more than 40 symbolic links")]
    Loop(String),
    /// Many paths together led through too much.
    #[error("`{0}` and other paths together lead too far through symbolic links")]
    TooFar(String),
    /// A directory was to get a second name.
    #[error("`{0}` is a directory, which can have only one name")]
    LinkToDirectory(String),
    /// More nodes than [`MOST_NODES`].
    #[error("the tree has more than 4 million entries")]
    Full,
}

/// How many parts of paths may still be walked. A path of a few bytes may lead through forty links of
/// thousands of parts each.
#[derive(Debug, Clone, Copy)]
pub struct Steps(pub u64);

impl Steps {
    /// Takes one, for `path`.
    ///
    /// # Errors
    /// [`TreeError::TooFar`] if none is left.
    pub fn take(&mut self, path: &[u8]) -> Result<(), TreeError> {
        let left = self.0.checked_sub(1);
        self.0 = left.ok_or_else(|| TreeError::TooFar(shown(path)))?;
        Ok(())
    }
}

/// Text for an error message from a path's bytes.
#[must_use]
pub fn shown(path: &[u8]) -> String {
    if path.is_empty() {
        return "/".to_owned();
    }
    printable(&String::from_utf8_lossy(path), 300)
}

/// The parts of a path, without empty ones and `.`; `..` is kept.
pub fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
}

/// A file tree. Node 0 is the root directory.
#[derive(Debug, Clone)]
pub struct Tree {
    nodes: Vec<Node>,
}

impl Default for Tree {
    fn default() -> Self {
        Self::new(Metadata::root_owned(0o755))
    }
}

impl Tree {
    /// A tree whose only node is its root directory.
    #[must_use]
    pub fn new(root: Metadata) -> Self {
        Self {
            nodes: vec![Node::directory(root)],
        }
    }

    /// The root directory.
    #[must_use]
    pub fn root(&self) -> NodeId {
        NodeId(0)
    }

    /// One above the highest index of any node, reachable or not.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.nodes.len()
    }

    /// A node. Ids come from this tree only; one of another tree may panic.
    #[must_use]
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// A node's metadata, to change it.
    pub fn metadata_mut(&mut self, id: NodeId) -> &mut Metadata {
        &mut self.nodes[id.index()].metadata
    }

    /// Says that a file's bytes are elsewhere. Does nothing to what is no file.
    pub fn set_content(&mut self, id: NodeId, content: Content) {
        if let Kind::File(old) = &mut self.nodes[id.index()].kind {
            *old = content;
        }
    }

    /// The entries of a directory; none for anything else.
    pub fn entries(&self, id: NodeId) -> impl DoubleEndedIterator<Item = (&Name, NodeId)> {
        let entries = match &self.node(id).kind {
            Kind::Directory(entries) => Some(entries),
            _ => None,
        };
        entries.into_iter().flatten().map(|(name, id)| (name, *id))
    }

    /// The entry `name` of directory `parent`.
    #[must_use]
    pub fn child(&self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        match &self.node(parent).kind {
            Kind::Directory(entries) => entries.get(name).copied(),
            _ => None,
        }
    }

    /// Puts a new node under `parent`, in place of an entry of that name.
    ///
    /// A directory in `node` must come without entries of its own.
    ///
    /// # Errors
    /// [`TreeError::Name`], [`TreeError::NotDirectory`], [`TreeError::Full`].
    pub fn insert(&mut self, parent: NodeId, name: &[u8], node: Node) -> Result<NodeId, TreeError> {
        debug_assert!(!matches!(&node.kind, Kind::Directory(entries) if !entries.is_empty()));
        let name = Name::new(name)?;
        let number = u32::try_from(self.nodes.len()).map_err(|_| TreeError::Full)?;
        if self.nodes.len() >= MOST_NODES {
            return Err(TreeError::Full);
        }
        let id = NodeId(number);
        self.entries_mut(parent, name.as_bytes())?.insert(name, id);
        self.nodes.push(node);
        Ok(id)
    }

    /// Gives `target`, which is no directory, one more name.
    ///
    /// # Errors
    /// [`TreeError::LinkToDirectory`], [`TreeError::Name`], [`TreeError::NotDirectory`].
    pub fn link(&mut self, parent: NodeId, name: &[u8], target: NodeId) -> Result<(), TreeError> {
        if self.node(target).is_directory() {
            return Err(TreeError::LinkToDirectory(shown(name)));
        }
        let name = Name::new(name)?;
        self.entries_mut(parent, name.as_bytes())?
            .insert(name, target);
        Ok(())
    }

    /// Takes an entry away, with all below it. Returns whether there was one.
    pub fn remove(&mut self, parent: NodeId, name: &[u8]) -> bool {
        match &mut self.nodes[parent.index()].kind {
            Kind::Directory(entries) => entries.remove(name).is_some(),
            _ => false,
        }
    }

    /// Takes all entries of a directory away.
    pub fn clear(&mut self, directory: NodeId) {
        if let Kind::Directory(entries) = &mut self.nodes[directory.index()].kind {
            entries.clear();
        }
    }

    /// Finds a path from the root without following symbolic links; `..` finds nothing.
    #[must_use]
    pub fn lookup(&self, path: &[u8]) -> Option<NodeId> {
        components(path).try_fold(self.root(), |at, part| self.child(at, part))
    }

    /// Finds a path from the root as a process confined to it would: symbolic links are followed,
    /// absolute ones from the root, and `..` stops at the root. The last part is followed only if
    /// `follow_last`.
    ///
    /// # Errors
    /// [`TreeError::NotFound`], [`TreeError::NotDirectory`], [`TreeError::Loop`].
    pub fn resolve(&self, path: &[u8], follow_last: bool) -> Result<NodeId, TreeError> {
        self.resolve_within(path, follow_last, &mut Steps(u64::MAX))
    }

    /// The same, for many paths that may be made to lead far: what each takes is taken of `steps`.
    ///
    /// # Errors
    /// Those of [`Tree::resolve`]; [`TreeError::TooFar`].
    pub fn resolve_within(
        &self,
        path: &[u8],
        follow_last: bool,
        steps: &mut Steps,
    ) -> Result<NodeId, TreeError> {
        let mut todo: Vec<&[u8]> = components(path).rev().collect();
        let mut at = vec![self.root()];
        let mut links = 0;
        while let Some(part) = todo.pop() {
            steps.take(path)?;
            let here = at.last().copied().unwrap_or(self.root());
            if part == b".." {
                if at.len() > 1 {
                    at.pop();
                }
                continue;
            }
            if !self.node(here).is_directory() {
                return Err(TreeError::NotDirectory(shown(path)));
            }
            let child = self
                .child(here, part)
                .ok_or_else(|| TreeError::NotFound(shown(path)))?;
            match &self.node(child).kind {
                Kind::Symlink(target) if follow_last || !todo.is_empty() => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(TreeError::Loop(shown(path)));
                    }
                    if target.first() == Some(&b'/') {
                        at.truncate(1);
                    }
                    todo.extend(components(target).rev());
                }
                _ => at.push(child),
            }
        }
        Ok(at.last().copied().unwrap_or(self.root()))
    }

    /// Visits every reachable name, parents before children, siblings in the order of their names'
    /// bytes; the root comes first, with an empty path. A node with several names is visited once
    /// for each.
    pub fn walk(&self, visit: &mut dyn FnMut(&[u8], NodeId)) {
        visit(b"", self.root());
        let mut stack = vec![(0_usize, self.entries(self.root()))];
        let mut path: Vec<u8> = Vec::new();
        while let Some((length, entries)) = stack.last_mut() {
            path.truncate(*length);
            let Some((name, id)) = entries.next() else {
                stack.pop();
                continue;
            };
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name.as_bytes());
            visit(&path, id);
            if self.node(id).is_directory() {
                stack.push((path.len(), self.entries(id)));
            }
        }
    }

    fn entries_mut(
        &mut self,
        parent: NodeId,
        name: &[u8],
    ) -> Result<&mut BTreeMap<Name, NodeId>, TreeError> {
        match &mut self.nodes[parent.index()].kind {
            Kind::Directory(entries) => Ok(entries),
            _ => Err(TreeError::NotDirectory(shown(name))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Node {
        Node {
            metadata: Metadata::root_owned(0o644),
            kind: Kind::File(Content::default()),
        }
    }

    fn symlink(target: &str) -> Node {
        Node {
            metadata: Metadata::root_owned(0o777),
            kind: Kind::Symlink(target.as_bytes().into()),
        }
    }

    fn sample() -> Tree {
        let mut tree = Tree::default();
        let root = tree.root();
        let etc = tree
            .insert(root, b"etc", Node::directory(Metadata::root_owned(0o755)))
            .unwrap();
        let conf = tree.insert(etc, b"conf", file()).unwrap();
        tree.insert(etc, b"up", symlink("../../../etc/conf"))
            .unwrap();
        tree.insert(root, b"abs", symlink("/etc")).unwrap();
        tree.insert(root, b"loop", symlink("loop")).unwrap();
        tree.link(root, b"hard", conf).unwrap();
        tree
    }

    #[test]
    fn walks_in_order_of_bytes() {
        let mut seen = Vec::new();
        sample().walk(&mut |path, _| seen.push(String::from_utf8_lossy(path).into_owned()));
        assert_eq!(
            seen,
            ["", "abs", "etc", "etc/conf", "etc/up", "hard", "loop"]
        );
    }

    #[test]
    fn resolves_within_the_root() {
        let tree = sample();
        let conf = tree.lookup(b"/etc/conf").unwrap();
        for path in [
            "etc/conf",
            "/abs/conf",
            "abs/up",
            "../../etc/./conf",
            "hard",
            "abs/../hard",
        ] {
            assert_eq!(tree.resolve(path.as_bytes(), true), Ok(conf), "{path}");
        }
        assert_eq!(
            tree.resolve(b"loop", true),
            Err(TreeError::Loop("loop".into()))
        );
        assert!(tree.resolve(b"loop", false).is_ok());
        assert_eq!(
            tree.resolve(b"hard/x", true),
            Err(TreeError::NotDirectory("hard/x".into()))
        );
        assert_eq!(
            tree.resolve(b"etc/none", true),
            Err(TreeError::NotFound("etc/none".into()))
        );
        assert_eq!(tree.lookup(b"abs/conf"), None);
    }

    #[test]
    fn keeps_its_promises() {
        let mut tree = sample();
        let root = tree.root();
        let etc = tree.lookup(b"etc").unwrap();
        for name in [&b""[..], b".", b"..", b"a/b", b"a\0", &[b'x'; 256]] {
            assert!(tree.insert(root, name, file()).is_err());
        }
        assert!(matches!(
            tree.link(root, b"again", etc),
            Err(TreeError::LinkToDirectory(_))
        ));
        let conf = tree.lookup(b"hard").unwrap();
        assert!(matches!(
            tree.insert(conf, b"x", file()),
            Err(TreeError::NotDirectory(_))
        ));
        assert!(tree.remove(root, b"hard"));
        assert!(!tree.remove(root, b"hard"));
        tree.clear(etc);
        assert_eq!(tree.entries(etc).count(), 0);
    }
}
