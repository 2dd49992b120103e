//! What stands between the braces of `${…}`: a name and perhaps an operator.

use super::lexer::{Lexer, Stop};
use super::pattern::{Length, Pattern};
use super::{ExpandErrorKind, LexError};

impl Lexer<'_> {
    /// What stands behind `${`.
    pub(super) fn braces(&mut self, start: usize) -> Result<String, LexError> {
        if let Some('{' | '}' | ':') = self.peek() {
            self.next();
            return Err(self.error(ExpandErrorKind::BadSubstitution, start));
        }
        let name = self.name();
        match self.next() {
            None => Err(self.error(ExpandErrorKind::MissingBrace, start)),
            Some('}') => Ok(match self.value(name) {
                None if self.mode.keep_unset => format!("${{{name}}}"),
                value => value.unwrap_or_default().to_owned(),
            }),
            Some(':') => match self.next() {
                None => Err(self.error(ExpandErrorKind::MissingBrace, start)),
                Some(operator @ ('-' | '+' | '?')) => self.default(name, operator, true, start),
                Some(other) => Err(self.modifier(format!(":{other}"), start)),
            },
            Some(operator @ ('-' | '+' | '?')) => self.default(name, operator, false, start),
            Some(operator @ ('#' | '%')) => self.strip(name, operator, start),
            Some('/') => self.replace(name, start),
            Some(other) => Err(self.modifier(other.to_string(), start)),
        }
    }

    fn modifier(&self, modifier: String, start: usize) -> LexError {
        self.error(ExpandErrorKind::Modifier { modifier }, start)
    }

    /// `${x-word}`, `${x+word}`, `${x?word}`, and with `:` before the operator, where an empty
    /// value counts as none.
    fn default(
        &mut self,
        name: &str,
        operator: char,
        or_empty: bool,
        start: usize,
    ) -> Result<String, LexError> {
        let (word, _) = self.until(Stop::At('}'), false)?;
        let value = self.value(name);
        if value.is_none() && self.mode.keep_unset {
            let colon = if or_empty { ":" } else { "" };
            return Ok(format!("${{{name}{colon}{operator}{word}}}"));
        }
        let present = value.filter(|value| !(or_empty && value.is_empty()));
        match (operator, present) {
            ('+', Some(_)) => Ok(word),
            ('+', None) => Ok(String::new()),
            (_, Some(value)) => Ok(value.to_owned()),
            ('-', None) => Ok(word),
            (_, None) => {
                let why = match value {
                    Some(_) => "is not allowed to be empty",
                    None => "is not allowed to be unset",
                };
                let message = if word.is_empty() {
                    why.to_owned()
                } else {
                    word
                };
                let name = name.to_owned();
                Err(self.error(ExpandErrorKind::Required { name, message }, start))
            }
        }
    }

    /// `${x#pattern}`, `${x##pattern}`, `${x%pattern}`, `${x%%pattern}`.
    fn strip(&mut self, name: &str, operator: char, start: usize) -> Result<String, LexError> {
        let (word, _) = self.until(Stop::At('}'), true)?;
        let Some(value) = self.value_or_kept(name) else {
            return Ok(format!("${{{name}{operator}{word}}}"));
        };
        let (text, length) = match word.strip_prefix(operator) {
            Some(rest) => (rest, Length::Longest),
            None => (word.as_str(), Length::Shortest),
        };
        let pattern = self.pattern(text, start)?;
        let stripped = match operator {
            '#' => pattern.strip_prefix(value, length, &mut self.steps),
            _ => pattern.strip_suffix(value, length, &mut self.steps),
        };
        stripped.map_err(|_| self.error(ExpandErrorKind::TooExpensive, start))
    }

    /// `${x/pattern/replacement}`, `${x//pattern/replacement}`.
    fn replace(&mut self, name: &str, start: usize) -> Result<String, LexError> {
        let all = self.peek() == Some('/');
        if all {
            self.next();
        }
        let (text, _) = self.until(Stop::At('/'), true)?;
        let (replacement, _) = self.until(Stop::At('}'), true)?;
        let Some(value) = self.value_or_kept(name) else {
            return Ok(format!("${{{name}/{text}/{replacement}}}"));
        };
        let pattern = self.pattern(&text, start)?;
        let replaced = pattern.replace(value, &replacement, all, &mut self.steps);
        replaced.map_err(|_| self.error(ExpandErrorKind::TooExpensive, start))
    }

    fn pattern(&self, text: &str, start: usize) -> Result<Pattern, LexError> {
        Pattern::parse(text).map_err(|_| {
            let pattern = text.to_owned();
            self.error(ExpandErrorKind::Pattern { pattern }, start)
        })
    }
}
