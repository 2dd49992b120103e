//! Which block is for what: groups, their bitmaps and inode tables, and what is left for data.
//!
//! The bitmaps and inode tables of 16 groups lie together at the begin of the first of them
//! (`flex_bg`), behind the superblock and group descriptors that some groups carry
//! (`sparse_super`). All other blocks, in ascending order, are the [`DataSpace`].

use std::ops::Range;

use super::space::DataSpace;

/// Bytes in a block; the only block size written.
pub(super) const BLOCK_SIZE: usize = 4096;
/// The same, for arithmetic on offsets.
pub(super) const BLOCK: u64 = BLOCK_SIZE as u64;
/// Blocks in a group: as many as one block of bitmap has bits.
pub(super) const BLOCKS_PER_GROUP: u64 = 8 * BLOCK;
/// The most inodes of a group, for the same reason.
pub(super) const MOST_INODES_PER_GROUP: u64 = 8 * BLOCK;
/// Bytes in an inode.
pub(super) const INODE_SIZE: usize = 256;
/// Inodes in a block of a table.
pub(super) const INODES_PER_BLOCK: u64 = BLOCK / INODE_SIZE as u64;
/// Bytes in a group descriptor, as feature `64bit` has them.
pub(super) const DESCRIPTOR_SIZE: usize = 64;
/// Groups whose metadata lie together, as a power of two.
pub(super) const LOG_GROUPS_PER_FLEX: u8 = 4;
/// 16 TiB: beyond it, block numbers would need more than 32 bits everywhere.
pub(super) const MOST_BLOCKS: u64 = 1 << 32;
/// The least that the last group must have beside its own metadata, as in mke2fs.
const LEAST_GROUP: u64 = 50;

/// The numbers that all else follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    /// Blocks of the whole file system.
    pub(super) blocks: u64,
    /// A multiple of 16, so that tables are whole blocks.
    pub(super) inodes_per_group: u32,
}

impl Geometry {
    /// Spreads at least `inodes` over the groups of `blocks`. `None` if there are too few groups.
    pub(super) fn new(blocks: u64, inodes: u64) -> Option<Self> {
        let each = inodes
            .div_ceil(blocks.div_ceil(BLOCKS_PER_GROUP))
            .next_multiple_of(INODES_PER_BLOCK);
        let fits = each <= MOST_INODES_PER_GROUP;
        let inodes_per_group = u32::try_from(each).ok().filter(|_| fits)?;
        Some(Self {
            blocks,
            inodes_per_group,
        })
    }

    pub(super) fn groups(&self) -> u64 {
        self.blocks.div_ceil(BLOCKS_PER_GROUP)
    }

    pub(super) fn inodes(&self) -> u64 {
        self.groups() * u64::from(self.inodes_per_group)
    }

    pub(super) fn blocks_of(&self, group: u64) -> Range<u64> {
        let start = group * BLOCKS_PER_GROUP;
        start..(start + BLOCKS_PER_GROUP).min(self.blocks)
    }

    /// Blocks of one group's inode table.
    pub(super) fn table_blocks(&self) -> u64 {
        u64::from(self.inodes_per_group).div_ceil(INODES_PER_BLOCK)
    }

    /// Blocks that all group descriptors take.
    pub(super) fn descriptor_blocks(&self) -> u64 {
        (self.groups() * DESCRIPTOR_SIZE as u64).div_ceil(BLOCK)
    }

    /// Blocks that superblock and descriptors take at the begin of a group; 0 if it has none.
    pub(super) fn head(&self, group: u64) -> u64 {
        if has_superblock(group) {
            1 + self.descriptor_blocks()
        } else {
            0
        }
    }
}

/// True for 0, 1 and the powers of 3, 5 and 7: the groups that carry superblock and descriptors.
pub(super) fn has_superblock(group: u64) -> bool {
    let power_of = |base: u64| {
        let mut rest = group;
        while rest.is_multiple_of(base) {
            rest /= base;
        }
        rest == 1
    };
    group <= 1 || [3, 5, 7].into_iter().any(power_of)
}

/// Where the metadata of one group are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) block_bitmap: u64,
    pub(super) inode_bitmap: u64,
    pub(super) inode_table: u64,
}

/// A geometry with every block's purpose decided.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) geometry: Geometry,
    /// By group.
    pub(super) places: Vec<Place>,
    /// Blocks of superblocks, descriptors, bitmaps and inode tables: ascending, not adjacent.
    pub(super) fixed: Vec<Range<u64>>,
    /// All others.
    pub(super) space: DataSpace,
}

