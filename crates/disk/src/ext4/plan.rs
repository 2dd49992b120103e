//! How large the file system becomes, and at which position of the data space everything lies.
//!
//! Directories, long symbolic links and attributes come first, files after them, each in the
//! order of inode numbers, and behind each its extent tree. Where the groups' metadata cut through
//! a file depends on the size, and its extent tree on that, so the size is tried upwards until
//! all fits.

use firebuild_core::ByteSize;
use firebuild_core::tree::Kind;

use super::Options;
use super::extent;
use super::geometry::{
    BLOCK, BLOCKS_PER_GROUP, Geometry, INODES_PER_BLOCK, Layout, MOST_BLOCKS, MOST_INODES_PER_GROUP,
};
use super::inventory::Inventory;
use super::journal;
use crate::Error;

/// Sizes are multiples of 1 MiB.
const STEP: u64 = (1 << 20) / BLOCK;
/// One inode for each 16 KiB of free space, as mke2fs has it.
const BLOCKS_PER_FREE_INODE: u64 = 4;

/// Positions in the data space.
#[derive(Debug, Default)]
pub(super) struct Allocation {
    /// Where each item's content begins.
    pub(super) items: Vec<u64>,
    /// By [`Inventory::xattr_blocks`]: the block, and behind it the values.
    pub(super) xattr_blocks: Vec<u64>,
    /// The journal's first block and how many it has; 0 of them without a journal.
    pub(super) journal: (u64, u64),
    /// All positions below are in use.
    pub(super) used: u64,
}

/// A file system whose every block is decided.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) layout: Layout,
    pub(super) allocation: Allocation,
}

impl Plan {
    /// Finds the smallest size that holds the inventory and what the options ask for.
    pub(super) fn new(inventory: &Inventory<'_>, options: &Options) -> Result<Self, Error> {
        let demand = Demand::new(inventory, options)?;
        let mut blocks = demand.least_blocks;
        loop {
            blocks = blocks.next_multiple_of(STEP).max(STEP);
            if blocks > MOST_BLOCKS {
                let size = ByteSize(blocks.saturating_mul(BLOCK));
                return Err(Error::TooLarge { size });
            }
            match demand.plan(blocks, inventory)? {
                Attempt::Fits(plan) => return Ok(plan),
                Attempt::Larger(next) => blocks = next,
            }
        }
    }
}

/// What came of trying a size.
enum Attempt {
    Fits(Plan),
    /// It does not fit; so many blocks might do.
    Larger(u64),
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
    least_blocks: u64,
}

impl Demand {
    fn new(inventory: &Inventory<'_>, options: &Options) -> Result<Self, Error> {
        let journal = journal_blocks(options)?;
        let minimum = options.minimum_size.0.div_ceil(BLOCK);
        let free = options.free_space.0.div_ceil(BLOCK);
        let content: u64 = inventory.items.iter().map(|item| item.blocks).sum();
        let content = content + journal;
        let spare = free.max(minimum.saturating_sub(content));
        let free_inodes = u64::from(options.free_inodes) + spare / BLOCKS_PER_FREE_INODE;
        let inodes = inventory.inodes() + free_inodes;
        Ok(Self {
            journal,
            free,
            inodes,
            least_blocks: minimum.max(content + free + inodes / INODES_PER_BLOCK),
        })
    }

    fn plan(&self, blocks: u64, inventory: &Inventory<'_>) -> Result<Attempt, Error> {
        let Some(geometry) = Geometry::new(blocks, self.inodes) else {
            // So many groups that the last one need only begin.
            let groups = self.inodes.div_ceil(MOST_INODES_PER_GROUP);
            return Ok(Attempt::Larger((groups - 1) * BLOCKS_PER_GROUP + STEP));
        };
        if geometry.inodes() > u64::from(u32::MAX) {
            let count = geometry.inodes();
            return Err(Error::TooManyInodes { count });
        }
        let Some(layout) = Layout::new(geometry) else {
            return Ok(Attempt::Larger(blocks + STEP));
        };
        let allocation = Allocation::new(inventory, self.journal, &layout);
        let missing = (allocation.used + self.free).saturating_sub(layout.space.capacity());
        Ok(if missing == 0 {
            Attempt::Fits(Plan { layout, allocation })
        } else {
            Attempt::Larger(blocks + missing)
        })
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
    fn new(inventory: &Inventory<'_>, journal: u64, layout: &Layout) -> Self {
        let mut allocation = Self {
            items: vec![0; inventory.items.len()],
            ..Self::default()
        };
        if journal > 0 {
            allocation.journal = (0, journal);
            allocation.used = extent::total_blocks(extent::contiguous(journal), 0, &layout.space);
        }
        allocation.items(inventory, layout, |kind| !matches!(kind, Kind::File(_)));
        allocation.xattrs(inventory);
        allocation.items(inventory, layout, |kind| matches!(kind, Kind::File(_)));
        allocation
    }

    fn items(&mut self, inventory: &Inventory<'_>, layout: &Layout, wanted: fn(&Kind) -> bool) {
        for (item, start) in inventory.items.iter().zip(&mut self.items) {
            if item.blocks > 0 && wanted(&inventory.tree.node(item.node).kind) {
                *start = self.used;
                self.used += extent::total_blocks(inventory.runs(item), self.used, &layout.space);
            }
        }
    }

    fn xattrs(&mut self, inventory: &Inventory<'_>) {
        for shared in &inventory.xattr_blocks {
            self.xattr_blocks.push(self.used);
            // Values are too short for an extent tree beside their inodes.
            self.used += 1 + shared.value_blocks;
        }
    }
}
