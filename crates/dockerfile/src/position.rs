//! Where something stands in the Dockerfile's text.
//!
//! Every value that the parser hands out keeps its place, so that any later mistake (an unset
//! variable, a missing file) can be shown in the line that caused it.

use std::ops::Range;

use serde::Serialize;

/// A place between two characters of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub struct Position {
    /// The line, from 1.
    pub line: u32,
    /// The character in that line, from 1; a byte-order mark does not count.
    pub column: u32,
    /// Bytes from the beginning of the text, a byte-order mark included.
    #[serde(skip)]
    pub offset: usize,
}

/// A stretch of the text, `end` not included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
pub struct Span {
    /// The first character.
    pub start: Position,
    /// The place behind the last character.
    pub end: Position,
}

impl Span {
    /// The bytes of the original text that this covers.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.start.offset..self.end.offset
    }

    /// The stretch from the beginning of this to the end of `other`.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        Self {
            start: self.start,
            end: other.end,
        }
    }
}

/// The byte-order mark of UTF-8.
pub(crate) const BYTE_ORDER_MARK: &[u8] = &[0xEF, 0xBB, 0xBF];

/// Where the lines of a text begin: turns offsets into positions.
#[derive(Debug)]
pub(crate) struct LineIndex<'a> {
    text: &'a [u8],
    /// The offset of each line's first byte, and whether the line is ASCII only, in which case a
    /// column needs no counting.
    lines: Vec<(usize, bool)>,
}

impl<'a> LineIndex<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        let mut lines = Vec::new();
        let mut start = 0;
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            lines.push((start, line.is_ascii()));
            start += line.len();
        }
        if text.is_empty() || text.ends_with(b"\n") {
            lines.push((start, true));
        }
        Self { text, lines }
    }

    /// The position of a byte offset; one beyond the text is the text's end.
    pub(crate) fn position(&self, offset: usize) -> Position {
        let offset = offset.min(self.text.len());
        let line = self.lines.partition_point(|(start, _)| *start <= offset);
        let (start, ascii) = self
            .lines
            .get(line.wrapping_sub(1))
            .copied()
            .unwrap_or((0, false));
        let before = self.text.get(start..offset).unwrap_or_default();
        let column = if ascii {
            before.len()
        } else {
            let before = match start {
                0 => before.strip_prefix(BYTE_ORDER_MARK).unwrap_or(before),
                _ => before,
            };
            before.iter().filter(|byte| **byte & 0xC0 != 0x80).count()
        };
        Position {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column + 1).unwrap_or(u32::MAX),
            offset,
        }
    }

    /// The span of a range of bytes.
    pub(crate) fn span(&self, range: Range<usize>) -> Span {
        Span {
            start: self.position(range.start),
            end: self.position(range.end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_lines_and_characters_from_one() {
        let text = "\u{FEFF}añb\nc\n".as_bytes();
        let index = LineIndex::new(text);
        for (offset, line, column) in [
            (3, 1, 1),
            (4, 1, 2),
            (6, 1, 3),
            (7, 1, 4),
            (8, 2, 1),
            (9, 2, 2),
            (10, 3, 1),
            (99, 3, 1),
        ] {
            let position = index.position(offset);
            assert_eq!((position.line, position.column), (line, column), "{offset}");
        }
        let position = LineIndex::new(b"").position(0);
        assert_eq!((position.line, position.column), (1, 1));
    }
}
