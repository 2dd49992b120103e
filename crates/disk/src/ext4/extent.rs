//! Extent trees: which blocks of the file system hold which blocks of a file.
//!
//! Up to four extents stand in the inode. More go to leaf blocks, under as many levels of index
//! blocks as it takes until four entries do. What no extent covers is a hole.

use std::io;
use std::ops::Range;

use firebuild_core::tree::Content;

use super::checksum::Checksum;
use super::geometry::{BLOCK, BLOCK_SIZE};
use super::record::{Record, low16, low32};
use super::space::Blocks;

const MAGIC: u16 = 0xf30a;
/// Bytes of a header, of an extent, and of an index entry.
const ENTRY: usize = 12;
/// Where the blocks' checksum is.
const TAIL: usize = BLOCK_SIZE - 4;
/// Entries in an inode.
const IN_INODE: usize = 4;
/// Entries in a block.
const IN_BLOCK: usize = (TAIL - ENTRY) / ENTRY;
/// The most blocks of one extent; more would mark it as unwritten.
const LONGEST: u64 = 1 << 15;

/// Bytes of an inode that hold the root of its tree.
pub(super) const ROOT_SIZE: usize = 60;

/// A run of a file's blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// The first block's number in the file.
    logical: u32,
    /// 1 to [`LONGEST`].
    length: u16,
    /// The first block's number in the file system.
    block: u64,
}

impl Extent {
    /// The blocks of the file system.
    pub(super) fn blocks(&self) -> Range<u64> {
        self.block..self.block + u64::from(self.length)
    }
}

/// Takes the number and the bytes of a block to be written.
pub(super) type Emit<'e> = dyn FnMut(u64, &[u8; BLOCK_SIZE]) -> io::Result<()> + 'e;

/// The runs of a file without holes.
pub(super) fn contiguous(blocks: u64) -> Vec<Range<u64>> {
    let run = 0..blocks;
    Vec::from_iter((!run.is_empty()).then_some(run))
}

/// The extents of a file whose `runs` of blocks (first in the file, count) lie one after the other
/// from position `start` on.
pub(super) fn extents(
    runs: impl IntoIterator<Item = Range<u64>>,
    start: u64,
    space: &Blocks,
) -> Vec<Extent> {
    let mut extents = Vec::new();
    let mut position = start;
    for run in runs {
        let end = position + (run.end - run.start);
        extend(&mut extents, run.start, space.blocks(position..end));
        position = end;
    }
    extents
}

/// The extents of a file whose content is in the image already: each segment begins a block, and
/// its offset is the position of that block in `space`, in bytes.
pub(super) fn placed(content: &Content, space: &Blocks) -> Vec<Extent> {
    let mut extents = Vec::new();
    for segment in &content.segments {
        let position = segment.offset / BLOCK;
        let positions = position..position + segment.length.div_ceil(BLOCK);
        extend(&mut extents, segment.start / BLOCK, space.blocks(positions));
    }
    extents
}

/// Adds extents of neighbouring blocks, from block `logical` of the file on.
fn extend(extents: &mut Vec<Extent>, mut logical: u64, runs: impl Iterator<Item = Range<u64>>) {
    for mut blocks in runs {
        while !blocks.is_empty() {
            let length = (blocks.end - blocks.start).min(LONGEST);
            extents.push(Extent {
                logical: low32(logical),
                length: low16(low32(length)),
                block: blocks.start,
            });
            blocks.start += length;
            logical += length;
        }
    }
}

/// Blocks that a tree of so many extents takes beside the inode.
pub(super) fn index_blocks(extents: usize) -> u64 {
    let mut level = extents;
    let mut blocks = 0;
    while level > IN_INODE {
        level = level.div_ceil(IN_BLOCK);
        blocks += level as u64;
    }
    blocks
}

/// Blocks that content and tree of `runs` take together from position `start` on.
pub(super) fn total_blocks(runs: Vec<Range<u64>>, start: u64, space: &Blocks) -> u64 {
    let data: u64 = runs.iter().map(|run| run.end - run.start).sum();
    data + index_blocks(extents(runs, start, space).len())
}

