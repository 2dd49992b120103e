//! The file that becomes the image: everything is written once, in large pieces, at its place.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::geometry::{BLOCK, BLOCK_SIZE};

/// How much is gathered before it is written.
pub(super) const BUFFER: usize = 1 << 20;

/// Gathers what lies together. What is never written stays a hole, which reads as zeros.
pub(super) struct Image<'f> {
    file: &'f File,
    /// Where the buffer's bytes belong.
    offset: u64,
    buffer: Vec<u8>,
}

impl<'f> Image<'f> {
    /// Makes what `file` has from block `kept` on a hole, up to `blocks`.
    pub(super) fn new(file: &'f File, kept: u64, blocks: u64) -> io::Result<Self> {
        file.set_len(kept * BLOCK)?;
        file.set_len(blocks * BLOCK)?;
        Ok(Self {
            file,
            offset: 0,
            buffer: Vec::with_capacity(BUFFER),
        })
    }

    /// Room for `length` bytes at `offset`, at most [`BUFFER`]; they must all be filled.
    ///
    /// What lies before them in the same block, and was not written, becomes zero.
    pub(super) fn room(&mut self, offset: u64, length: usize) -> io::Result<&mut [u8]> {
        let gap = offset.checked_sub(self.offset + self.buffer.len() as u64);
        let gap = gap
            .filter(|gap| *gap < BLOCK)
            .and_then(|gap| usize::try_from(gap).ok());
        let begin = match gap {
            Some(gap) if self.buffer.len() + gap + length <= BUFFER => self.buffer.len() + gap,
            _ => {
                self.flush()?;
                self.offset = offset;
                0
            }
        };
        self.buffer.resize(begin + length, 0);
        Ok(&mut self.buffer[begin..])
    }

    /// Puts bytes at `offset`.
    pub(super) fn put(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.room(offset, bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    /// Puts one whole block.
    pub(super) fn put_block(&mut self, block: u64, bytes: &[u8; BLOCK_SIZE]) -> io::Result<()> {
        self.put(block * BLOCK, bytes)
    }

    /// Makes blocks a hole that may hold something.
    pub(super) fn clear(&mut self, blocks: Range<u64>) -> io::Result<()> {
        self.flush()?;
        let (start, length) = (blocks.start * BLOCK, (blocks.end - blocks.start) * BLOCK);
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(self.file, flags, start, length) {
            Err(Errno::OPNOTSUPP) => self.zero(start, length),
            other => Ok(other?),
        }
    }

    fn zero(&self, mut start: u64, mut length: u64) -> io::Result<()> {
        let zeros = vec![0; BUFFER];
        while length > 0 {
            let size = length.min(BUFFER as u64);
            let piece = usize::try_from(size).unwrap_or(BUFFER);
            self.file.write_all_at(&zeros[..piece], start)?;
            start += size;
            length -= size;
        }
        Ok(())
    }

    /// Writes what is gathered.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.offset)?;
        self.buffer.clear();
        Ok(())
    }
}
