//! Fields of on-disk structures that are read: the other direction of `record`.

/// Reads little-endian fields at constant offsets, which lie within the bytes.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl Fields<'_> {
    pub(super) fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.0[at], self.0[at + 1]])
    }

    pub(super) fn u32(&self, at: usize) -> u32 {
        u32::from(self.u16(at)) | u32::from(self.u16(at + 2)) << 16
    }

    /// A number whose low and high 16 bits lie apart.
    pub(super) fn split16(&self, low: usize, high: usize) -> u32 {
        u32::from(self.u16(low)) | u32::from(self.u16(high)) << 16
    }

    /// A number whose low and high 32 bits lie apart.
    pub(super) fn split32(&self, low: usize, high: usize) -> u64 {
        u64::from(self.u32(low)) | u64::from(self.u32(high)) << 32
    }
}
