//! Group descriptors: 64 bytes each, one after the other behind the superblock.

use super::checksum::Checksum;
use super::geometry::{DESCRIPTOR_SIZE, Place};
use super::record::{Record, low16, low32};

/// The inode table and bitmap are not in use, and the bitmap is not written.
const INODE_UNINIT: u16 = 0x1;
/// The block bitmap is not written: only the group's superblock and descriptors are in use.
const BLOCK_UNINIT: u16 = 0x2;
/// The inode table is zero where it is not in use, so Linux need not zero it.
const ITABLE_ZEROED: u16 = 0x4;

/// What a descriptor says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    pub(super) place: Place,
    pub(super) free_blocks: u32,
    pub(super) free_inodes: u32,
    pub(super) directories: u32,
    /// Inodes at the end of the table that were never in use.
    pub(super) unused_inodes: u32,
    /// The bitmaps' checksums; `None` for one that is not written.
    pub(super) block_bitmap: Option<Checksum>,
    pub(super) inode_bitmap: Option<Checksum>,
}

impl Group {
    pub(super) fn encode(&self, number: u64, seed: Checksum) -> [u8; DESCRIPTOR_SIZE] {
        let mut bytes = [0; DESCRIPTOR_SIZE];
        let mut record = Record(&mut bytes);
        record.split32(0x00, 0x20, self.place.block_bitmap);
        record.split32(0x04, 0x24, self.place.inode_bitmap);
        record.split32(0x08, 0x28, self.place.inode_table);
        record.split16(0x0c, 0x2c, self.free_blocks);
        record.split16(0x0e, 0x2e, self.free_inodes);
        record.split16(0x10, 0x30, self.directories);
        record.split16(0x1c, 0x32, self.unused_inodes);
        record.u16(0x12, self.flags());
        let checksum = |bitmap: Option<Checksum>| bitmap.map_or(0, |checksum| checksum.0);
        record.split16(0x18, 0x38, checksum(self.block_bitmap));
        record.split16(0x1a, 0x3a, checksum(self.inode_bitmap));
        let checksum = seed.over(&low32(number).to_le_bytes()).over(record.0);
        record.u16(0x1e, low16(checksum.0));
        bytes
    }

    fn flags(&self) -> u16 {
        let mut flags = ITABLE_ZEROED;
        if self.block_bitmap.is_none() {
            flags |= BLOCK_UNINIT;
        }
        if self.inode_bitmap.is_none() {
            flags |= INODE_UNINIT;
        }
        flags
    }
}
