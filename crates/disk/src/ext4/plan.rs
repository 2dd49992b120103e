//! How large the file system becomes, and at which position of the data space everything lies.
//!
//! First comes the content of files that is in the image already, then the journal, directories,
//! long symbolic links and attributes, then all other files, each in the order of inode numbers and
//! with its extent tree behind it; bitmaps and inode tables are last. Only the number of groups
//! depends on the size, so the size is tried upwards until all fits.

use std::ops::Range;

use firebuild_core::ByteSize;
use firebuild_core::tree::Kind;

use super::Options;
use super::extent;
use super::geometry::{
    BLOCK, BLOCKS_PER_GROUP, Geometry, LEAST_RESERVE, Layout, MOST_BLOCKS, MOST_INODES_PER_GROUP,
    reserve, rounded,
};
use super::inventory::{Inventory, Item};
use super::journal;
use super::space::Blocks;
use crate::Error;

/// Sizes are multiples of 1 MiB.
const STEP: u64 = (1 << 20) / BLOCK;
/// One inode for each 16 KiB of free space, as mke2fs has it.
const BLOCKS_PER_FREE_INODE: u64 = 4;

/// Positions in the data space.
#[derive(Debug, Default)]
pub(super) struct Allocation {
    /// Where each item's content begins; of one whose content is in the image already, its extent
    /// tree.
    pub(super) items: Vec<u64>,
    /// By [`Inventory::xattr_blocks`]: the block, and behind it the values.
    pub(super) xattr_blocks: Vec<u64>,
    /// The journal's first block and how many it has; 0 of them without a journal.
    pub(super) journal: (u64, u64),
    /// All positions from the first free one up to this one are in use.
    pub(super) end: u64,
}

/// A file system whose every block is decided.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) layout: Layout,
    pub(super) allocation: Allocation,
    /// All blocks in use: ascending, not adjacent.
    pub(super) used: Vec<Range<u64>>,
}

impl Plan {
    /// Finds the smallest size that holds the inventory and what the options ask for. The first
    /// `taken` positions of the data space hold content already.
    pub(super) fn new(
        inventory: &Inventory<'_>,
        options: &Options,
        taken: u64,
    ) -> Result<Self, Error> {
        let demand = Demand::new(inventory, options)?;
        // Bitmaps and tables add less than an eighth.
        let most = (demand.minimum + demand.minimum / 8).min(MOST_BLOCKS);
        let reserved = reserve(most).max(LEAST_RESERVE);
        if reserved > LEAST_RESERVE && taken > 0 {
            return Err(too_large(demand.minimum));
        }
        let space = Blocks::of_data(reserved);
        let allocation = Allocation::new(inventory, demand.journal, &space, taken);
        let layout = demand.layout(&space, allocation.end, reserved)?;
        let used = used(inventory, &layout, taken..allocation.end)?;
        Ok(Self {
            layout,
            allocation,
            used,
        })
    }
}

fn too_large(blocks: u64) -> Error {
    Error::TooLarge {
        size: ByteSize(blocks.saturating_mul(BLOCK)),
    }
}

/// What a file system must have room for.
struct Demand {
    /// Blocks of the journal.
    journal: u64,
    /// Blocks that must be left.
    free: u64,
    /// Inodes in use and free.
    inodes: u64,
    /// Where to begin trying.
    minimum: u64,
}

impl Demand {
    fn new(inventory: &Inventory<'_>, options: &Options) -> Result<Self, Error> {
        let journal = journal_blocks(options)?;
        let minimum = options.minimum_size.0.div_ceil(BLOCK);
        let free = options.free_space.0.div_ceil(BLOCK);
        let content: u64 = inventory.items.iter().map(|item| item.blocks).sum();
        let content = content.saturating_add(journal);
        let spare = free.max(minimum.saturating_sub(content));
        let free_inodes = u64::from(options.free_inodes) + spare / BLOCKS_PER_FREE_INODE;
        let minimum = minimum.max(content.saturating_add(free));
        if minimum > MOST_BLOCKS {
            return Err(too_large(minimum));
        }
        Ok(Self {
            journal,
            free,
            inodes: inventory.inodes() + free_inodes,
            minimum,
        })
    }