impl Layout {
    /// `None` if the metadata do not fit, or leave too little of the last group.
    pub(super) fn new(geometry: Geometry) -> Option<Self> {
        let mut placer = Placer {
            geometry,
            cursor: 0,
            taken: Vec::new(),
        };
        let mut places = vec![Place::default(); usize::try_from(geometry.groups()).ok()?];
        for (flex, places) in places.chunks_mut(1 << LOG_GROUPS_PER_FLEX).enumerate() {
            placer.flex_group((flex as u64) << LOG_GROUPS_PER_FLEX, places)?;
        }
        let last = geometry.blocks_of(geometry.groups() - 1);
        let mut fixed = placer.taken;
        let heads = (0..geometry.groups()).map(|group| {
            let start = group * BLOCKS_PER_GROUP;
            start..start + geometry.head(group)
        });
        fixed.extend(heads.filter(|head| !head.is_empty()));
        let fixed = merged(fixed);
        let end = fixed.last()?.end;
        if end + LEAST_GROUP > last.end && end > last.start || last.end - last.start < LEAST_GROUP {
            return None;
        }
        let space = DataSpace::beside(&fixed, geometry.blocks);
        Some(Self {
            geometry,
            places,
            fixed,
            space,
        })
    }

    /// The block and the offset in it of an inode.
    pub(super) fn inode_offset(&self, number: u32) -> u64 {
        let per_group = self.geometry.inodes_per_group;
        let (group, index) = ((number - 1) / per_group, (number - 1) % per_group);
        self.places[group as usize].inode_table * BLOCK + u64::from(index) * INODE_SIZE as u64
    }
}

/// Hands out blocks for bitmaps and tables.
struct Placer {
    geometry: Geometry,
    cursor: u64,
    taken: Vec<Range<u64>>,
}

impl Placer {
    fn flex_group(&mut self, first: u64, places: &mut [Place]) -> Option<()> {
        self.cursor = first * BLOCKS_PER_GROUP;
        for place in places.iter_mut() {
            place.block_bitmap = self.take(1)?;
        }
        for place in places.iter_mut() {
            place.inode_bitmap = self.take(1)?;
        }
        for place in places.iter_mut() {
            place.inode_table = self.take(self.geometry.table_blocks())?;
        }
        Some(())
    }

    /// The next `count` blocks in one piece, which is at most 2048 and so meets at most one head.
    fn take(&mut self, count: u64) -> Option<u64> {
        let group = (self.cursor + count - 1) / BLOCKS_PER_GROUP;
        let head = self.geometry.head(group);
        if head > 0 {
            self.cursor = self.cursor.max(group * BLOCKS_PER_GROUP + head);
        }
        let start = self.cursor;
        self.cursor += count;
        self.taken.push(start..self.cursor);
        (self.cursor <= self.geometry.blocks).then_some(start)
    }
}

/// Sorted, with adjacent ranges made one.
fn merged(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup_by(|next, before| {
        let adjacent = next.start == before.end;
        if adjacent {
            before.end = next.end;
        }
        adjacent
    });
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn superblocks_are_sparse() {
        let groups: Vec<_> = (0..400).filter(|group| has_superblock(*group)).collect();
        assert_eq!(groups, [0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125, 243, 343]);
    }

    #[test]
    fn every_block_has_one_purpose() {
        let sizes = [256, 32_768, 33_024, 65_536, 600_000, 2_000_000, 5_000_000];
        for (blocks, inodes) in sizes
            .into_iter()
            .flat_map(|size| [(size, 16), (size, size)])
        {
            let geometry = Geometry::new(blocks, inodes).unwrap();
            assert!(geometry.inodes() >= inodes);
            let Some(layout) = Layout::new(geometry) else {
                assert!(blocks == 33_024 && inodes == blocks, "{blocks} {inodes}");
                continue;
            };
            let mut fixed = 0;
            for pair in layout.fixed.windows(2) {
                assert!(pair[0].end < pair[1].start);
            }
            for range in &layout.fixed {
                fixed += range.end - range.start;
            }
            let heads: u64 = (0..geometry.groups())
                .map(|group| geometry.head(group))
                .sum();
            assert_eq!(
                fixed,
                heads + geometry.groups() * (2 + geometry.table_blocks())
            );
            assert_eq!(fixed + layout.space.capacity(), blocks);
        }
    }
}
