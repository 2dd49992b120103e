//! What a tree takes in a file system, wherever it will lie: inode numbers, links, blocks of
//! directories and files, and who shares which attributes.
//!
//! Everything that the format cannot hold is refused here, so that what comes after cannot fail
//! for the tree's sake. Inodes are numbered in the order of [`Tree::walk`].

use std::collections::HashMap;
use std::ops::Range;

use firebuild_core::ByteSize;
use firebuild_core::tree::{Content, Device, Kind, Metadata, Node, NodeId, Tree, Xattrs, shown};

use super::directory;
use super::extent::{self, Extent};
use super::geometry::BLOCK;
use super::hash::Seed;
use super::inode::{FIRST, LONGEST_FAST_SYMLINK, ROOT};
use super::space::Blocks;
use super::xattr::{self, MOST_SHARING, Placement};
use crate::Error;

/// The most names of a file; a directory with more subdirectories counts no longer.
pub(super) const MOST_LINKS: u32 = 65_000;
/// The longest target of a symbolic link.
const LONGEST_SYMLINK: usize = 4095;
/// The length up to which every block of a file has a number.
const LONGEST_FILE: u64 = (u32::MAX as u64) * BLOCK;

/// A node that gets an inode.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item<'t> {
    pub(super) node: NodeId,
    /// Names, and for a directory its own `.` and its subdirectories' `..`.
    pub(super) links: u32,
    /// For a directory: the inode of its parent.
    pub(super) parent: u32,
    /// Blocks of content.
    pub(super) blocks: u64,
    /// Place of its attributes in [`Inventory::xattr_blocks`], if they are not in the inode.
    pub(super) xattr_block: Option<u32>,
    /// For a file whose content is in the image already: the blocks of its source.
    pub(super) placed: Option<&'t Blocks>,
}

/// A block of attributes that one or more inodes have.
#[derive(Debug, Clone)]
pub(super) struct SharedXattrs {
    /// One of the nodes that have exactly these attributes.
    pub(super) node: NodeId,
    /// How many inodes have the block.
    pub(super) references: u32,
    /// Attributes whose values are in inodes of their own, by place in the sorted set.
    pub(super) outside: Vec<usize>,
    /// Blocks of those values.
    pub(super) value_blocks: u64,
    /// The first of those inodes.
    pub(super) first_inode: u32,
}

/// All that gets an inode.
pub(super) struct Inventory<'t> {
    pub(super) tree: &'t Tree,
    /// The root directory, then the inodes from [`FIRST`] on.
    pub(super) items: Vec<Item<'t>>,
    pub(super) xattr_blocks: Vec<SharedXattrs>,
    /// Inodes for values of attributes; their numbers follow those of the items.
    pub(super) values: u32,
    /// Inode numbers by node; 0 for those that have none.
    numbers: Vec<u32>,
    /// The block of attributes that is not yet shared by as many as may.
    open: HashMap<&'t Xattrs, u32>,
    hash_seed: Seed,
    placed: &'t Placed<'t>,
}

/// The blocks of a source whose bytes are in the image already.
pub(super) type Placed<'p> = dyn Fn(u32) -> Option<&'p Blocks> + 'p;

impl<'t> Inventory<'t> {
    /// Numbers and checks all that can be reached from the root.
    pub(super) fn of(
        tree: &'t Tree,
        hash_seed: Seed,
        placed: &'t Placed<'t>,
    ) -> Result<Self, Error> {
        let mut inventory = Self {
            tree,
            items: Vec::new(),
            xattr_blocks: Vec::new(),
            values: 0,
            numbers: vec![0; tree.capacity()],
            open: HashMap::new(),
            hash_seed,
            placed,
        };
        let mut result = Ok(());
        tree.walk(&mut |path, id| {
            if result.is_ok() {
                result = inventory.visit(path, id);
            }
        });
        result?;
        inventory.number_values()?;
        Ok(inventory)
    }

    /// The inode number of a reachable node.
    pub(super) fn number(&self, node: NodeId) -> u32 {
        self.numbers[node.index()]
    }

    /// The inode number of an item.
    pub(super) fn item_number(index: usize) -> u32 {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        if index == 0 {
            ROOT
        } else {
            (FIRST - 1).saturating_add(index)
        }
    }

    /// How many inodes are in use, reserved ones included.
    pub(super) fn inodes(&self) -> u64 {
        u64::from(FIRST) - 2 + self.items.len() as u64 + u64::from(self.values)
    }