    /// `start` is the position behind all data.
    fn layout(&self, space: &Blocks, start: u64, reserved: u64) -> Result<Layout, Error> {
        let mut blocks = self.minimum;
        loop {
            blocks = rounded(blocks.next_multiple_of(STEP).max(STEP), reserved);
            blocks = blocks.next_multiple_of(STEP);
            if blocks > MOST_BLOCKS || reserve(blocks) > reserved {
                return Err(too_large(blocks));
            }
            let Some(geometry) = Geometry::new(blocks, self.inodes) else {
                // So many groups that the last one need only begin.
                let groups = self.inodes.div_ceil(MOST_INODES_PER_GROUP);
                blocks = (groups - 1) * BLOCKS_PER_GROUP + 1;
                continue;
            };
            if geometry.inodes() > u64::from(u32::MAX) {
                let count = geometry.inodes();
                return Err(Error::TooManyInodes { count });
            }
            let layout = Layout::new(geometry, space.clone(), start);
            let layout = layout.ok_or_else(|| too_large(MOST_BLOCKS + 1))?;
            let missing = (layout.end + self.free).saturating_sub(space.below(blocks));
            if missing == 0 {
                return Ok(layout);
            }
            blocks += missing;
        }
    }
}

fn journal_blocks(options: &Options) -> Result<u64, Error> {
    let Some(size) = options.journal else {
        return Ok(0);
    };
    if size < journal::LEAST {
        return Err(Error::SmallJournal { size });
    }
    Ok(size.0.min(journal::MOST.0) / BLOCK)
}

impl Allocation {
    fn new(inventory: &Inventory<'_>, journal: u64, space: &Blocks, taken: u64) -> Self {
        let mut allocation = Self {
            items: vec![0; inventory.items.len()],
            end: taken,
            ..Self::default()
        };
        if journal > 0 {
            allocation.journal = (taken, journal);
            let runs = extent::contiguous(journal);
            allocation.end += extent::total_blocks(runs, taken, space);
        }
        allocation.items(inventory, space, |kind| !matches!(kind, Kind::File(_)));
        allocation.xattrs(inventory);
        allocation.items(inventory, space, |kind| matches!(kind, Kind::File(_)));
        allocation
    }

    fn items(&mut self, inventory: &Inventory<'_>, space: &Blocks, wanted: fn(&Kind) -> bool) {
        for (item, start) in inventory.items.iter().zip(&mut self.items) {
            if item.blocks == 0 || !wanted(&inventory.tree.node(item.node).kind) {
                continue;
            }
            *start = self.end;
            self.end += match inventory.placed_extents(item) {
                Some(extents) => extent::index_blocks(extents.len()),
                None => extent::total_blocks(inventory.runs(item), self.end, space),
            };
        }
    }

    fn xattrs(&mut self, inventory: &Inventory<'_>) {
        for shared in &inventory.xattr_blocks {
            self.xattr_blocks.push(self.end);
            // Values are too short for an extent tree beside their inodes.
            self.end += 1 + shared.value_blocks;
        }
    }
}

/// All blocks in use, where `own` are the positions that were allocated here.
fn used(
    inventory: &Inventory<'_>,
    layout: &Layout,
    own: Range<u64>,
) -> Result<Vec<Range<u64>>, Error> {
    let Layout {
        geometry, space, ..
    } = layout;
    let heads = (0..geometry.groups()).map(|group| {
        let start = group * BLOCKS_PER_GROUP;
        start..start + geometry.head(group)
    });
    let mut used: Vec<_> = heads.filter(|head| !head.is_empty()).collect();
    for positions in std::iter::once(&own).chain(&layout.metadata) {
        used.extend(space.blocks(positions.clone()));
    }
    for item in &inventory.items {
        used.extend(placed_blocks(inventory, item));
    }
    used.sort_unstable_by_key(|range| range.start);
    let mut end = 0;
    for range in &used {
        if range.start < end {
            return Err(Error::PlacedTwice { block: range.start });
        }
        end = range.end;
    }
    used.dedup_by(|next, before| {
        let adjacent = next.start == before.end;
        if adjacent {
            before.end = next.end;
        }
        adjacent
    });
    Ok(used)
}

fn placed_blocks(inventory: &Inventory<'_>, item: &Item<'_>) -> Vec<Range<u64>> {
    let extents = inventory.placed_extents(item).unwrap_or_default();
    extents.iter().map(extent::Extent::blocks).collect()
}
