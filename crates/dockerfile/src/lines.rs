//! From bytes to logical lines: physical lines are counted and measured, continuations joined,
//! comments inside them dropped, and each byte of the result knows where it came from.
//!
//! Follows BuildKit's line reader (`frontend/dockerfile/parser/parser.go`).

use std::ops::Range;

use crate::error::{ErrorKind, ParseError};
use crate::position::{BYTE_ORDER_MARK, LineIndex};
use crate::{Span, Word};

/// The longest physical line in bytes, its line break not counted.
pub(crate) const MAX_LINE: usize = 65_535;

/// A line of the file: its bytes with the line break, and where they begin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PhysicalLine<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) start: usize,
}

impl<'a> PhysicalLine<'a> {
    /// The line without its line break.
    pub(crate) fn content(&self) -> &'a [u8] {
        let mut bytes = self.bytes;
        while let [rest @ .., b'\n' | b'\r'] = bytes {
            bytes = rest;
        }
        bytes
    }

    pub(crate) fn range(&self) -> Range<usize> {
        self.start..self.start + self.content().len()
    }
}

/// The physical lines of a text, one after the other.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    text: &'a [u8],
    next: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        let next = match text.starts_with(BYTE_ORDER_MARK) {
            true => BYTE_ORDER_MARK.len(),
            false => 0,
        };
        Self { text, next }
    }

    /// The next line; none at the end.
    pub(crate) fn next(
        &mut self,
        index: &LineIndex<'_>,
    ) -> Result<Option<PhysicalLine<'a>>, ParseError> {
        let rest = self.text.get(self.next..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let newline = rest.iter().position(|byte| *byte == b'\n');
        let length = newline.unwrap_or(rest.len());
        let start = self.next;
        if length > MAX_LINE {
            let mark = start..start + 1;
            return Err(ParseError::new(ErrorKind::LineTooLong, index.span(mark)));
        }
        self.next += newline.map_or(length, |at| at + 1);
        let bytes = rest.get(..self.next - start).unwrap_or(rest);
        Ok(Some(PhysicalLine { bytes, start }))
    }
}

/// True for a comment: `#` behind any amount of white space.
pub(crate) fn comment(line: &[u8]) -> Option<&[u8]> {
    trim_start(line).strip_prefix(b"#")
}

/// Without the white space at the beginning. Only what is UTF-8 can be white space.
pub(crate) fn trim_start(line: &[u8]) -> &[u8] {
    let valid = match std::str::from_utf8(line) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&line[..error.valid_up_to()]).unwrap_or_default(),
    };
    &line[valid.len() - valid.trim_start().len()..]
}

/// Takes the continuation off a line: one escape character before trailing blanks, not preceded
/// by a second one. `None` if the line does not go on.
fn continued(line: &[u8], escape: u8) -> Option<&[u8]> {
    let mut end = line.len();
    while end > 0 && matches!(line[end - 1], b' ' | b'\t') {
        end -= 1;
    }
    let line = line[..end].strip_suffix(&[escape])?;
    (line.last() != Some(&escape)).then_some(line)
}

/// An instruction's line with continuations joined.
#[derive(Debug)]
pub(crate) struct LogicalLine {
    text: String,
    /// Where pieces of `text` came from: (offset in `text`, offset in the file), ascending.
    pieces: Vec<(usize, usize)>,
    /// The first blank line between the pieces: its place.
    pub(crate) blank: Option<usize>,
}

impl LogicalLine {
    /// Reads on from the first line of an instruction.
    pub(crate) fn read<'a>(
        first: PhysicalLine<'a>,
        reader: &mut Reader<'a>,
        escape: u8,
        index: &LineIndex<'_>,
    ) -> Result<Self, ParseError> {
        let content = first.content();
        let trimmed = trim_start(content);
        let mut line = Self {
            text: String::new(),
            pieces: Vec::new(),
            blank: None,
        };
        let mut start = first.start + content.len() - trimmed.len();
        let mut content = trimmed;
        loop {
            let rest = continued(content, escape);
            line.push(rest.unwrap_or(content), start, index)?;
            if rest.is_none() {
                return Ok(line);
            }
            let Some(next) = line.next_piece(reader, index)? else {
                return Ok(line);
            };
            start = next.start;
            content = next.content();
        }
    }

    /// The next line that is neither a comment nor blank.
    fn next_piece<'a>(
        &mut self,
        reader: &mut Reader<'a>,
        index: &LineIndex<'_>,
    ) -> Result<Option<PhysicalLine<'a>>, ParseError> {
        while let Some(next) = reader.next(index)? {
            let content = next.content();
            if comment(content).is_some() {
                continue;
            }
            if !trim_start(content).is_empty() {
                return Ok(Some(next));
            }
            self.blank.get_or_insert(next.start);
        }
        Ok(None)
    }

    fn push(
        &mut self,
        bytes: &[u8],
        start: usize,
        index: &LineIndex<'_>,
    ) -> Result<(), ParseError> {
        let text = utf8(bytes, start, index)?;
        self.pieces.push((self.text.len(), start));
        self.text.push_str(text);
        Ok(())
    }
}

