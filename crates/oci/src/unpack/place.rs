//! Puts the files' bytes of one layer into blocks.
//!
//! Each file begins a block, and what its last block has beyond it is zero. All blocks of a layer,
//! in order, are a stream; a file's [`Content`] says where in the stream it lies. What must hold:
//! the contents that [`Stream::content`] makes are a function of the layer's entries alone, so they
//! need not be kept.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use firebuild_core::tree::{Content, Segment};

/// Bytes in a block.
const BLOCK_SIZE: usize = 4096;
/// The same, for arithmetic on offsets.
pub(crate) const BLOCK: u64 = BLOCK_SIZE as u64;

/// How much is gathered before it is written.
const BUFFER: usize = 1 << 20;

/// Counts through the stream of a layer.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    blocks: u64,
}

impl Stream {
    /// Where a file lies whose content is at `content` of the layer: in whole blocks, each with the
    /// file's bytes or zeros. To be asked for every file of the layer, in order.
    pub(crate) fn content(&mut self, content: &Content, source: u32) -> Content {
        let mut segments = Vec::with_capacity(1);
        for run in runs(content) {
            let start = run.start * BLOCK;
            segments.push(Segment {
                start,
                offset: self.blocks * BLOCK,
                length: content.length.min(run.end * BLOCK) - start,
            });
            self.blocks += run.end - run.start;
        }
        Content {
            source,
            length: content.length,
            segments: segments.into(),
        }
    }
}

/// The runs of blocks that a file's segments touch: ascending, not adjacent.
fn runs(content: &Content) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::with_capacity(content.segments.len().min(1));
    for segment in &content.segments {
        let first = segment.start / BLOCK;
        let end = (segment.start + segment.length).div_ceil(BLOCK);
        match runs.last_mut() {
            Some(run) if first <= run.end => run.end = run.end.max(end),
            _ => runs.push(first..end),
        }
    }
    runs
}

/// Writes a layer's blocks where there is room for them, many at once.
pub(super) struct Placer<'f> {
    output: &'f File,
    /// What is left of the last piece of room.
    room: Range<u64>,
    /// What is gathered for the beginning of the room.
    buffer: Vec<u8>,
    /// The blocks of the layer so far, in the stream's order.
    blocks: Vec<Range<u64>>,
}

/// Why a file's bytes could not be put into blocks.
pub(super) enum PlaceError<E> {
    Read(io::Error),
    Write(io::Error),
    Room(E),
}

impl<'f> Placer<'f> {
    pub(super) fn new(output: &'f File) -> Self {
        Self {
            output,
            room: 0..0,
            buffer: Vec::with_capacity(BUFFER),
            blocks: Vec::new(),
        }
    }

    /// Writes one file's bytes, which come packed from `input`, where `piece` gives more room.
    pub(super) fn write<E>(
        &mut self,
        content: &Content,
        input: &mut impl Read,
        piece: &mut impl FnMut() -> Result<Range<u64>, E>,
    ) -> Result<(), PlaceError<E>> {
        // Up to here the file's bytes have been written, or are a hole.
        let mut position = 0;
        for segment in &content.segments {
            let block = segment.start / BLOCK * BLOCK;
            if block >= position {
                self.pad();
                position = block;
            }
            self.zeros(segment.start - position, piece)?;
            self.copy(segment.length, input, piece)?;
            position = segment.start + segment.length;
        }
        self.pad();
        Ok(())
    }

    /// Ends the block that is being filled.
    fn pad(&mut self) {
        let padded = self.buffer.len().next_multiple_of(BLOCK_SIZE);
        self.buffer.resize(padded, 0);
    }

    fn zeros<E>(
        &mut self,
        length: u64,
        piece: &mut impl FnMut() -> Result<Range<u64>, E>,
    ) -> Result<(), PlaceError<E>> {
        self.copy(length, &mut io::repeat(0), piece)
    }

    fn copy<E>(
        &mut self,
        mut length: u64,
        input: &mut impl Read,
        piece: &mut impl FnMut() -> Result<Range<u64>, E>,
    ) -> Result<(), PlaceError<E>> {
        while length > 0 {
            let free = self.free(piece)?;
            let size = length.min(free as u64);
            let start = self.buffer.len();
            let end = start + usize::try_from(size).unwrap_or(free);
            self.buffer.resize(end, 0);
            input
                .read_exact(&mut self.buffer[start..])
                .map_err(PlaceError::Read)?;
            length -= size;
        }
        Ok(())
    }

