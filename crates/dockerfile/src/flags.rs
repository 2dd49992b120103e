//! `--name=value` between an instruction's word and its arguments.
//!
//! Follows `extractBuilderFlags` and `BFlags` of BuildKit: quotes are removed, a backslash takes
//! the next character as it is whatever the escape directive says, and `--` alone ends the flags.

use std::ops::Range;

use crate::error::{ErrorKind, ParseError};
use crate::lines::Line;
use crate::suggest::nearest;
use crate::{Span, Word};

/// A flag as written.
#[derive(Debug)]
struct RawFlag {
    /// The word without quotes, with its dashes.
    text: String,
    range: Range<usize>,
}

/// The words at the beginning of `range` that begin with two dashes, and where the rest begins.
fn scan(line: &Line<'_>, range: Range<usize>) -> (Vec<RawFlag>, usize) {
    let text = line.get(range.clone());
    let mut flags = Vec::new();
    let mut at = 0;
    loop {
        let rest = &text[at..];
        at += rest.len() - rest.trim_start().len();
        if !text[at..].starts_with("--") {
            return (flags, range.start + at);
        }
        let (word, length) = unquote(&text[at..]);
        let start = range.start + at;
        at += length;
        if word == "--" {
            return (flags, range.start + at);
        }
        flags.push(RawFlag {
            text: word,
            range: start..start + length,
        });
    }
}

/// The first word of `text` without its quotes, and its length with them.
fn unquote(text: &str) -> (String, usize) {
    let mut word = String::new();
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => {
                if let Some((_, escaped)) = characters.next() {
                    word.push(escaped);
                }
            }
            _ if quote == Some(character) => quote = None,
            _ if quote.is_some() => word.push(character),
            '\'' | '"' => quote = Some(character),
            _ if character.is_whitespace() => return (word, at),
            _ => word.push(character),
        }
    }
    (word, text.len())
}

/// The flags of one instruction, on their way to the fields that they fill. Each `take_…` names a
/// flag that the instruction has; [`Flags::finish`] refuses what is left.
#[derive(Debug)]
pub(crate) struct Flags {
    instruction: &'static str,
    left: Vec<(Word, Option<Word>)>,
    used: Vec<Word>,
    known: Vec<&'static str>,
}

impl Flags {
    /// Takes the flags off the beginning of `range`; what follows them, trimmed, comes second.
    pub(crate) fn scan(
        line: &Line<'_>,
        range: Range<usize>,
        instruction: &'static str,
    ) -> (Self, Range<usize>) {
        let (raw, rest) = scan(line, range.clone());
        let left = raw.into_iter().map(|flag| split(line, flag)).collect();
        let flags = Self {
            instruction,
            left,
            used: Vec::new(),
            known: Vec::new(),
        };
        (flags, line.trim(rest..range.end))
    }

    /// All values of a flag that may stand several times.
    pub(crate) fn take_list(&mut self, name: &'static str) -> Result<Vec<Word>, ParseError> {
        let mut values = Vec::new();
        for (flag, value) in self.take(name) {
            match value {
                Some(value) => values.push(value),
                None => return Err(missing(name, flag.span)),
            }
        }
        Ok(values)
    }

    /// The value of a flag that stands once; an empty one counts as none, as in BuildKit.
    pub(crate) fn take_value(&mut self, name: &'static str) -> Result<Option<Word>, ParseError> {
        match self.take_one(name)? {
            None => Ok(None),
            Some((flag, None)) => Err(missing(name, flag.span)),
            Some((_, Some(value))) => Ok((!value.text.is_empty()).then_some(value)),
        }
    }

    /// The value of a flag that is on or off.
    pub(crate) fn take_bool(&mut self, name: &'static str) -> Result<Option<bool>, ParseError> {
        let Some((flag, value)) = self.take_one(name)? else {
            return Ok(None);
        };
        let Some(value) = value else {
            return Ok(Some(true));
        };
        match value.text.to_lowercase().as_str() {
            "true" => Ok(Some(true)),
            "false" => Ok(Some(false)),
            "" => Err(missing(name, flag.span)),
            _ => Err(ParseError::new(
                ErrorKind::NotBoolean {
                    flag: name,
                    value: value.text,
                },
                value.span,
            )
            .expecting("`true` or `false`")),
        }
    }

    /// Fails if a flag was not taken; else the names of those that were, in the order of taking.
    pub(crate) fn finish(self) -> Result<Vec<Word>, ParseError> {
        let Some((flag, _)) = self.left.into_iter().next() else {
            let mut used = self.used;
            used.sort_by_key(|flag| flag.span.start.offset);
            return Ok(used);
        };
        let suggestion = nearest(&flag.text, self.known.iter().copied());
        let expected = match self.known.as_slice() {
            [] => format!("{} has no flags", self.instruction),
            known => format!("one of --{}", known.join(", --")),
        };
        let kind = ErrorKind::UnknownFlag {
            instruction: self.instruction,
            flag: flag.text,
            suggestion,
        };
        Err(ParseError::new(kind, flag.span).expecting(expected))
    }

    fn take_one(&mut self, name: &'static str) -> Result<Option<(Word, Option<Word>)>, ParseError> {
        let mut found = self.take(name).into_iter();
        let first = found.next();
        match found.next() {
            Some((again, _)) => Err(ParseError::new(
                ErrorKind::DuplicateFlag { flag: name },
                again.span,
            )),
            None => Ok(first),
        }
    }

    fn take(&mut self, name: &'static str) -> Vec<(Word, Option<Word>)> {
        self.known.push(name);
        let (found, left) = std::mem::take(&mut self.left)
            .into_iter()
            .partition(|(flag, _)| flag.text == name);
        self.left = left;
        let found: Vec<_> = found;
        self.used.extend(found.iter().map(|(flag, _)| flag.clone()));
        found
    }
}

fn missing(flag: &'static str, span: Span) -> ParseError {
    ParseError::new(ErrorKind::MissingFlagValue { flag }, span).expecting(format!("--{flag}=VALUE"))
}

/// The flag's name and its value, each with its place.
fn split(line: &Line<'_>, flag: RawFlag) -> (Word, Option<Word>) {
    let (name, value) = match flag.text[2..].split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (flag.text[2..].to_owned(), None),
    };
    let written = line.get(flag.range.clone());
    let equals = written.find('=').unwrap_or(written.len());
    let Range { start, end } = flag.range;
    let value = value.map(|text| Word {
        span: line.span(value_range(written, equals, &text, start)),
        text,
    });
    let name_end = if value.is_some() { start + equals } else { end };
    let name = Word {
        text: name,
        span: line.span(start..name_end),
    };
    (name, value)
}

/// Where the value stands: without the quotes around it, if it has only those.
fn value_range(written: &str, equals: usize, value: &str, start: usize) -> Range<usize> {
    let range = equals + 1..written.len();
    let inner = equals + 2..written.len().saturating_sub(1);
    let quoted = written.get(inner.clone()) == Some(value) && written.len() >= equals + 3;
    let range = if quoted { inner } else { range };
    start + range.start..start + range.end.max(range.start)
}
