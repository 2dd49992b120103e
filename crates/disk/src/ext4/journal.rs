//! The journal: an empty one is a superblock of its own and zeros.

use firebuild_core::ByteSize;

use super::geometry::{BLOCK, BLOCK_SIZE};
use super::record::low32;

const MAGIC: u32 = 0xc03b_3998;
/// A superblock of the second version.
const SUPERBLOCK: u32 = 4;

/// The least that Linux takes.
pub(super) const LEAST: ByteSize = ByteSize(1024 * BLOCK);
/// The largest that is of use.
pub(super) const MOST: ByteSize = ByteSize(1 << 30);

/// The size that suits a file system: a 64th of it, between 4 MiB and 64 MiB.
pub(super) fn suitable(file_system: ByteSize) -> ByteSize {
    let size = (file_system.0 / 64).next_multiple_of(BLOCK);
    ByteSize(size.clamp(LEAST.0, 64 << 20))
}

/// The journal's first block. Unlike all else in the file system it is big-endian.
pub(super) fn encode(blocks: u64, uuid: &[u8; 16]) -> [u8; BLOCK_SIZE] {
    let mut bytes = [0; BLOCK_SIZE];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0x00, &MAGIC.to_be_bytes());
    put(0x04, &SUPERBLOCK.to_be_bytes());
    put(0x0c, &low32(BLOCK).to_be_bytes());
    put(0x10, &low32(blocks).to_be_bytes());
    put(0x14, &1_u32.to_be_bytes()); // The log begins behind this block,
    put(0x18, &1_u32.to_be_bytes()); // with this transaction,
    put(0x30, uuid);
    put(0x40, &1_u32.to_be_bytes()); // for one file system.
    bytes
}