    /// The runs of blocks that an item's content covers, in numbers of the file's own blocks.
    pub(super) fn runs(&self, item: &Item<'_>) -> Vec<Range<u64>> {
        match &self.tree.node(item.node).kind {
            Kind::File(content) => runs(content),
            _ => extent::contiguous(item.blocks),
        }
    }

    /// The extents of a file whose content is in the image already; none for anything else.
    pub(super) fn placed_extents(&self, item: &Item<'_>) -> Option<Vec<Extent>> {
        match &self.tree.node(item.node).kind {
            Kind::File(content) => Some(extent::placed(content, item.placed?)),
            _ => None,
        }
    }

    fn visit(&mut self, path: &[u8], id: NodeId) -> Result<(), Error> {
        let known = self.numbers[id.index()];
        if known != 0 {
            return self.add_name(path, known);
        }
        let index = self.items.len();
        let number = Self::item_number(index);
        if number >= u32::MAX - FIRST {
            let count = index as u64;
            return Err(Error::TooManyInodes { count });
        }
        self.numbers[id.index()] = number;
        let node = self.tree.node(id);
        check_metadata(path, &node.metadata)?;
        let item = Item {
            node: id,
            links: self.links(id),
            parent: ROOT,
            blocks: self.content_blocks(path, id, node)?,
            placed: self.placed(path, node)?,
            xattr_block: self.xattr_block(path, id, &node.metadata.xattrs)?,
        };
        self.items.push(item);
        Ok(())
    }

    fn add_name(&mut self, path: &[u8], number: u32) -> Result<(), Error> {
        let index = (number + 1).saturating_sub(FIRST) as usize;
        let links = &mut self.items[index].links;
        *links += 1;
        if *links > MOST_LINKS {
            return Err(Error::TooManyLinks { path: shown(path) });
        }
        Ok(())
    }

    fn links(&self, id: NodeId) -> u32 {
        let node = self.tree.node(id);
        if !node.is_directory() {
            return 1;
        }
        let is_directory = |(_, child): &(_, NodeId)| self.tree.node(*child).is_directory();
        let count = self.tree.entries(id).filter(is_directory).count();
        u32::try_from(count).unwrap_or(u32::MAX - 2) + 2
    }

    fn content_blocks(&self, path: &[u8], id: NodeId, node: &Node) -> Result<u64, Error> {
        match &node.kind {
            Kind::Directory(_) => {
                let names = self.tree.entries(id).map(|(name, _)| name);
                let names: Vec<_> = names.collect();
                directory::block_count(names.iter().copied(), &self.hash_seed)
                    .map_err(|_| Error::TooManyEntries { path: shown(path) })
            }
            Kind::File(content) => {
                check_content(path, content)?;
                Ok(runs(content).iter().map(|run| run.end - run.start).sum())
            }
            Kind::Symlink(target) => {
                check_symlink(path, target)?;
                Ok(u64::from(target.len() > LONGEST_FAST_SYMLINK))
            }
            Kind::CharacterDevice(device) | Kind::BlockDevice(device) => {
                check_device(path, *device)?;
                Ok(0)
            }
            Kind::Fifo | Kind::Socket => Ok(0),
        }
    }