    /// How many bytes can be gathered now: at least one.
    fn free<E>(
        &mut self,
        piece: &mut impl FnMut() -> Result<Range<u64>, E>,
    ) -> Result<usize, PlaceError<E>> {
        let limit = |room: &Range<u64>| {
            let most = (room.end - room.start).saturating_mul(BLOCK);
            usize::try_from(most).unwrap_or(BUFFER).min(BUFFER)
        };
        if self.buffer.len() >= limit(&self.room) {
            self.flush().map_err(PlaceError::Write)?;
            if self.room.is_empty() {
                self.room = piece().map_err(PlaceError::Room)?;
            }
        }
        Ok(limit(&self.room) - self.buffer.len())
    }

    /// Writes what is gathered, whole blocks, to the beginning of the room.
    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let start = self.room.start;
        self.output.write_all_at(&self.buffer, start * BLOCK)?;
        let blocks = start..start + self.buffer.len() as u64 / BLOCK;
        self.room.start = blocks.end;
        match self.blocks.last_mut() {
            Some(last) if last.end == blocks.start => last.end = blocks.end,
            _ => self.blocks.push(blocks),
        }
        self.buffer.clear();
        Ok(())
    }

    /// Ends the layer: its blocks, in order. The next one goes on behind it.
    pub(super) fn finish(&mut self) -> io::Result<Vec<Range<u64>>> {
        self.flush()?;
        Ok(std::mem::take(&mut self.blocks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(length: u64, segments: &[(u64, u64)]) -> Content {
        let mut offset = 0;
        let segments = segments.iter().map(|&(start, length)| {
            offset += length;
            Segment {
                start,
                offset: offset - length,
                length,
            }
        });
        Content {
            source: 0,
            length,
            segments: segments.collect(),
        }
    }

    /// What is at a content's segments of a stream that lies in these blocks.
    fn read(file: &File, blocks: &[Range<u64>], content: &Content) -> Vec<u8> {
        let numbers: Vec<u64> = blocks.iter().cloned().flatten().collect();
        let mut bytes = vec![0; usize::try_from(content.length).unwrap()];
        for segment in &content.segments {
            for at in 0..segment.length {
                let block = numbers[usize::try_from((segment.offset + at) / BLOCK).unwrap()];
                let place = block * BLOCK + (segment.offset + at) % BLOCK;
                let target = usize::try_from(segment.start + at).unwrap();
                file.read_exact_at(&mut bytes[target..=target], place)
                    .unwrap();
            }
        }
        bytes
    }

    #[test]
    fn files_are_where_their_contents_say() {
        let files = [
            content(5, &[(0, 5)]),
            content(0, &[]),
            content(4096, &[(0, 4096)]),
            content(5000, &[(0, 5000)]),
            content(
                30_000,
                &[(100, 50), (200, 5), (4000, 100), (20_000, 10_000)],
            ),
            content(9000, &[]),
            content(20_000, &[(4095, 2), (8192, 1)]),
            content(3, &[(0, 3)]),
        ];
        for piece in [1, 2, 3, 100] {
            let file = tempfile::tempfile().unwrap();
            let mut placer = Placer::new(&file);
            let mut next = 10;
            let mut room = || {
                next += piece + 1;
                Ok::<_, ()>(next - piece - 1..next - 1)
            };
            let mut stream = Stream::default();
            let mut expected = Vec::new();
            for (index, content) in (1..).zip(&files) {
                let mut input = io::repeat(index);
                assert!(placer.write(content, &mut input, &mut room).is_ok());
                let mut bytes = vec![0; usize::try_from(content.length).unwrap()];
                for segment in &content.segments {
                    let start = usize::try_from(segment.start).unwrap();
                    bytes[start..start + usize::try_from(segment.length).unwrap()].fill(index);
                }
                expected.push((stream.content(content, 7), bytes));
            }
            let blocks = placer.finish().unwrap();
            let count: u64 = blocks.iter().map(|run| run.end - run.start).sum();
            assert_eq!(count, stream.blocks);
            for (content, bytes) in expected {
                assert_eq!(content.source, 7);
                assert_eq!(read(&file, &blocks, &content), bytes, "{piece} {content:?}");
            }
        }
    }
}
