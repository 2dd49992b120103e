//! All blocks that are free for data, numbered without gaps.
//!
//! Data are allocated by counting upwards in this numbering, so what is used is always "all below
//! a position", and a file's blocks are known from its first position alone. What must hold:
//! positions ascend with block numbers.

use std::ops::Range;

/// A run of neighbouring blocks.
#[derive(Debug, Clone, Copy)]
struct Run {
    position: u64,
    block: u64,
    length: u64,
}

/// Positions of data, and the blocks that they stand for.
#[derive(Debug)]
pub(super) struct DataSpace {
    runs: Vec<Run>,
}

impl DataSpace {
    /// All blocks below `blocks` outside `fixed`, which ascends.
    pub(super) fn beside(fixed: &[Range<u64>], blocks: u64) -> Self {
        let starts = std::iter::once(0).chain(fixed.iter().map(|range| range.end));
        let ends = fixed.iter().map(|range| range.start).chain([blocks]);
        let mut position = 0;
        let mut runs = Vec::new();
        for (block, end) in starts.zip(ends).filter(|(start, end)| start < end) {
            let length = end - block;
            runs.push(Run {
                position,
                block,
                length,
            });
            position += length;
        }
        Self { runs }
    }

    /// How many positions there are.
    pub(super) fn capacity(&self) -> u64 {
        self.runs.last().map_or(0, |run| run.position + run.length)
    }

    /// The blocks of some positions: ascending ranges. Positions beyond the capacity have none.
    pub(super) fn blocks(&self, positions: Range<u64>) -> impl Iterator<Item = Range<u64>> {
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

    /// The block of one position, which is below the capacity.
    pub(super) fn block(&self, position: u64) -> u64 {
        self.blocks(position..position + 1)
            .next()
            .map_or(0, |range| range.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_around_what_is_fixed() {
        let space = DataSpace::beside(&[0..3, 10..12, 12..12, 20..30], 40);
        assert_eq!(space.capacity(), 25);
        let blocks = |range| space.blocks(range).collect::<Vec<_>>();
        assert_eq!(blocks(1..8), [4..10, 12..13]);
        assert_eq!(blocks(6..9), [9..10, 12..14]);
        assert_eq!(blocks(0..25), [3..10, 12..20, 30..40]);
        assert_eq!(blocks(4..4), []);
        assert_eq!(space.block(15), 30);
    }
}
