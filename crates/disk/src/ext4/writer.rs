//! Writes what is planned: the content of directories, links, attributes and files at its place,
//! then [`super::tables`].

use std::io;
use std::ops::Range;

use firebuild_core::tree::{Content, Kind, NodeId, Segment, Tree, shown};

use super::checksum::Checksum;
use super::directory::{self, Entry};
use super::geometry::{BLOCK, BLOCK_SIZE};
use super::hash::Seed;
use super::image::{BUFFER, Image};
use super::inode;
use super::inventory::{Inventory, Item, SharedXattrs};
use super::journal;
use super::plan::Plan;
use super::space::{Blocks, Room};
use super::xattr::{self, Attribute, XattrBlock};
use crate::{ContentSource, Error};

/// What tells file systems apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity<'a> {
    pub(super) uuid: [u8; 16],
    pub(super) hash_seed: Seed,
    pub(super) label: &'a [u8],
}

impl Identity<'_> {
    /// Where all checksums of the file system begin.
    pub(super) fn checksum(&self) -> Checksum {
        Checksum::of_file_system(&self.uuid)
    }
}

/// All that is known before the first byte is written.
pub(super) struct Job<'a> {
    pub(super) inventory: Inventory<'a>,
    pub(super) plan: Plan,
    pub(super) identity: Identity<'a>,
}

/// The value of an attribute that has an inode of its own.
pub(super) struct Value<'s> {
    pub(super) inode: u32,
    pub(super) bytes: &'s [u8],
    /// Its positions in the data space.
    pub(super) positions: Range<u64>,
}

impl Job<'_> {
    /// Writes everything that is not in an inode or about inodes and blocks.
    pub(super) fn write_content(
        &self,
        source: &(impl ContentSource + ?Sized),
        image: &mut Image<'_>,
    ) -> Result<(), Error> {
        self.write_journal(image).map_err(Error::Write)?;
        for (index, item) in self.inventory.items.iter().enumerate() {
            self.write_small(index, item, image).map_err(Error::Write)?;
        }
        for (shared, start) in self.xattr_blocks() {
            self.write_xattrs(shared, start, image)
                .map_err(Error::Write)?;
        }
        for (item, start) in self.inventory.items.iter().zip(&self.plan.allocation.items) {
            if item.placed.is_some() {
                continue;
            }
            if let Kind::File(content) = &self.inventory.tree.node(item.node).kind {
                let file = FileWriter {
                    content,
                    space: self.space(),
                    image,
                };
                file.write(*start, source)
                    .map_err(|error| self.name(error, item.node))?;
            }
        }
        Ok(())
    }

    /// Makes holes of the blocks of `room` that nothing is in.
    pub(super) fn clear(&self, room: &Room, image: &mut Image<'_>) -> io::Result<()> {
        let used = &self.plan.used;
        for taken in room.handed_out() {
            let mut start = taken.start;
            let first = used.partition_point(|range| range.end <= start);
            for range in used[first..]
                .iter()
                .take_while(|range| range.start < taken.end)
            {
                if start < range.start {
                    image.clear(start..range.start)?;
                }
                start = range.end;
            }
            if start < taken.end {
                image.clear(start..taken.end)?;
            }
        }
        Ok(())
    }

    pub(super) fn space(&self) -> &Blocks {
        &self.plan.layout.space
    }

    /// The blocks of attributes, with their positions.
    pub(super) fn xattr_blocks(&self) -> impl Iterator<Item = (&SharedXattrs, u64)> {
        let starts = self.plan.allocation.xattr_blocks.iter().copied();
        self.inventory.xattr_blocks.iter().zip(starts)
    }

    fn write_journal(&self, image: &mut Image<'_>) -> io::Result<()> {
        let (start, blocks) = self.plan.allocation.journal;
        if blocks == 0 {
            return Ok(());
        }
        let bytes = journal::encode(blocks, &self.identity.uuid);
        image.put_block(self.space().block(start), &bytes)
    }

    /// A directory, or a link that does not fit into its inode.
    fn write_small(&self, index: usize, item: &Item<'_>, image: &mut Image<'_>) -> io::Result<()> {
        let start = self.plan.allocation.items[index];
        match &self.inventory.tree.node(item.node).kind {
            Kind::Directory(_) => self.write_directory(index, item, image),
            Kind::Symlink(target) if item.blocks > 0 => {
                image.put(self.space().block(start) * BLOCK, target)
            }
            _ => Ok(()),
        }
    }

    fn write_directory(
        &self,
        index: usize,
        item: &Item<'_>,
        image: &mut Image<'_>,
    ) -> io::Result<()> {
        let tree = self.inventory.tree;
        let entry = |(name, node)| Entry {
            name,
            inode: self.inventory.number(node),
            kind: inode::file_type(&tree.node(node).kind).1,
        };
        let entries: Vec<_> = tree.entries(item.node).map(entry).collect();
        let own = Inventory::item_number(index);
        let start = self.plan.allocation.items[index];
        let mut blocks = self.space().blocks(start..start + item.blocks).flatten();
        let mut emit = |bytes: &_| match blocks.next() {
            Some(block) => image.put_block(block, bytes),
            None => Ok(()),
        };
        let numbers = directory::Numbers {
            own,
            parent: item.parent,
        };
        let seeds = directory::Seeds {
            hash: self.identity.hash_seed,
            checksum: self.identity.checksum().of_inode(own),
        };
        directory::encode(numbers, &entries, &seeds, &mut emit)
    }

    fn write_xattrs(
        &self,
        shared: &SharedXattrs,
        start: u64,
        image: &mut Image<'_>,
    ) -> io::Result<()> {
        let attributes = attributes(self.inventory.tree, shared.node);
        let block = self.space().block(start);
        let outside: Vec<_> = shared
            .outside
            .iter()
            .copied()
            .zip(shared.first_inode..)
            .collect();
        let xattr_block = XattrBlock {
            attributes: &attributes,
            outside: &outside,
            references: shared.references,
            block,
        };
        image.put_block(block, &xattr_block.encode(self.identity.checksum()))?;
        for value in values(shared, start, &attributes) {
            let blocks = self.space().blocks(value.positions).flatten();
            for (block, bytes) in blocks.zip(value.bytes.chunks(BLOCK_SIZE)) {
                image.put(block * BLOCK, bytes)?;
            }
        }
        Ok(())
    }

    /// Says which file could not be read.
    fn name(&self, error: FileError, node: NodeId) -> Error {
        match error {
            FileError::Write(error) => Error::Write(error),
            FileError::Read(source) => Error::Read {
                path: path_of(self.inventory.tree, node),
                source,
            },
        }
    }
}

