//! A piece of an instruction as it was written, variables and quotes still in it.

use std::fmt;
use std::ops::Range;

use serde::{Serialize, Serializer};

use crate::{Position, Span};

/// Text from the Dockerfile and its place.
///
/// Where the documentation of a field says so, the text may hold variables and quotes and has to
/// go through [`crate::Expander`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Word {
    /// The text, without line continuations.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

impl Word {
    /// The place of a range of this word's bytes, as exactly as it is known: the whole word where
    /// the text does not stand in the file in one piece.
    #[must_use]
    pub fn sub_span(&self, range: Range<usize>) -> Span {
        sub_span(&self.text, self.span, range)
    }
}

/// The place of a range of the bytes of `text`, which was read from `span`.
pub(crate) fn sub_span(text: &str, span: Span, range: Range<usize>) -> Span {
    if span.range().len() != text.len() || range.start > range.end {
        return span;
    }
    let position = |offset: usize| -> Option<Position> {
        let before = text.get(..offset)?;
        let lines = before.bytes().filter(|byte| *byte == b'\n').count();
        let last = before.rsplit('\n').next().unwrap_or_default();
        let characters = u32::try_from(last.chars().count()).ok()?;
        Some(Position {
            line: span.start.line + u32::try_from(lines).ok()?,
            column: match lines {
                0 => span.start.column + characters,
                _ => 1 + characters,
            },
            offset: span.start.offset + offset,
        })
    };
    match (position(range.start), position(range.end)) {
        (Some(start), Some(end)) => Span { start, end },
        _ => span,
    }
}

impl AsRef<str> for Word {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq<str> for Word {
    fn eq(&self, other: &str) -> bool {
        self.text == other
    }
}

impl PartialEq<&str> for Word {
    fn eq(&self, other: &&str) -> bool {
        self.text == *other
    }
}

impl Serialize for Word {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::LineIndex;

    #[test]
    fn finds_its_parts() {
        let text = "ab\nxé y\nz";
        let index = LineIndex::new(text.as_bytes());
        let word = Word {
            text: "xé y".to_owned(),
            span: index.span(3..8),
        };
        assert_eq!(word.sub_span(3..5), index.span(6..8));
        assert_eq!(word.sub_span(2..3), word.span, "not a character's edge");
        let heredoc = Word {
            text: "xé y\nz".to_owned(),
            span: index.span(3..10),
        };
        assert_eq!(heredoc.sub_span(6..7), index.span(9..10));
        let joined = Word {
            text: "xy".to_owned(),
            span: index.span(3..8),
        };
        assert_eq!(joined.sub_span(0..1), joined.span, "not in one piece");
    }
}