    fn placed(&self, path: &[u8], node: &Node) -> Result<Option<&'t Blocks>, Error> {
        let Kind::File(content) = &node.kind else {
            return Ok(None);
        };
        let Some(blocks) = (self.placed)(content.source) else {
            return Ok(None);
        };
        if is_aligned(content, blocks.count()) {
            Ok(Some(blocks))
        } else {
            Err(Error::Segments { path: shown(path) })
        }
    }

    fn xattr_block(
        &mut self,
        path: &[u8],
        id: NodeId,
        xattrs: &'t Xattrs,
    ) -> Result<Option<u32>, Error> {
        if xattrs.is_empty() {
            return Ok(None);
        }
        let attributes = xattr::parse(xattrs).map_err(|(name, problem)| Error::Xattr {
            path: shown(path),
            name: shown(name),
            problem,
        })?;
        let placement =
            xattr::place(&attributes).ok_or_else(|| Error::TooManyXattrs { path: shown(path) })?;
        let Placement::Block(outside) = placement else {
            return Ok(None);
        };
        if let Some(index) = self.open.get(xattrs) {
            let block = &mut self.xattr_blocks[*index as usize];
            if block.references < MOST_SHARING {
                block.references += 1;
                return Ok(Some(*index));
            }
        }
        let count = self.xattr_blocks.len() as u64;
        let index = u32::try_from(count).map_err(|_| Error::TooManyInodes { count })?;
        let value = |index: &usize| xattr::value_blocks(attributes[*index].value());
        self.xattr_blocks.push(SharedXattrs {
            node: id,
            references: 1,
            value_blocks: outside.iter().map(value).sum(),
            outside,
            first_inode: 0,
        });
        self.open.insert(xattrs, index);
        Ok(Some(index))
    }

    /// Also gives directories their parents, as all numbers are known now.
    fn number_values(&mut self) -> Result<(), Error> {
        let outside = self
            .xattr_blocks
            .iter()
            .map(|block| block.outside.len() as u64);
        let values: u64 = outside.sum();
        let count = self.inodes() + values;
        let error = Error::TooManyInodes { count };
        if count > u64::from(u32::MAX - FIRST) {
            return Err(error);
        }
        self.values = u32::try_from(values).map_err(|_| error)?;
        let mut next = Self::item_number(self.items.len());
        for block in &mut self.xattr_blocks {
            block.first_inode = next;
            next += u32::try_from(block.outside.len()).unwrap_or(0);
        }
        for index in 0..self.items.len() {
            for (_, child) in self.tree.entries(self.items[index].node) {
                if self.tree.node(child).is_directory() {
                    let at = (self.number(child) + 1).saturating_sub(FIRST) as usize;
                    self.items[at].parent = Self::item_number(index);
                }
            }
        }
        Ok(())
    }
}

fn check_metadata(path: &[u8], metadata: &Metadata) -> Result<(), Error> {
    let fits = metadata.mode <= 0o7777
        && metadata.uid != u32::MAX
        && metadata.gid != u32::MAX
        && metadata.mtime.nanoseconds < 1_000_000_000;
    if fits {
        Ok(())
    } else {
        Err(Error::Metadata { path: shown(path) })
    }
}

fn check_content(path: &[u8], content: &Content) -> Result<(), Error> {
    if content.length > LONGEST_FILE {
        return Err(Error::FileTooLarge {
            path: shown(path),
            size: ByteSize(content.length),
        });
    }
    let mut end = 0;
    for segment in &content.segments {
        let next = segment.start.checked_add(segment.length);
        let next = next.filter(|next| *next <= content.length);
        let fits = segment.start >= end
            && segment.length > 0
            && segment.offset.checked_add(segment.length).is_some();
        end = match next {
            Some(next) if fits => next,
            _ => return Err(Error::Segments { path: shown(path) }),
        };
    }
    Ok(())
}

/// Whether each segment begins a block and ends one, or ends where nothing follows, within a source
/// of so many blocks.
fn is_aligned(content: &Content, count: u64) -> bool {
    let mut end = 0;
    content.segments.iter().all(|segment| {
        let blocks = segment.length.div_ceil(BLOCK);
        let fits = segment.start.is_multiple_of(BLOCK)
            && segment.offset.is_multiple_of(BLOCK)
            && segment.start >= end
            && segment.offset / BLOCK + blocks <= count;
        end = segment.start + blocks * BLOCK;
        fits
    })
}

fn check_symlink(path: &[u8], target: &[u8]) -> Result<(), Error> {
    if target.is_empty() || target.len() > LONGEST_SYMLINK || target.contains(&0) {
        return Err(Error::SymlinkTarget {
            path: shown(path),
            length: target.len(),
        });
    }
    Ok(())
}

fn check_device(path: &[u8], device: Device) -> Result<(), Error> {
    let Device { major, minor } = device;
    if major >> 12 != 0 || minor >> 20 != 0 {
        return Err(Error::DeviceNumber {
            path: shown(path),
            major,
            minor,
        });
    }
    Ok(())
}

/// The runs of blocks that a file's segments touch: ascending, not adjacent.
fn runs(content: &Content) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for segment in &content.segments {
        let first = segment.start / BLOCK;
        let end = (segment.start + segment.length).div_ceil(BLOCK);
        match runs.last_mut() {
            Some(run) if first <= run.end => run.end = run.end.max(end),
            _ => runs.push(first..end),
        }
    }
    runs
}
