//! Where the bytes of a tree's files are read from.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::ext4::Blocks;

/// Gives the bytes that a tree's [`firebuild_core::tree::Content`] points to.
///
/// A source is read at ascending offsets as far as the tree's order of names allows, each byte
/// once.
pub trait ContentSource {
    /// Fills `buffer` with the bytes of `source` from `offset` on.
    ///
    /// # Errors
    /// Whatever reading brings; [`io::ErrorKind::UnexpectedEof`] if the source ends too early.
    fn read_exact_at(&self, source: u32, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// The blocks of the output in which the bytes of `source` lie already, in order, if they do:
    /// see [`crate::ext4::finish`]. Such a source is not read.
    fn placed(&self, source: u32) -> Option<&Blocks> {
        let _ = source;
        None
    }
}

/// Sources in open files: the number of a source is its place in the list.
impl ContentSource for [File] {
    fn read_exact_at(&self, source: u32, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let file = usize::try_from(source)
            .ok()
            .and_then(|index| self.get(index));
        file.ok_or(io::ErrorKind::NotFound)?
            .read_exact_at(buffer, offset)
    }
}

/// The source of a tree whose files are all empty.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoContent;

impl ContentSource for NoContent {
    fn read_exact_at(&self, _source: u32, _offset: u64, _buffer: &mut [u8]) -> io::Result<()> {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}
