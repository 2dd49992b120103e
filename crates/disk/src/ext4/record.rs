//! Fields of on-disk structures: little-endian integers at fixed offsets.

/// A zeroed structure being filled in. Offsets are constants of the format, within the slice.
pub(super) struct Record<'a>(pub(super) &'a mut [u8]);

impl Record<'_> {
    pub(super) fn bytes(&mut self, at: usize, value: &[u8]) {
        self.0[at..at + value.len()].copy_from_slice(value);
    }

    pub(super) fn u8(&mut self, at: usize, value: u8) {
        self.0[at] = value;
    }

    pub(super) fn u16(&mut self, at: usize, value: u16) {
        self.bytes(at, &value.to_le_bytes());
    }

    pub(super) fn u32(&mut self, at: usize, value: u32) {
        self.bytes(at, &value.to_le_bytes());
    }

    /// A number whose low and high 16 bits lie apart.
    pub(super) fn split16(&mut self, low_at: usize, high_at: usize, value: u32) {
        self.u16(low_at, low16(value));
        self.u16(high_at, low16(value >> 16));
    }

    /// A number whose low and high 32 bits lie apart.
    pub(super) fn split32(&mut self, low_at: usize, high_at: usize, value: u64) {
        self.u32(low_at, low32(value));
        self.u32(high_at, low32(value >> 32));
    }
}

/// The low 8 bits.
pub(super) const fn low8(value: u64) -> u8 {
    (value & 0xff) as u8
}

/// The low 16 bits.
pub(super) const fn low16(value: u32) -> u16 {
    (value & 0xffff) as u16
}

/// The low 32 bits.
pub(super) const fn low32(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}
