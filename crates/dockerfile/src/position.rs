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
    lines: Vec<LineStart>,
    /// For each [`STRIDE`] bytes of each line that is not ASCII, the characters before them.
    counts: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
struct LineStart {
    offset: usize,
    /// Where the line's counts begin; `None` for ASCII, where columns need no counting.
    counts: Option<usize>,
}

/// So far apart are counts: a column costs no more than this many bytes to count.
const STRIDE: usize = 256;

impl<'a> LineIndex<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        let mut index = Self {
            text,
            lines: Vec::new(),
            counts: Vec::new(),
        };
        let mut offset = 0;
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let counts = (!line.is_ascii()).then_some(index.counts.len());
            index.lines.push(LineStart { offset, counts });
            if counts.is_some() {
                // A byte-order mark is no character of the line.
                let mark = offset == 0 && line.starts_with(BYTE_ORDER_MARK);
                let mut count = 0_u32.wrapping_sub(u32::from(mark));
                for piece in line.chunks(STRIDE) {
                    index.counts.push(count);
                    count = count.wrapping_add(characters(piece));
                }
            }
            offset += line.len();
        }
        if text.is_empty() || text.ends_with(b"\n") {
            let counts = None;
            index.lines.push(LineStart { offset, counts });
        }
        index
    }

    /// The position of a byte offset; one beyond the text is the text's end.
    pub(crate) fn position(&self, offset: usize) -> Position {
        let offset = offset.min(self.text.len());
        let line = self.lines.partition_point(|line| line.offset <= offset);
        let at = self.lines.get(line.wrapping_sub(1)).copied();
        let at = at.unwrap_or(LineStart {
            offset: 0,
            counts: None,
        });
        let before = self.text.get(at.offset..offset).unwrap_or_default();
        let column = match at.counts {
            None => u32::try_from(before.len()).unwrap_or(u32::MAX - 1),
            Some(counts) => {
                let strides = before.len() / STRIDE;
                let start = self.counts.get(counts + strides).copied();
                let rest = before.get(strides * STRIDE..).unwrap_or_default();
                let start = start.unwrap_or_else(|| characters(&before[..strides * STRIDE]));
                start.wrapping_add(characters(rest))
            }
        };
        Position {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            // Inside a byte-order mark, the count is one below nothing.
            column: column.wrapping_add(1).max(1),
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

/// How many characters begin in some bytes.
fn characters(bytes: &[u8]) -> u32 {
    let first = bytes.iter().filter(|byte| **byte & 0xC0 != 0x80).count();
    u32::try_from(first).unwrap_or(u32::MAX)
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
        let long = "é\n".to_owned() + &"ñx".repeat(1000);
        let index = LineIndex::new(long.as_bytes());
        for characters in [0, 1, 169, 170, 171, 1999, 2000] {
            let before: usize = long.chars().take(characters + 2).map(char::len_utf8).sum();
            assert_eq!(index.position(before).column as usize, characters + 1);
        }
        let position = LineIndex::new(b"").position(0);
        assert_eq!((position.line, position.column), (1, 1));
    }
}
