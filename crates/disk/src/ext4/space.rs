//! Blocks of the file system in an order of their own, numbered without gaps.
//!
//! Data are allocated by counting upwards in such a numbering, so a file's blocks are known from
//! its first position alone. What must hold: a position has one block, and no block two positions.

use std::ops::Range;

use super::geometry::{MOST_BLOCKS, has_superblock_before};

/// A run of neighbouring blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    position: u64,
    block: u64,
    length: u64,
}

/// Positions, and the blocks of 4096 bytes that they stand for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blocks {
    runs: Vec<Run>,
}

impl Blocks {
    /// No blocks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// All blocks that a file system can have but the first `reserve` of every group with a
    /// superblock. The positions ascend with the blocks.
    pub(super) fn of_data(reserve: u64) -> Self {
        let mut blocks = Self::default();
        let mut start = reserve;
        for head in has_superblock_before(MOST_BLOCKS) {
            blocks.push(start..head);
            start = head + reserve;
        }
        blocks.push(start..MOST_BLOCKS);
        blocks
    }

    /// Adds blocks behind all others.
    pub fn push(&mut self, blocks: Range<u64>) {
        let length = blocks.end.saturating_sub(blocks.start);
        match self.runs.last_mut() {
            _ if length == 0 => {}
            Some(last) if last.block + last.length == blocks.start => last.length += length,
            _ => {
                let run = Run {
                    position: self.count(),
                    block: blocks.start,
                    length,
                };
                self.runs.push(run);
            }
        }
    }

    /// How many positions there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.runs.last().map_or(0, |run| run.position + run.length)
    }

    /// All blocks, in runs, in the order of their positions.
    pub fn runs(&self) -> impl Iterator<Item = Range<u64>> {
        self.runs
            .iter()
            .map(|run| run.block..run.block + run.length)
    }

    /// The blocks of some positions, in runs. Positions that there are not have none.
    pub fn blocks(&self, positions: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let first = self
            .runs
            .partition_point(|run| run.position + run.length <= positions.start);
        self.runs[first..]
            .iter()
            .take_while(move |run| run.position < positions.end)
            .map(move |run| {
                let from = positions.start.max(run.position) - run.position;
                let to = (positions.end - run.position).min(run.length);
                run.block + from..run.block + to
            })
            .filter(|range| !range.is_empty())
    }

    /// The block of one position, which must be there.
    pub(super) fn block(&self, position: u64) -> u64 {
        self.blocks(position..position + 1)
            .next()
            .map_or(0, |range| range.start)
    }

    /// How many positions have blocks below `end`, where positions ascend with the blocks.
    pub(super) fn below(&self, end: u64) -> u64 {
        let before = self.runs.partition_point(|run| run.block < end);
        match before.checked_sub(1).map(|last| self.runs[last]) {
            Some(run) => run.position + run.length.min(end - run.block),
            None => 0,
        }
    }

    /// The first position from `position` on that begins `count` neighbouring blocks; none if there
    /// are not so many anywhere.
    pub(super) fn neighbours(&self, position: u64, count: u64) -> Option<u64> {
        let first = self
            .runs
            .partition_point(|run| run.position + run.length <= position);
        self.runs[first..]
            .iter()
            .map(|run| (run, position.max(run.position)))
            .find(|(run, start)| run.position + run.length - start >= count)
            .map(|(_, start)| start)
    }
}

/// The blocks of an image that are free for the content of files, to be handed out while it is not
/// known yet how much there will be.
///
/// What is handed out can be written at once; [`super::finish`] makes a file system around it.
#[derive(Debug, Clone)]
pub struct Room {
    space: Blocks,
    taken: u64,
}

impl Room {
    /// All of an empty image.
    #[must_use]
    pub fn new() -> Self {
        Self::after(0)
    }

    /// What is left when so many blocks have been handed out: see [`Room::taken`].
    #[must_use]
    pub fn after(taken: u64) -> Self {
        Self {
            space: Blocks::of_data(super::geometry::LEAST_RESERVE),
            taken,
        }
    }

    /// How many blocks have been handed out.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// The next neighbouring blocks, at most `most` and at least one. None when no file system can
    /// be so large.
    pub fn take(&mut self, most: u64) -> Option<Range<u64>> {
        let blocks = self.space.blocks(self.taken..self.taken + most).next()?;
        self.taken += blocks.end - blocks.start;
        Some(blocks)
    }

    /// The block behind all that were handed out.
    pub(super) fn end(&self) -> u64 {
        match self.taken.checked_sub(1) {
            Some(last) => self.space.block(last) + 1,
            None => 0,
        }
    }

    /// What was handed out.
    pub(super) fn handed_out(&self) -> impl Iterator<Item = Range<u64>> {
        self.space.blocks(0..self.taken)
    }
}

impl Default for Room {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_around_what_is_fixed() {
        let mut space = Blocks::new();
        for run in [3..10, 12..12, 12..20, 30..35, 35..40] {
            space.push(run);
        }
        assert_eq!(space.count(), 25);
        assert_eq!(space.runs().collect::<Vec<_>>(), [3..10, 12..20, 30..40]);
        let blocks = |range| space.blocks(range).collect::<Vec<_>>();
        assert_eq!(blocks(1..8), [4..10, 12..13]);
        assert_eq!(blocks(6..9), [9..10, 12..14]);
        assert_eq!(blocks(0..25), [3..10, 12..20, 30..40]);
        assert_eq!(blocks(4..4), []);
        assert_eq!(space.block(15), 30);
        let below = [0, 3, 5, 11, 12, 13, 20, 30, 31, 40, 50].map(|end| space.below(end));
        assert_eq!(below, [0, 0, 2, 7, 7, 8, 15, 15, 16, 25, 25]);
        let neighbours = |position, count| space.neighbours(position, count);
        assert_eq!(neighbours(0, 7), Some(0));
        assert_eq!(neighbours(1, 7), Some(7));
        assert_eq!(neighbours(1, 9), Some(15));
        assert_eq!(neighbours(16, 10), None);
    }

    #[test]
    fn room_is_handed_out_around_the_superblocks() {
        let mut room = Room::new();
        assert_eq!(room.take(10), Some(64..74));
        assert_eq!(room.take(1 << 20), Some(74..32_768));
        assert_eq!(room.take(5), Some(32_832..32_837));
        assert_eq!(room.end(), 32_837);
        assert_eq!(Room::after(room.taken()).take(1), Some(32_837..32_838));
    }
}