/// A node's attributes, which were found valid before.
pub(super) fn attributes(tree: &Tree, node: NodeId) -> Vec<Attribute<'_>> {
    xattr::parse(&tree.node(node).metadata.xattrs).unwrap_or_default()
}

/// The values with inodes of their own of a block of attributes at position `start`.
pub(super) fn values<'s>(
    shared: &SharedXattrs,
    start: u64,
    attributes: &'s [Attribute<'_>],
) -> impl Iterator<Item = Value<'s>> {
    let mut next = start + 1;
    shared
        .outside
        .iter()
        .zip(shared.first_inode..)
        .map(move |(index, inode)| {
            let bytes = attributes[*index].value();
            let positions = next..next + xattr::value_blocks(bytes);
            next = positions.end;
            Value {
                inode,
                bytes,
                positions,
            }
        })
}

fn path_of(tree: &Tree, wanted: NodeId) -> String {
    let mut found = None;
    tree.walk(&mut |path, node| {
        if node == wanted && found.is_none() {
            found = Some(shown(path));
        }
    });
    found.unwrap_or_default()
}

enum FileError {
    Read(io::Error),
    Write(io::Error),
}

/// Moves one file's bytes.
struct FileWriter<'w, 'f> {
    content: &'w Content,
    space: &'w Blocks,
    image: &'w mut Image<'f>,
}

impl FileWriter<'_, '_> {
    /// Content begins at position `start` of the data space.
    fn write(
        mut self,
        start: u64,
        source: &(impl ContentSource + ?Sized),
    ) -> Result<(), FileError> {
        // Positions below this one are taken, by the file's blocks below this number.
        let (mut position, mut end) = (start, 0);
        for segment in &self.content.segments {
            let first = segment.start / BLOCK;
            // A segment may begin in the block in which the one before it ends.
            let begin = if first < end { position - 1 } else { position };
            end = (segment.start + segment.length).div_ceil(BLOCK);
            position = begin + (end - first);
            self.write_segment(segment, begin..position, source)?;
        }
        Ok(())
    }

    fn write_segment(
        &mut self,
        segment: &Segment,
        positions: Range<u64>,
        source: &(impl ContentSource + ?Sized),
    ) -> Result<(), FileError> {
        let mut offset = segment.offset;
        let mut left = segment.length;
        let mut skip = segment.start % BLOCK;
        for blocks in self.space.blocks(positions) {
            let mut at = blocks.start * BLOCK + skip;
            skip = 0;
            while left > 0 && at < blocks.end * BLOCK {
                let length = left.min(blocks.end * BLOCK - at).min(BUFFER as u64);
                let size = usize::try_from(length).unwrap_or(BUFFER);
                let room = self.image.room(at, size).map_err(FileError::Write)?;
                source
                    .read_exact_at(self.content.source, offset, room)
                    .map_err(FileError::Read)?;
                at += length;
                offset += length;
                left -= length;
            }
        }
        Ok(())
    }
}
