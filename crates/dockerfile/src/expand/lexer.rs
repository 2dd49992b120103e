//! The lexer behind [`super::Expander`]: one pass over the text, a recursion for what stands
//! inside `${…}`.

use std::collections::BTreeSet;

use super::pattern::MAX_STEPS;
use super::{Environment, ExpandErrorKind, Expansion, LexError, Mode};

/// How deep `${…}` may stand inside `${…}`.
pub(super) const MAX_DEPTH: usize = 64;

pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    escape: char,
    pub(super) mode: Mode,
    environment: &'a dyn Environment,
    limit: usize,
    depth: usize,
    /// Work done so far: steps of patterns, bytes of values.
    pub(super) steps: usize,
    used: BTreeSet<String>,
    unset: BTreeSet<String>,
}

/// What ended a piece of text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The end of the text.
    End,
    /// This character, outside quotes.
    At(char),
}

impl<'a> Lexer<'a> {
    pub(super) fn new(
        text: &'a str,
        escape: char,
        mode: Mode,
        environment: &'a dyn Environment,
        limit: usize,
    ) -> Self {
        Self {
            text,
            at: 0,
            escape,
            mode,
            environment,
            limit,
            depth: 0,
            steps: 0,
            used: BTreeSet::new(),
            unset: BTreeSet::new(),
        }
    }

    pub(super) fn run(mut self) -> Result<Expansion<(String, Vec<String>)>, LexError> {
        let value = self.until(Stop::End, self.mode.raw_escapes)?;
        Ok(Expansion {
            value,
            used: self.used,
            unset: self.unset,
        })
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    pub(super) fn next(&mut self) -> Option<char> {
        let character = self.peek()?;
        self.at += character.len_utf8();
        Some(character)
    }

    pub(super) fn error(&self, kind: ExpandErrorKind, start: usize) -> LexError {
        LexError {
            kind,
            range: start..self.at,
        }
    }

    /// Refuses a result that is too long, and too much work.
    fn check(&self, length: usize, start: usize) -> Result<(), LexError> {
        let limit = self.limit;
        if length > limit {
            return Err(self.error(ExpandErrorKind::TooLong { limit }, start));
        }
        if self.steps > MAX_STEPS.max(limit) {
            return Err(self.error(ExpandErrorKind::TooExpensive, start));
        }
        Ok(())
    }

    /// Reads up to `stop` and over it: the text, and the words that it is made of.
    pub(super) fn until(
        &mut self,
        stop: Stop,
        raw_escapes: bool,
    ) -> Result<(String, Vec<String>), LexError> {
        let outer = std::mem::replace(&mut self.mode.raw_escapes, raw_escapes);
        let result = self.until_inner(stop);
        self.mode.raw_escapes = outer;
        result
    }

    fn until_inner(&mut self, stop: Stop) -> Result<(String, Vec<String>), LexError> {
        let start = self.at;
        let mut text = String::new();
        let mut words = Words::default();
        while let Some(character) = self.peek() {
            if stop == Stop::At(character) {
                self.next();
                return Ok((text, words.finish()));
            }
            let from = self.at;
            match character {
                '$' => {
                    let value = self.dollar()?;
                    text.push_str(&value);
                    value.chars().for_each(|c| words.character(c));
                }
                '\'' | '"' if !self.mode.ignore_quotes => {
                    let value = if character == '"' {
                        self.double_quote()?
                    } else {
                        self.single_quote()?
                    };
                    text.push_str(&value);
                    words.raw(&value);
                }
                '<' if !self.mode.ignore_quotes => {
                    let value = self.angle();
                    text.push_str(&value);
                    words.raw(&value);
                }
                _ => self.plain(&mut text, &mut words),
            }
            self.check(text.len(), from)?;
        }
        match stop {
            Stop::End => Ok((text, words.finish())),
            Stop::At('/') => Err(self.error(ExpandErrorKind::MissingSlash, start)),
            Stop::At(_) => Err(self.error(ExpandErrorKind::MissingBrace, start)),
        }
    }

    /// A character without a meaning of its own, or an escaped one.
    fn plain(&mut self, text: &mut String, words: &mut Words) {
        let Some(mut character) = self.next() else {
            return;
        };
        if character == self.escape {
            if self.mode.raw_escapes {
                words.raw_character(character);
                text.push(character);
            }
            let Some(escaped) = self.next() else {
                return;
            };
            character = escaped;
            words.raw_character(character);
        } else {
            words.character(character);
        }
        text.push(character);
    }

    /// `<<` with the blanks behind it is part of one word, so that a heredoc's delimiter may
    /// stand apart.
    fn angle(&mut self) -> String {
        self.next();
        if self.peek() != Some('<') {
            return "<".to_owned();
        }
        self.next();
        let mut text = "<<".to_owned();
        while let Some(blank) = self.peek().filter(|c| c.is_whitespace()) {
            self.next();
            text.push(blank);
        }
        text
    }

    fn single_quote(&mut self) -> Result<String, LexError> {
        let start = self.at;
        self.next();
        let rest = &self.text[self.at..];
        let Some(length) = rest.find('\'') else {
            self.at = self.text.len();
            return Err(self.error(ExpandErrorKind::UnclosedQuote { quote: '\'' }, start));
        };
        self.at += length + 1;
        let inner = &rest[..length];
        Ok(match self.mode.raw_quotes {
            true => format!("'{inner}'"),
            false => inner.to_owned(),
        })
    }

    fn double_quote(&mut self) -> Result<String, LexError> {
        let start = self.at;
        let mut text = String::new();
        text.extend(self.next().filter(|_| self.mode.raw_quotes));
        while let Some(character) = self.peek() {
            if character == '$' {
                text.push_str(&self.dollar()?);
                self.check(text.len(), start)?;
                continue;
            }
            self.next();
            if character == '"' {
                text.extend(Some('"').filter(|_| self.mode.raw_quotes));
                return Ok(text);
            }
            if character != self.escape {
                text.push(character);
                continue;
            }
            text.extend(Some(character).filter(|_| self.mode.raw_escapes));
            match self.peek() {
                None => {}
                Some(escaped) if escaped == '"' || escaped == '$' || escaped == self.escape => {
                    self.next();
                    text.push(escaped);
                }
                Some(_) => text.push(character),
            }
        }
        Err(self.error(ExpandErrorKind::UnclosedQuote { quote: '"' }, start))
    }

    fn dollar(&mut self) -> Result<String, LexError> {
        let start = self.at;
        self.next();
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            return Ok(match self.value(name) {
                None if self.mode.keep_unset => format!("${name}"),
                value => value.unwrap_or_default().to_owned(),
            });
        }
        self.next();
        if self.depth >= MAX_DEPTH {
            return Err(self.error(ExpandErrorKind::TooDeep, start));
        }
        self.depth += 1;
        let result = self.braces(start);
        self.depth -= 1;
        // The mark goes from the dollar sign on, whatever part of it was wrong.
        result.map_err(|error| match error.kind {
            ExpandErrorKind::MissingBrace | ExpandErrorKind::MissingSlash => LexError {
                range: start..error.range.end,
                ..error
            },
            _ => error,
        })
    }

