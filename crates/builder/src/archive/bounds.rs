//! How much an archive takes, counted while it is read: what keeps a bomb from filling the disk.

use std::cell::Cell;
use std::io::{self, Read, Write};

use super::Limits;

/// Counts what is read.
pub(super) struct Counted<'a, R> {
    input: R,
    count: &'a Cell<u64>,
}

impl<'a, R> Counted<'a, R> {
    pub(super) fn new(input: R, count: &'a Cell<u64>) -> Self {
        Self { input, count }
    }
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.count.set(self.count.get() + read as u64);
        Ok(read)
    }
}

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Excess {
    Size,
    Ratio,
}

/// Passes on what was uncompressed, writes it down, and stops where a limit is reached.
pub(super) struct Bounded<'a, R, W> {
    pub(super) input: R,
    pub(super) output: W,
    /// How many bytes came so far.
    pub(super) size: u64,
    /// How many compressed bytes they took.
    pub(super) compressed: &'a Cell<u64>,
    pub(super) limits: &'a Limits,
    pub(super) excess: &'a Cell<Option<Excess>>,
}

impl<R: Read, W: Write> Read for Bounded<'_, R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.size = self.size.saturating_add(read as u64);
        let most = self.compressed.get().saturating_mul(self.limits.ratio);
        let excess = if self.size > self.limits.size {
            Some(Excess::Size)
        } else if self.size > self.limits.free && self.size > most {
            Some(Excess::Ratio)
        } else {
            None
        };
        if excess.is_some() {
            self.excess.set(excess);
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.output.write_all(&buffer[..read])?;
        Ok(read)
    }
}
