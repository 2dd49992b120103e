//! The second half of writing: inodes, then bitmaps, group descriptors and superblocks.

use std::io;
use std::ops::Range;

use firebuild_core::ByteSize;
use firebuild_core::tree::Kind;

use super::Summary;
use super::bitmap::Bitmap;
use super::extent::{self, Extent, ROOT_SIZE};
use super::geometry::{BLOCK, BLOCKS_PER_GROUP, Layout, MOST_INODES_PER_GROUP};
use super::group::Group;
use super::image::Image;
use super::inode::{self, Inode};
use super::inventory::{Inventory, Item, MOST_LINKS, SharedXattrs};
use super::record::{low16, low32};
use super::superblock::{self, Superblock};
use super::writer::{Job, attributes, values};
use super::xattr;

/// Where an inode's content is.
struct Mapped {
    extents: Vec<Extent>,
    /// Its blocks.
    data: u64,
    /// The first position of its extent tree.
    index: u64,
}

impl Job<'_> {
    /// Writes inodes and everything that describes them and the blocks.
    pub(super) fn write_tables(&self, image: &mut Image<'_>) -> io::Result<Summary> {
        let mut directories = vec![0_u32; self.plan.layout.places.len()];
        let mut journal = None;
        for (index, item) in self.inventory.items.iter().enumerate() {
            let number = Inventory::item_number(index);
            self.write_item(number, index, item, image)?;
            if self.inventory.tree.node(item.node).is_directory() {
                directories[self.group_of(number)] += 1;
            }
            if index == 0 {
                journal = self.write_journal_inode(image)?;
            }
        }
        for (shared, start) in self.xattr_blocks() {
            self.write_values(shared, start, image)?;
        }
        self.write_groups(&directories, journal, image)
    }

    fn group_of(&self, number: u32) -> usize {
        ((number - 1) / self.plan.layout.geometry.inodes_per_group) as usize
    }

    fn write_item(
        &self,
        number: u32,
        index: usize,
        item: &Item<'_>,
        image: &mut Image<'_>,
    ) -> io::Result<()> {
        let node = self.inventory.tree.node(item.node);
        let mut inode = Inode::of(&node.metadata, &node.kind);
        self.describe_xattrs(item, &mut inode);
        // A directory with more subdirectories than can be counted has the count 1.
        let counted = item.links <= MOST_LINKS;
        inode.links = if counted { low16(item.links) } else { 1 };
        if node.is_directory() {
            inode.size = item.blocks * BLOCK;
            if item.blocks > 1 {
                inode.flags = inode::INDEX_FLAG;
            }
        }
        if item.blocks == 0 && !matches!(node.kind, Kind::File(_)) {
            return self.put_inode(number, &inode, image);
        }
        let start = self.plan.allocation.items[index];
        let mapped = match self.inventory.placed_extents(item) {
            Some(extents) => Mapped {
                extents,
                data: item.blocks,
                index: start,
            },
            None => self.following(self.inventory.runs(item), start),
        };
        self.put_mapped(number, inode, &mapped, image).map(drop)
    }

    fn describe_xattrs(&self, item: &Item<'_>, inode: &mut Inode) {
        if let Some(index) = item.xattr_block {
            let position = self.plan.allocation.xattr_blocks[index as usize];
            inode.xattr_block = self.space().block(position);
            // As if each inode that shares them had them for itself.
            inode.blocks += 1 + self.inventory.xattr_blocks[index as usize].value_blocks;
            return;
        }
        let attributes = attributes(self.inventory.tree, item.node);
        if !attributes.is_empty() {
            inode.xattrs = xattr::encode_inside(&attributes);
        }
    }

    fn write_journal_inode(
        &self,
        image: &mut Image<'_>,
    ) -> io::Result<Option<([u8; ROOT_SIZE], u64)>> {
        let (start, blocks) = self.plan.allocation.journal;
        if blocks == 0 {
            return Ok(None);
        }
        let mut inode = Inode::empty(0o100_600);
        inode.size = blocks * BLOCK;
        let size = inode.size;
        let runs = extent::contiguous(blocks);
        let mapped = self.following(runs, start);
        let root = self.put_mapped(inode::JOURNAL, inode, &mapped, image)?;
        Ok(Some((root, size)))
    }

    fn write_values(
        &self,
        shared: &SharedXattrs,
        start: u64,
        image: &mut Image<'_>,
    ) -> io::Result<()> {
        let attributes = attributes(self.inventory.tree, shared.node);
        for value in values(shared, start, &attributes) {
            let mut inode = Inode::empty(0o100_600);
            inode.size = value.bytes.len() as u64;
            inode.flags = inode::EA_INODE_FLAG;
            inode.value_hash = Some(xattr::value_hash(value.bytes, self.identity.checksum()));
            let count = value.positions.end - value.positions.start;
            let runs = extent::contiguous(count);
            let mapped = self.following(runs, value.positions.start);
            self.put_mapped(value.inode, inode, &mapped, image)?;
        }
        Ok(())
    }

    /// Content whose runs follow each other from a position on, with its extent tree behind them.
    fn following(&self, runs: Vec<Range<u64>>, start: u64) -> Mapped {
        let data: u64 = runs.iter().map(|run| run.end - run.start).sum();
        Mapped {
            extents: extent::extents(runs, start, self.space()),
            data,
            index: start + data,
        }
    }

    /// Writes an inode and its extent tree, and returns the tree's root.
    fn put_mapped(
        &self,
        number: u32,
        mut inode: Inode,
        mapped: &Mapped,
        image: &mut Image<'_>,
    ) -> io::Result<[u8; ROOT_SIZE]> {
        let index = extent::index_blocks(mapped.extents.len());
        let positions = mapped.index..mapped.index + index;
        let blocks = self.space().blocks(positions).flatten();
        let seed = self.identity.checksum().of_inode(number);
        let mut emit = |block, bytes: &_| image.put_block(block, bytes);
        inode.root = extent::encode(&mapped.extents, blocks, seed, &mut emit)?;
        inode.blocks += mapped.data + index;
        inode.flags |= inode::EXTENTS_FLAG;
        self.put_inode(number, &inode, image)?;
        Ok(inode.root)
    }

    fn put_inode(&self, number: u32, inode: &Inode, image: &mut Image<'_>) -> io::Result<()> {
        let bytes = inode.encode(number, self.identity.checksum());
        image.put(self.plan.layout.inode_offset(number), &bytes)
    }

    fn write_groups(
        &self,
        directories: &[u32],
        journal: Option<([u8; ROOT_SIZE], u64)>,
        image: &mut Image<'_>,
    ) -> io::Result<Summary> {
        let layout = &self.plan.layout;
        let seed = self.identity.checksum();
        let mut used = Used {
            ranges: &self.plan.used,
            next: 0,
        };
        let mut descriptors = Vec::new();
        let (mut free_blocks, mut free_inodes) = (0, 0);
        for (number, directories) in (0..).zip(directories) {
            let mut group = self.inodes_of_group(number, image)?;
            group.directories = *directories;
            self.blocks_of_group(number, &mut group, &mut used, image)?;
            free_blocks += u64::from(group.free_blocks);
            free_inodes += group.free_inodes;
            descriptors.extend_from_slice(&group.encode(number, seed));
        }
        let superblock = Superblock {
            geometry: layout.geometry,
            free_blocks,
            free_inodes,
            uuid: self.identity.uuid,
            hash_seed: self.identity.hash_seed,
            label: self.identity.label,
            has_ea_inodes: self.inventory.values > 0,
            journal,
        };
        write_heads(layout, &superblock, &descriptors, image)?;
        image.flush()?;
        let inodes = low32(layout.geometry.inodes());
        Ok(Summary {
            size: ByteSize(layout.geometry.blocks * BLOCK),
            used: ByteSize((layout.geometry.blocks - free_blocks) * BLOCK),
            inodes,
            used_inodes: inodes - free_inodes,
            uuid: self.identity.uuid,
        })
    }

    /// Writes the bitmap of a group's inodes, which are in use up to some number.
    fn inodes_of_group(&self, number: u64, image: &mut Image<'_>) -> io::Result<Group> {
        let per_group = self.plan.layout.geometry.inodes_per_group;
        let before = number * u64::from(per_group);
        let used = self.inventory.inodes().saturating_sub(before);
        let used = low32(used.min(u64::from(per_group)));
        let place = self.plan.layout.places[group_index(number)];
        let mut checksum = None;
        if used > 0 {
            let mut bitmap = Bitmap::new();
            bitmap.set(0..u64::from(used));
            bitmap.set(u64::from(per_group)..MOST_INODES_PER_GROUP);
            image.put_block(place.inode_bitmap, bitmap.bytes())?;
            let covered = &bitmap.bytes()[..per_group as usize / 8];
            checksum = Some(self.identity.checksum().over(covered));
        }
        Ok(Group {
            place,
            free_blocks: 0,
            free_inodes: per_group - used,
            directories: 0,
            unused_inodes: per_group - used,
            block_bitmap: None,
            inode_bitmap: checksum,
        })
    }

    /// Writes the bitmap of a group's blocks, unless Linux can make it up itself.
    fn blocks_of_group(
        &self,
        number: u64,
        group: &mut Group,
        used: &mut Used<'_>,
        image: &mut Image<'_>,
    ) -> io::Result<()> {
        let geometry = &self.plan.layout.geometry;
        let range = geometry.blocks_of(number);
        let length = range.end - range.start;
        let mut bitmap = Bitmap::new();
        let mut count = 0;
        for part in used.within(range.clone()) {
            count += part.end - part.start;
            bitmap.set(part.start - range.start..part.end - range.start);
        }
        group.free_blocks = low32(length - count);
        let is_last = number + 1 == geometry.groups();
        if number > 0 && !is_last && count == geometry.head(number) {
            return Ok(());
        }
        bitmap.set(length..BLOCKS_PER_GROUP);
        image.put_block(group.place.block_bitmap, bitmap.bytes())?;
        group.block_bitmap = Some(self.identity.checksum().over(bitmap.bytes()));
        Ok(())
    }
}