    /// A value, empty for an unset variable; `None` if what names it is to be kept.
    pub(super) fn value_or_kept(&mut self, name: &str) -> Option<&'a str> {
        match self.value(name) {
            None if self.mode.keep_unset => None,
            value => Some(value.unwrap_or_default()),
        }
    }

    pub(super) fn value(&mut self, name: &str) -> Option<&'a str> {
        let value = self.environment.get(name);
        self.steps += value.map_or(0, str::len);
        let set = if value.is_some() {
            &mut self.used
        } else {
            &mut self.unset
        };
        if !set.contains(name) {
            set.insert(name.to_owned());
        }
        value
    }

    /// A variable's name: letters, digits and `_`; or digits only; or one special character.
    pub(super) fn name(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        let is_digit = |c: char| c.is_ascii_digit();
        let length = match rest.chars().next() {
            Some(first) if is_digit(first) => rest.find(|c| !is_digit(c)),
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => Some(1),
            _ => rest.find(|c: char| !(c.is_alphanumeric() || c == '_')),
        };
        let length = length.unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }
}

/// Collects the words of a text: split at white space, except what came out of quotes or was
/// escaped.
#[derive(Default)]
struct Words {
    words: Vec<String>,
    word: String,
}

impl Words {
    fn character(&mut self, character: char) {
        if !character.is_whitespace() {
            self.word.push(character);
        } else if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
    }

    fn raw_character(&mut self, character: char) {
        self.word.push(character);
    }

    fn raw(&mut self, text: &str) {
        self.word.push_str(text);
    }

    fn finish(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        self.words
    }
}
