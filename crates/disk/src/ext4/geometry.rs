//! Which block is for what: groups, their bitmaps and inode tables, and what is left for data.
//!
//! The first blocks of some groups are kept for a superblock and the group descriptors
//! (`sparse_super`), and more of them than most file systems need. All other blocks are free for
//! data, and the bitmaps and inode tables of all groups lie behind all data (`flex_bg` lets them be
//! anywhere). So where data lie does not depend on how much comes after them.

use super::space::Blocks;

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
/// Groups whose metadata lie together, as a power of two; it tells Linux how to spread new files.
pub(super) const LOG_GROUPS_PER_FLEX: u8 = 4;
/// 16 TiB: beyond it, block numbers would need more than 32 bits everywhere.
pub(super) const MOST_BLOCKS: u64 = 1 << 32;
/// Blocks kept for a superblock and the descriptors of up to 504 GiB.
pub(super) const LEAST_RESERVE: u64 = 64;
/// The least that the last group must have beside what is kept in it, as in mke2fs.
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

    pub(super) fn blocks_of(&self, group: u64) -> std::ops::Range<u64> {
        let start = group * BLOCKS_PER_GROUP;
        start..(start + BLOCKS_PER_GROUP).min(self.blocks)
    }

    /// Blocks of one group's inode table.
    pub(super) fn table_blocks(&self) -> u64 {
        u64::from(self.inodes_per_group).div_ceil(INODES_PER_BLOCK)
    }

    /// Blocks that superblock and descriptors take at the begin of a group; 0 if it has none.
    pub(super) fn head(&self, group: u64) -> u64 {
        if has_superblock(group) {
            reserve(self.blocks)
        } else {
            0
        }
    }
}

/// Blocks that a superblock and the descriptors of so many blocks take.
pub(super) fn reserve(blocks: u64) -> u64 {
    let groups = blocks.div_ceil(BLOCKS_PER_GROUP);
    1 + (groups * DESCRIPTOR_SIZE as u64).div_ceil(BLOCK)
}

/// The least number of blocks from `blocks` on with which the last group is worth having.
pub(super) fn rounded(blocks: u64, reserve: u64) -> u64 {
    let last = blocks % BLOCKS_PER_GROUP;
    let least = reserve + LEAST_GROUP;
    if last == 0 || last >= least {
        blocks
    } else {
        blocks + (least - last)
    }
}

/// True for 0, 1 and the powers of 3, 5 and 7: the groups that carry superblock and descriptors.
fn has_superblock(group: u64) -> bool {
    let power_of = |base: u64| {
        let mut rest = group;
        while rest.is_multiple_of(base) {
            rest /= base;
        }
        rest == 1
    };
    group <= 1 || [3, 5, 7].into_iter().any(power_of)
}

/// The first blocks of all groups with a superblock, below `blocks`, but for the first group.
pub(super) fn has_superblock_before(blocks: u64) -> Vec<u64> {
    let groups = blocks.div_ceil(BLOCKS_PER_GROUP);
    let powers = |base: u64| {
        std::iter::successors(Some(base), move |power| power.checked_mul(base))
            .take_while(move |power| *power < groups)
    };
    let mut found: Vec<u64> = std::iter::once(1)
        .chain([3, 5, 7].into_iter().flat_map(powers))
        .filter(|group| *group < groups)
        .map(|group| group * BLOCKS_PER_GROUP)
        .collect();
    found.sort_unstable();
    found
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
    /// All that is not kept for superblocks and descriptors.
    pub(super) space: Blocks,
    /// The positions of bitmaps and inode tables: ascending.
    pub(super) metadata: Vec<std::ops::Range<u64>>,
    /// The position behind them.
    pub(super) end: u64,
}

impl Layout {
    /// Puts bitmaps and tables at the first positions from `start` on. `None` if there is no room
    /// for them in any file system.
    pub(super) fn new(geometry: Geometry, space: Blocks, start: u64) -> Option<Self> {
        let groups = usize::try_from(geometry.groups()).ok()?;
        let mut layout = Self {
            geometry,
            places: vec![Place::default(); groups],
            space,
            metadata: Vec::new(),
            end: start,
        };
        for group in 0..groups {
            layout.places[group].block_bitmap = layout.take(1)?;
        }
        for group in 0..groups {
            layout.places[group].inode_bitmap = layout.take(1)?;
        }
        for group in 0..groups {
            layout.places[group].inode_table = layout.take(geometry.table_blocks())?;
        }
        Some(layout)
    }

    /// The next `count` blocks in one piece.
    fn take(&mut self, count: u64) -> Option<u64> {
        let start = self.space.neighbours(self.end, count)?;
        self.end = start + count;
        match self.metadata.last_mut() {
            Some(last) if last.end == start => last.end = self.end,
            _ => self.metadata.push(start..self.end),
        }
        Some(self.space.block(start))
    }

    /// The block and the offset in it of an inode.
    pub(super) fn inode_offset(&self, number: u32) -> u64 {
        let per_group = self.geometry.inodes_per_group;
        let (group, index) = ((number - 1) / per_group, (number - 1) % per_group);
        self.places[group as usize].inode_table * BLOCK + u64::from(index) * INODE_SIZE as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn superblocks_are_sparse() {
        let groups: Vec<_> = (0..400).filter(|group| has_superblock(*group)).collect();
        assert_eq!(groups, [0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125, 243, 343]);
        let heads = has_superblock_before(400 * BLOCKS_PER_GROUP);
        let listed: Vec<_> = heads.iter().map(|head| head / BLOCKS_PER_GROUP).collect();
        assert_eq!(listed, groups[1..]);
        assert!(has_superblock_before(BLOCKS_PER_GROUP).is_empty());
    }

    #[test]
    fn metadata_come_behind_the_data_in_one_piece() {
        for (blocks, inodes, start) in [
            (256, 16, 0),
            (65_536, 65_536, 40_000),
            (2_000_000, 1 << 20, 7),
        ] {
            let geometry = Geometry::new(blocks, inodes).unwrap();
            assert!(geometry.inodes() >= inodes);
            let space = Blocks::of_data(LEAST_RESERVE);
            let layout = Layout::new(geometry, space, start).unwrap();
            let count: u64 = layout
                .metadata
                .iter()
                .map(|range| range.end - range.start)
                .sum();
            assert_eq!(count, geometry.groups() * (2 + geometry.table_blocks()));
            assert!(layout.metadata[0].start >= start);
            for place in &layout.places {
                let table = place.inode_table..place.inode_table + geometry.table_blocks();
                for head in has_superblock_before(blocks) {
                    assert!(table.end <= head || table.start >= head + LEAST_RESERVE);
                }
            }
        }
    }

    #[test]
    fn a_last_group_is_worth_having() {
        assert_eq!(rounded(BLOCKS_PER_GROUP, 64), BLOCKS_PER_GROUP);
        assert_eq!(rounded(BLOCKS_PER_GROUP + 1, 64), BLOCKS_PER_GROUP + 114);
        assert_eq!(rounded(BLOCKS_PER_GROUP + 256, 64), BLOCKS_PER_GROUP + 256);
    }
}