/// Makes the tree. `blocks` are the places for its blocks, [`index_blocks`] of them; what belongs
/// there goes to `emit`. Returns what stands in the inode.
pub(super) fn encode(
    extents: &[Extent],
    mut blocks: impl Iterator<Item = u64>,
    seed: Checksum,
    emit: &mut Emit<'_>,
) -> io::Result<[u8; ROOT_SIZE]> {
    let mut level: Vec<[u8; ENTRY]> = extents.iter().map(leaf_entry).collect();
    let mut firsts: Vec<u32> = extents.iter().map(|extent| extent.logical).collect();
    let mut depth = 0;
    while level.len() > IN_INODE {
        let mut above = Vec::with_capacity(level.len().div_ceil(IN_BLOCK));
        for (entries, firsts) in level.chunks(IN_BLOCK).zip(firsts.chunks(IN_BLOCK)) {
            let Some(block) = blocks.next() else { break };
            emit(block, &node_block(entries, depth, seed))?;
            above.push(index_entry(firsts[0], block));
        }
        firsts = firsts.into_iter().step_by(IN_BLOCK).collect();
        level = above;
        depth += 1;
    }
    let mut root = [0; ROOT_SIZE];
    node(&mut root, &level, IN_INODE, depth);
    Ok(root)
}

fn leaf_entry(extent: &Extent) -> [u8; ENTRY] {
    let mut bytes = [0; ENTRY];
    let mut record = Record(&mut bytes);
    record.u32(0, extent.logical);
    record.u16(4, extent.length);
    record.u16(6, low16(low32(extent.block >> 32)));
    record.u32(8, low32(extent.block));
    bytes
}

fn index_entry(logical: u32, block: u64) -> [u8; ENTRY] {
    let mut bytes = [0; ENTRY];
    let mut record = Record(&mut bytes);
    record.u32(0, logical);
    record.u32(4, low32(block));
    record.u16(8, low16(low32(block >> 32)));
    bytes
}

fn node_block(entries: &[[u8; ENTRY]], depth: u16, seed: Checksum) -> [u8; BLOCK_SIZE] {
    let mut block = [0; BLOCK_SIZE];
    node(&mut block, entries, IN_BLOCK, depth);
    let checksum = seed.over(&block[..TAIL]);
    Record(&mut block).u32(TAIL, checksum.0);
    block
}

fn node(bytes: &mut [u8], entries: &[[u8; ENTRY]], most: usize, depth: u16) {
    let count = |number: usize| low16(low32(number as u64));
    let mut record = Record(bytes);
    record.u16(0, MAGIC);
    record.u16(2, count(entries.len()));
    record.u16(4, count(most));
    record.u16(6, depth);
    record.bytes(ENTRY, entries.as_flattened());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_at_what_is_fixed_and_at_the_longest() {
        let mut space = Blocks::new();
        space.push(10..20);
        space.push(30..200_000);
        let found = extents([0..15, 100..40_000], 0, &space);
        let plain: Vec<_> = found
            .iter()
            .map(|extent| (extent.logical, extent.length, extent.block))
            .collect();
        assert_eq!(
            plain,
            [
                (0, 10, 10),
                (10, 5, 30),
                (100, 32768, 35),
                (32868, 7132, 32803)
            ]
        );
    }

    #[test]
    fn counts_the_blocks_it_writes() {
        let mut space = Blocks::new();
        space.push(0..1 << 20);
        for count in [0, 1, 4, 5, 340, 341, 1360, 1361, 115_600, 462_401] {
            let runs = (0..count as u64).map(|index| 2 * index..2 * index + 1);
            let found = extents(runs, 0, &space);
            assert_eq!(found.len(), count);
            let mut written = 0;
            let mut emit = |_, _: &_| {
                written += 1;
                Ok(())
            };
            let root = encode(&found, 0.., Checksum::START, &mut emit).unwrap();
            assert_eq!(written, index_blocks(count), "{count}");
            assert!(root[2] <= 4);
        }
    }
}
