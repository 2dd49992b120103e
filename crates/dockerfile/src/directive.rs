//! Parser directives: comments at the very top that say how the rest is read.
//!
//! Follows BuildKit's `frontend/dockerfile/parser/directives.go` and `linter`.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::error::{ErrorKind, ParseError};
use crate::json;
use crate::lines::{Reader, comment, utf8};
use crate::position::{BYTE_ORDER_MARK, LineIndex};
use crate::word::sub_span;
use crate::{Span, Word};

/// The directives of a Dockerfile.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Directives {
    /// `# syntax=`: the frontend image that BuildKit would run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub syntax: Option<Word>,
    /// `# escape=`: a backslash or a backtick.
    pub escape: char,
    /// `# check=`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckOptions>,
}

impl Default for Directives {
    fn default() -> Self {
        Self {
            syntax: None,
            escape: '\\',
            check: None,
        }
    }
}

/// What `# check=` says of lint rules.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct CheckOptions {
    /// The rules that are not checked.
    pub skip: BTreeSet<String>,
    /// No rule is checked.
    pub skip_all: bool,
    /// A violation fails the build.
    pub error: bool,
    /// The experimental rules that are checked.
    pub experimental: BTreeSet<String>,
    /// All experimental rules are checked.
    pub experimental_all: bool,
}

impl CheckOptions {
    /// Reads `skip=A,B;error=true`: the value of the directive or of `BUILDKIT_DOCKERFILE_CHECK`.
    ///
    /// # Errors
    /// The option that is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut options = Self::default();
        for option in text.split(';').map(str::trim).filter(|o| !o.is_empty()) {
            let wrong = || option.to_owned();
            let (name, value) = option.split_once('=').ok_or_else(wrong)?;
            let value = value.trim();
            let rules = || {
                let rules = value.split(',').map(|rule| rule.trim().to_owned());
                rules.filter(|rule| !rule.is_empty()).collect()
            };
            match (name.trim(), value) {
                ("skip", "all") => options.skip_all = true,
                ("skip", _) => options.skip = rules(),
                ("experimental", "all") => options.experimental_all = true,
                ("experimental", _) => options.experimental = rules(),
                ("error", _) => options.error = go_bool(value).ok_or_else(wrong)?,
                _ => return Err(wrong()),
            }
        }
        Ok(options)
    }

    /// Whether a rule is not to be checked.
    #[must_use]
    pub fn skips(&self, rule: &str) -> bool {
        self.skip_all || self.skip.contains(rule)
    }

    /// Whether an experimental rule is to be checked.
    #[must_use]
    pub fn enables(&self, rule: &str) -> bool {
        self.experimental_all || self.experimental.contains(rule)
    }
}

/// What Go's `strconv.ParseBool` accepts.
pub(crate) fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// A line `name = value` of a comment whose prefix is taken off: the name in lower case, and the
/// value.
fn name_and_value(text: &str) -> Option<(String, &str)> {
    let (name, value) = text.trim_start().split_once('=')?;
    let name = name.trim_end_matches(|c: char| c.is_ascii_whitespace());
    let value = value.trim_matches(|c: char| c.is_ascii_whitespace());
    let named = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric());
    (named && !value.is_empty()).then(|| (name.to_ascii_lowercase(), value))
}

/// `value`, which is the end of `line` but for white space, with its place.
fn word_at_end(line: &str, value: &str, span: Span) -> Word {
    let end = line
        .trim_end_matches(|c: char| c.is_ascii_whitespace())
        .len();
    Word {
        text: value.to_owned(),
        span: sub_span(line, span, end.saturating_sub(value.len())..end),
    }
}

/// Reads the directives line by line until one is no directive.
#[derive(Debug, Default)]
pub(crate) struct DirectiveReader {
    pub(crate) directives: Directives,
    seen: BTreeSet<String>,
    done: bool,
}

impl DirectiveReader {
    /// Takes the next line of the file; says whether it was a directive. `start` is where `line`
    /// begins in the file.
    pub(crate) fn line(
        &mut self,
        line: &[u8],
        start: usize,
        index: &LineIndex<'_>,
    ) -> Result<bool, ParseError> {
        if self.done {
            return Ok(false);
        }
        let span = index.span(start..start + line.len());
        let found = comment(line)
            .and_then(|text| std::str::from_utf8(text).ok())
            .and_then(name_and_value)
            .filter(|(name, _)| matches!(name.as_str(), "syntax" | "escape" | "check"));
        let Some((name, value)) = found else {
            self.done = true;
            return Ok(false);
        };
        let text = utf8(line, start, index)?;
        let value = word_at_end(text, value, span);
        if !self.seen.insert(name.clone()) {
            return Err(ParseError::new(
                ErrorKind::DuplicateDirective { name },
                span,
            ));
        }
        self.set(&name, value)?;
        Ok(true)
    }

    fn set(&mut self, name: &str, value: Word) -> Result<(), ParseError> {
        match name {
            "syntax" => self.directives.syntax = Some(value),
            "escape" => match value.text.as_str() {
                "\\" => self.directives.escape = '\\',
                "`" => self.directives.escape = '`',
                _ => {
                    let kind = ErrorKind::EscapeToken { value: value.text };
                    return Err(
                        ParseError::new(kind, value.span).expecting("a backslash or a backtick")
                    );
                }
            },
            _ => {
                let options = CheckOptions::parse(&value.text).map_err(|option| {
                    ParseError::new(ErrorKind::CheckOption { option }, value.span).expecting(
                        "`skip=RULE,…`, `skip=all`, `error=true` or `experimental=RULE,…`",
                    )
                })?;
                self.directives.check = Some(options);
            }
        }
        Ok(())
    }
}

/// The frontend image that a file asks for, in any of the forms that BuildKit looks for: a
/// `#syntax=` directive (also behind a first line `#!…`), a `//syntax=` line, or a JSON object
/// with a string `syntax`. The word is the whole value; the image is its first part.
#[must_use]
pub fn detect_syntax(text: &[u8]) -> Option<Word> {
    let index = LineIndex::new(text);
    ["#", "//"]
        .into_iter()
        .find_map(|prefix| syntax_line(text, prefix, &index))
        .or_else(|| syntax_member(text, &index))
}

fn syntax_line(text: &[u8], prefix: &str, index: &LineIndex<'_>) -> Option<Word> {
    let mut reader = Reader::new(text);
    let mut first = true;
    while let Ok(Some(line)) = reader.next(index) {
        let content = line.content();
        if std::mem::take(&mut first) && content.starts_with(b"#!") {
            continue;
        }
        let whole = std::str::from_utf8(content).ok()?;
        let (name, value) = name_and_value(whole.strip_prefix(prefix)?)?;
        match name.as_str() {
            "syntax" => {
                return Some(word_at_end(whole, value, index.span(line.range())));
            }
            "escape" | "check" => {}
            _ => return None,
        }
    }
    None
}

/// The member `syntax` of a file that is one JSON object.
fn syntax_member(text: &[u8], index: &LineIndex<'_>) -> Option<Word> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let text = match text.strip_prefix(b"#!") {
        Some(rest) => rest.splitn(2, |byte| *byte == b'\n').nth(1)?,
        None => text,
    };
    let value = json::member(std::str::from_utf8(text).ok()?, "syntax")?;
    Some(Word {
        text: value,
        span: index.span(0..0),
    })
}
