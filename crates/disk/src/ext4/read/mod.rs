//! A file system that somebody else made, as a tree: ext4, ext3 and ext2 as Linux and `mke2fs` write
//! them.
//!
//! Files' bytes stay where they are: a file's segments are places in the image. Nothing is mounted,
//! and what is read is hostile: every number is checked before it is used. What keeps it bounded is
//! that in a sound file system nothing has two owners: each directory is visited once, and all blocks
//! that are read or referred to together are no more than there are (`image::Budget`), nor than a layer may have. Checksums are
//! not looked at: whoever writes such an image can write those as well.
//!
//! An empty `lost+found`, which belongs to the file system and not to what is in it, is left out.

mod attributes;
mod blocks;
mod directory;
mod error;
mod image;
mod inode;

use std::collections::{HashMap, HashSet};
use std::fs::File;

use firebuild_core::tree::{Content, Kind, Node, NodeId, Tree};

pub use error::ReadError;
use error::{Result, damaged};
use image::Image;
use inode::{Found, Inode};

use super::inode::ROOT;

/// As many as a layer may have.
const MOST_ENTRIES: usize = 2_000_000;
/// The longest path, in bytes; so directories are not deep either.
const LONGEST_PATH: usize = 4096;

/// What `mke2fs` makes for `e2fsck`.
const LOST_AND_FOUND: &[u8] = b"lost+found";

/// Reads the tree of a file system that is not in use. The bytes of its files are segments of
/// `image`, which is the source of this number.
///
/// # Errors
/// [`ReadError`]; only [`ReadError::Io`] if it is not the file system's fault.
pub fn read(image: &File, source: u32) -> Result<Tree, ReadError> {
    let mut reader = Reader {
        image: Image::open(image)?,
        source,
        linked: HashMap::new(),
        visited: HashSet::from([ROOT]),
        entries: 0,
        waiting: Vec::new(),
    };
    let root = reader.image.inode(ROOT)?;
    if !root.is_directory() {
        return Err(damaged("its root is no directory"));
    }
    let mut tree = Tree::new(reader.image.metadata(&root)?);
    reader.waiting.push((root, tree.root(), 0));
    while let Some((directory, id, length)) = reader.waiting.pop() {
        reader.directory(&mut tree, &directory, (id, length))?;
    }
    let lost = tree.child(tree.root(), LOST_AND_FOUND);
    if lost.is_some_and(|id| tree.node(id).is_directory() && tree.entries(id).next().is_none()) {
        tree.remove(tree.root(), LOST_AND_FOUND);
    }
    Ok(tree)
}

struct Reader<'a> {
    image: Image<'a>,
    source: u32,
    /// What may have more names, by its inode.
    linked: HashMap<u32, NodeId>,
    /// The directories that are known.
    visited: HashSet<u32>,
    /// How many names there are so far.
    entries: usize,
    /// Directories whose entries are still to be read, and how long their paths are.
    waiting: Vec<(Inode, NodeId, usize)>,
}

impl Reader<'_> {
    fn directory(
        &mut self,
        tree: &mut Tree,
        directory: &Inode,
        (parent, length): (NodeId, usize),
    ) -> Result<()> {
        for entry in directory::entries(&mut self.image, directory)? {
            let length = length + 1 + entry.name.len();
            self.entries += 1;
            if length > LONGEST_PATH {
                return Err(ReadError::TooMuch("a path of more than 4096 bytes"));
            }
            if self.entries > MOST_ENTRIES {
                return Err(ReadError::TooMuch("more than 2000000 entries"));
            }
            if tree.child(parent, &entry.name).is_some() {
                return Err(damaged("a directory has a name twice"));
            }
            if let Some(known) = self.linked.get(&entry.inode) {
                tree.link(parent, &entry.name, *known)?;
                continue;
            }
            let inode = self.image.inode(entry.inode)?;
            let node = Node {
                metadata: self.image.metadata(&inode)?,
                kind: self.kind(&inode)?,
            };
            let id = tree.insert(parent, &entry.name, node)?;
            if !inode.is_directory() {
                // Even where it says that it has one name: two names are one file all the same.
                self.linked.insert(entry.inode, id);
            } else if self.visited.insert(entry.inode) {
                self.waiting.push((inode, id, length));
            } else {
                return Err(damaged("a directory is in two places"));
            }
        }
        Ok(())
    }

    fn kind(&mut self, inode: &Inode) -> Result<Kind> {
        Ok(match inode.found()? {
            Found::Directory => Node::directory(firebuild_core::tree::Metadata::default()).kind,
            Found::File => Kind::File(Content {
                source: self.source,
                length: inode.size,
                segments: blocks::segments(&mut self.image, inode)?.into(),
            }),
            Found::Symlink => Kind::Symlink(self.image.target(inode)?),
            Found::CharacterDevice => Kind::CharacterDevice(inode.device()),
            Found::BlockDevice => Kind::BlockDevice(inode.device()),
            Found::Fifo => Kind::Fifo,
            Found::Socket => Kind::Socket,
        })
    }
}
