//! Bitmaps: a set bit is a block or inode in use, or none at all.

use std::ops::Range;

use super::geometry::BLOCK_SIZE;

/// One block of bits, lowest bit of the first byte first.
pub(super) struct Bitmap(Box<[u8; BLOCK_SIZE]>);

impl Bitmap {
    pub(super) fn new() -> Self {
        Self(Box::new([0; BLOCK_SIZE]))
    }

    /// Sets a range of bits, which ends at 32768 at most.
    pub(super) fn set(&mut self, bits: Range<u64>) {
        let mut bit = bits.start;
        while bit < bits.end {
            let byte = usize::try_from(bit / 8).unwrap_or(BLOCK_SIZE);
            if bit.is_multiple_of(8) && bits.end - bit >= 8 {
                self.0[byte] = 0xff;
                bit += 8;
            } else {
                self.0[byte] |= 1 << (bit % 8);
                bit += 1;
            }
        }
    }

    pub(super) fn bytes(&self) -> &[u8; BLOCK_SIZE] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_ranges() {
        for range in [0..0, 0..1, 3..7, 5..29, 8..16, 32760..32768, 0..32768] {
            let mut bitmap = Bitmap::new();
            bitmap.set(range.clone());
            for bit in 0..32768_u64 {
                let byte = bitmap.bytes()[usize::try_from(bit / 8).unwrap()];
                assert_eq!(byte >> (bit % 8) & 1 == 1, range.contains(&bit), "{bit}");
            }
        }
    }
}
