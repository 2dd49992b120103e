//! `metadata_csum`: CRC-32C over every structure, seeded so that a block at the wrong place or of
//! another file system does not verify.
//!
//! Linux computes it without the inversions at begin and end that the usual CRC-32C has.

/// A running checksum, and the seed of further ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Checksum(pub(super) u32);

impl Checksum {
    /// Where all begin.
    pub(super) const START: Self = Self(!0);

    /// The seed of a file system.
    pub(super) fn of_file_system(uuid: &[u8; 16]) -> Self {
        Self::START.over(uuid)
    }

    /// The seed of what belongs to an inode; the generation is always 0 here.
    pub(super) fn of_inode(self, number: u32) -> Self {
        self.over(&number.to_le_bytes()).over(&0_u32.to_le_bytes())
    }

    /// Goes on over `bytes`.
    pub(super) fn over(self, bytes: &[u8]) -> Self {
        Self(!crc32c::crc32c_append(!self.0, bytes))
    }
}