fn group_index(number: u64) -> usize {
    low32(number) as usize
}

/// Writes superblock and descriptors, and their copies.
fn write_heads(
    layout: &Layout,
    superblock: &Superblock<'_>,
    descriptors: &[u8],
    image: &mut Image<'_>,
) -> io::Result<()> {
    let groups = 0..layout.geometry.groups();
    for group in groups.filter(|group| layout.geometry.head(*group) > 0) {
        let start = group * BLOCKS_PER_GROUP * BLOCK;
        let offset = if group == 0 { superblock::OFFSET } else { 0 };
        image.put(start + offset, &superblock.encode(group))?;
        for (index, bytes) in (1..).zip(descriptors.chunks(super::image::BUFFER)) {
            let offset = (index - 1) * super::image::BUFFER as u64 + BLOCK;
            image.put(start + offset, bytes)?;
        }
    }
    Ok(())
}

/// All blocks in use, to be asked for group by group.
struct Used<'p> {
    /// Ascending, not overlapping.
    ranges: &'p [Range<u64>],
    /// The first that may reach into what is asked for next.
    next: usize,
}

impl Used<'_> {
    /// What is in use of `group`, which begins where the last one ended.
    fn within(&mut self, group: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        while self
            .ranges
            .get(self.next)
            .is_some_and(|range| range.end <= group.start)
        {
            self.next += 1;
        }
        let end = group.end;
        self.ranges[self.next..]
            .iter()
            .take_while(move |range| range.start < end)
            .map(move |range| range.start.max(group.start)..range.end.min(group.end))
    }
}
