//! The superblock, and the features that every file system written here has.

use super::checksum::Checksum;
use super::directory::HASH_VERSION;
use super::extent::ROOT_SIZE;
use super::geometry::{
    BLOCKS_PER_GROUP, DESCRIPTOR_SIZE, Geometry, INODE_SIZE, LOG_GROUPS_PER_FLEX,
};
use super::hash::Seed;
use super::inode::{EXTRA_SIZE, FIRST, JOURNAL};
use super::record::{Record, low16, low32};

/// Bytes of a superblock.
pub(super) const SIZE: usize = 1024;
/// Where the first one begins in the file system; copies begin with their group.
pub(super) const OFFSET: u64 = 1024;

/// Bytes that a label may have.
pub(super) const LONGEST_LABEL: usize = 16;

mod compatible {
    pub(super) const HAS_JOURNAL: u32 = 0x4;
    pub(super) const EXT_ATTR: u32 = 0x8;
    pub(super) const DIR_INDEX: u32 = 0x20;
}

mod incompatible {
    pub(super) const FILETYPE: u32 = 0x2;
    pub(super) const EXTENTS: u32 = 0x40;
    pub(super) const BITS_64: u32 = 0x80;
    pub(super) const FLEX_BG: u32 = 0x200;
    pub(super) const EA_INODE: u32 = 0x400;
}

mod read_only_compatible {
    pub(super) const SPARSE_SUPER: u32 = 0x1;
    pub(super) const LARGE_FILE: u32 = 0x2;
    pub(super) const HUGE_FILE: u32 = 0x8;
    pub(super) const DIR_NLINK: u32 = 0x20;
    pub(super) const EXTRA_ISIZE: u32 = 0x40;
    pub(super) const METADATA_CSUM: u32 = 0x400;
}

/// What the superblock says.
#[derive(Debug, Clone)]
pub(super) struct Superblock<'a> {
    pub(super) geometry: Geometry,
    pub(super) free_blocks: u64,
    pub(super) free_inodes: u32,
    pub(super) uuid: [u8; 16],
    pub(super) hash_seed: Seed,
    pub(super) label: &'a [u8],
    /// Whether a value of an extended attribute is in an inode of its own.
    pub(super) has_ea_inodes: bool,
    /// The journal's extent tree and size in bytes.
    pub(super) journal: Option<([u8; ROOT_SIZE], u64)>,
}

impl Superblock<'_> {
    /// The bytes of the superblock in `group`.
    pub(super) fn encode(&self, group: u64) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        let mut record = Record(&mut bytes);
        self.put_counts(&mut record);
        self.put_constants(&mut record);
        self.put_features(&mut record);
        record.u16(0x5a, low16(low32(group)));
        record.bytes(0x68, &self.uuid);
        record.bytes(0x78, self.label);
        for (index, word) in self.hash_seed.iter().enumerate() {
            record.u32(0xec + 4 * index, *word);
        }
        if let Some((root, size)) = &self.journal {
            put_journal(&mut record, root, *size);
        }
        let checksum = Checksum::START.over(&record.0[..0x3fc]);
        record.u32(0x3fc, checksum.0);
        bytes
    }

    fn put_counts(&self, record: &mut Record<'_>) {
        record.u32(0x00, low32(self.geometry.inodes()));
        record.split32(0x04, 0x150, self.geometry.blocks);
        record.split32(0x0c, 0x158, self.free_blocks);
        record.u32(0x10, self.free_inodes);
        record.u32(0x20, low32(BLOCKS_PER_GROUP));
        record.u32(0x24, low32(BLOCKS_PER_GROUP));
        record.u32(0x28, self.geometry.inodes_per_group);
    }

    fn put_constants(&self, record: &mut Record<'_>) {
        record.u32(0x18, 2); // Blocks of 1024 << 2 bytes,
        record.u32(0x1c, 2); // and clusters as well.
        record.u16(0x36, u16::MAX); // No check after some number of mounts.
        record.u16(0x38, 0xef53);
        record.u16(0x3a, 1); // Cleanly unmounted.
        record.u16(0x3c, 1); // On errors, go on.
        record.u32(0x4c, 1); // The revision that has what follows.
        record.u32(0x54, FIRST);
        record.u16(0x58, low16(low32(INODE_SIZE as u64)));
        record.u8(0xfc, HASH_VERSION);
        record.u16(0xfe, low16(low32(DESCRIPTOR_SIZE as u64)));
        record.u32(0x100, 0x4 | 0x8); // Mount with user attributes and ACLs.
        record.u16(0x15c, EXTRA_SIZE);
        record.u16(0x15e, EXTRA_SIZE);
        record.u32(0x160, 0x2); // Names are hashed as unsigned bytes.
        record.u8(0x174, LOG_GROUPS_PER_FLEX);
        record.u8(0x175, 1); // CRC-32C.
    }

    fn put_features(&self, record: &mut Record<'_>) {
        let mut features = compatible::EXT_ATTR | compatible::DIR_INDEX;
        if self.journal.is_some() {
            features |= compatible::HAS_JOURNAL;
        }
        record.u32(0x5c, features);
        let mut features = incompatible::FILETYPE
            | incompatible::EXTENTS
            | incompatible::BITS_64
            | incompatible::FLEX_BG;
        if self.has_ea_inodes {
            features |= incompatible::EA_INODE;
        }
        record.u32(0x60, features);
        record.u32(
            0x64,
            read_only_compatible::SPARSE_SUPER
                | read_only_compatible::LARGE_FILE
                | read_only_compatible::HUGE_FILE
                | read_only_compatible::DIR_NLINK
                | read_only_compatible::EXTRA_ISIZE
                | read_only_compatible::METADATA_CSUM,
        );
    }
}

/// The journal's number, and a copy of its extent tree and size for a repair.
fn put_journal(record: &mut Record<'_>, root: &[u8; ROOT_SIZE], size: u64) {
    record.u32(0xe0, JOURNAL);
    record.u8(0xfd, 1);
    record.bytes(0x10c, root);
    record.split32(0x10c + 64, 0x10c + 60, size);
}
