//! Here-documents: bodies that stand in the lines behind an instruction.

use std::borrow::Cow;

use serde::Serialize;

use crate::expand::{Expander, Mode};
use crate::{Span, Word};

/// A here-document of `RUN`, `COPY` or `ADD`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Heredoc {
    /// The delimiter without quotes: the last line, and the file's name in `COPY` and `ADD`.
    pub name: String,
    /// The lines up to the last one, as they stand, each with its line break.
    pub body: String,
    /// Whether variables in the body are expanded: no quote was in the delimiter.
    pub expand: bool,
    /// `<<-`: tabs at the beginning of lines are dropped. See [`Heredoc::content`].
    pub strip_tabs: bool,
    /// The number before `<<`; 0 if there is none.
    pub descriptor: u32,
    /// The word in the instruction's line: `<<EOF`.
    #[serde(skip)]
    pub token: Word,
    /// Where the body stands.
    #[serde(skip)]
    pub body_span: Span,
}

impl Heredoc {
    /// The body as it is meant: without leading tabs where `<<-` says so.
    #[must_use]
    pub fn content(&self) -> Cow<'_, str> {
        if !self.strip_tabs {
            return Cow::Borrowed(&self.body);
        }
        self.body
            .split_inclusive('\n')
            .map(|line| line.trim_start_matches('\t'))
            .collect::<String>()
            .into()
    }

    /// True if the body begins with `#!`: a script for an interpreter of its own.
    #[must_use]
    pub fn has_shebang(&self) -> bool {
        self.body.starts_with("#!")
    }

    /// True for the line that ends the body.
    pub(crate) fn ends_at(&self, line: &[u8]) -> bool {
        let mut line = line;
        while let ([b'\t', rest @ ..], true) = (line, self.strip_tabs) {
            line = rest;
        }
        line == self.name.as_bytes()
    }
}

/// A delimiter that cannot be read: its quotes do not match.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadDelimiter;

/// Reads a word such as `<<EOF`, `3<<-'END'`. `None` if it is no heredoc.
pub(crate) fn recognise(word: &str) -> Result<Option<Heredoc>, BadDelimiter> {
    let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let Some(rest) = word[digits..].strip_prefix("<<") else {
        return Ok(None);
    };
    let (rest, strip_tabs) = match rest.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let delimiter = rest.trim_start_matches(|c: char| c.is_ascii_whitespace());
    if delimiter.is_empty() || delimiter.contains('<') {
        return Ok(None);
    }
    let split = |mode| Expander::new('\\').split_unset(delimiter, mode);
    let words = split(Mode::default()).ok_or(BadDelimiter)?;
    let [name] = words.as_slice() else {
        return Ok(None);
    };
    let raw = split(Mode {
        raw_quotes: true,
        ..Mode::default()
    })
    .ok_or(BadDelimiter)?;
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    let raw = raw.first().map_or("", String::as_str);
    Ok(Some(Heredoc {
        name: name.clone(),
        body: String::new(),
        expand: quotes(name) == quotes(raw),
        strip_tabs,
        descriptor: word[..digits].parse().unwrap_or_default(),
        token: Word::default(),
        body_span: Span::default(),
    }))
}

/// The heredocs that a line opens, in order. A line whose quotes do not match opens none.
pub(crate) fn opened_by(line: &str) -> Result<Vec<Heredoc>, (BadDelimiter, String)> {
    if !line.contains("<<") {
        return Ok(Vec::new());
    }
    let mode = Mode {
        raw_quotes: true,
        raw_escapes: true,
        ..Mode::default()
    };
    let mut heredocs = Vec::new();
    for word in Expander::new('\\')
        .split_unset(line, mode)
        .unwrap_or_default()
    {
        match recognise(&word) {
            Ok(Some(mut heredoc)) => {
                heredoc.token.text = word;
                heredocs.push(heredoc);
            }
            Ok(None) => {}
            Err(error) => return Err((error, word)),
        }
    }
    Ok(heredocs)
}