/// Text out of bytes that begin at `start`.
pub(crate) fn utf8<'a>(
    bytes: &'a [u8],
    start: usize,
    index: &LineIndex<'_>,
) -> Result<&'a str, ParseError> {
    std::str::from_utf8(bytes).map_err(|error| {
        let at = start + error.valid_up_to();
        ParseError::new(ErrorKind::NotUtf8, index.span(at..at + 1))
    })
}

/// A logical line (or an instruction inside one) on its way through the parser. Ranges are of
/// [`Line::text`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    logical: &'a LogicalLine,
    index: &'a LineIndex<'a>,
}

impl<'a> Line<'a> {
    pub(crate) fn new(logical: &'a LogicalLine, index: &'a LineIndex<'a>) -> Self {
        Self { logical, index }
    }

    /// The joined text.
    pub(crate) fn text(&self) -> &'a str {
        &self.logical.text
    }

    /// The text of a range.
    pub(crate) fn get(&self, range: Range<usize>) -> &'a str {
        self.logical.text.get(range).unwrap_or_default()
    }

    /// The range without white space at both ends.
    pub(crate) fn trim(&self, range: Range<usize>) -> Range<usize> {
        let text = self.get(range.clone());
        let start = range.start + (text.len() - text.trim_start().len());
        let end = start + text.trim().len();
        start..end
    }

    /// Where a range stands in the file.
    pub(crate) fn span(&self, range: Range<usize>) -> Span {
        let start = self.offset(range.start);
        let end = match range.end > range.start {
            true => self.offset(range.end - 1) + 1,
            false => start,
        };
        self.index.span(start..end)
    }

    /// The text of a range with its place.
    pub(crate) fn word(&self, range: Range<usize>) -> Word {
        Word {
            text: self.get(range.clone()).to_owned(),
            span: self.span(range),
        }
    }

    /// An error about a range.
    pub(crate) fn error(&self, kind: ErrorKind, range: Range<usize>) -> ParseError {
        ParseError::new(kind, self.span(range))
    }

    fn offset(&self, at: usize) -> usize {
        let piece = self.logical.pieces.partition_point(|(text, _)| *text <= at);
        let (text, file) = self
            .logical
            .pieces
            .get(piece.wrapping_sub(1))
            .copied()
            .unwrap_or_default();
        file + (at - text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continues_at_a_single_escape_only() {
        for (line, rest) in [
            ("a \\", Some("a ")),
            ("a\\ \t", Some("a")),
            ("\\", Some("")),
            ("a\\\\", None),
            ("a\\\\\\", None),
            ("a\\b", None),
            ("", None),
            ("a `", None),
        ] {
            let found = continued(line.as_bytes(), b'\\');
            assert_eq!(found, rest.map(str::as_bytes), "{line}");
        }
        assert_eq!(continued(b"a `", b'`'), Some(&b"a "[..]));
    }

    #[test]
    fn joins_and_remembers() {
        let text = b"  RUN a \\\n# no\n\n   b \\\n\\\nc\nnext\n";
        let index = LineIndex::new(text);
        let mut reader = Reader::new(text);
        let first = reader.next(&index).unwrap().unwrap();
        let logical = LogicalLine::read(first, &mut reader, b'\\', &index).unwrap();
        let line = Line::new(&logical, &index);
        assert_eq!(line.text(), "RUN a    b c");
        assert_eq!(logical.blank, Some(15));
        for (range, place) in [(0..3, (1, 3)), (9..10, (4, 4)), (11..12, (6, 1))] {
            let start = line.span(range.clone()).start;
            assert_eq!((start.line, start.column), place, "{range:?}");
        }
        assert_eq!(line.span(0..12).range(), 2..26);
        assert_eq!(reader.next(&index).unwrap().unwrap().bytes, b"next\n");
    }

    #[test]
    fn measures_lines() {
        for (length, fits) in [(MAX_LINE, true), (MAX_LINE + 1, false)] {
            for end in ["", "\n"] {
                let text = format!("{}{end}", "x".repeat(length));
                let index = LineIndex::new(text.as_bytes());
                let line = Reader::new(text.as_bytes()).next(&index);
                assert_eq!(line.is_ok(), fits, "{length} {end:?}");
            }
        }
    }
}
