//! `ENV`, `LABEL` and `ARG`: names and values.

use std::ops::Range;

use super::scope::Scope;
use crate::error::{ErrorKind, ParseError};
use crate::flags::Flags;
use crate::split::{first_word, quoted};
use crate::{Argument, Arguments, Assignment, Assignments, Word};

impl Scope<'_> {
    pub(super) fn assignments(
        &self,
        instruction: &'static str,
        flags: Flags,
        rest: Range<usize>,
    ) -> Result<Assignments, ParseError> {
        flags.finish()?;
        let words = quoted(&self.line, rest.clone(), self.escape);
        let Some(first) = words.first() else {
            self.some(instruction, &(rest.start..rest.start), "NAME=VALUE")?;
            return Ok(Assignments {
                assignments: Vec::new(),
                legacy: false,
            });
        };
        if !first.text.contains('=') {
            return self.legacy(instruction, rest);
        }
        let assignments = words.into_iter().map(|word| {
            let span = word.span;
            split_pair(&word).ok_or_else(|| {
                let word = word.text.chars().take(100).collect();
                ParseError::new(ErrorKind::NoEqualsSign { word }, span).expecting("NAME=VALUE")
            })
        });
        let assignments = assignments.collect::<Result<Vec<_>, _>>()?;
        let blank = assignments.iter().find(|pair| pair.name.text.is_empty());
        if let Some(pair) = blank {
            let span = pair.name.span.to(pair.value.span);
            return Err(ParseError::new(ErrorKind::BlankName { instruction }, span));
        }
        Ok(Assignments {
            assignments,
            legacy: false,
        })
    }

    /// `NAME value of any length`.
    fn legacy(
        &self,
        instruction: &'static str,
        rest: Range<usize>,
    ) -> Result<Assignments, ParseError> {
        let (name, value) = first_word(&self.line, rest);
        if value.is_empty() {
            let kind = ErrorKind::NoValue { instruction };
            return Err(self.line.error(kind, name).expecting("NAME=VALUE"));
        }
        Ok(Assignments {
            assignments: vec![Assignment {
                name: self.line.word(name),
                value: self.line.word(value),
            }],
            legacy: true,
        })
    }

    pub(super) fn arg(&self, flags: Flags, rest: Range<usize>) -> Result<Arguments, ParseError> {
        flags.finish()?;
        let words = quoted(&self.line, rest.clone(), self.escape);
        if words.is_empty() {
            self.some("ARG", &(rest.start..rest.start), "NAME or NAME=DEFAULT")?;
        }
        let mut arguments = Vec::new();
        for word in words {
            let argument = match split_pair(&word) {
                None => Argument {
                    description: self.description(&word.text),
                    name: word,
                    value: None,
                },
                Some(pair) if pair.name.text.is_empty() => {
                    let kind = ErrorKind::BlankName { instruction: "ARG" };
                    return Err(ParseError::new(kind, word.span));
                }
                Some(pair) => Argument {
                    description: self.description(&pair.name.text),
                    name: pair.name,
                    value: Some(pair.value),
                },
            };
            arguments.push(argument);
        }
        Ok(Arguments { arguments })
    }
}

/// The word split at its first `=`.
fn split_pair(word: &Word) -> Option<Assignment> {
    let (name, value) = word.text.split_once('=')?;
    Some(Assignment {
        name: Word {
            text: name.to_owned(),
            span: word.sub_span(0..name.len()),
        },
        value: Word {
            text: value.to_owned(),
            span: word.sub_span(name.len() + 1..word.text.len()),
        },
    })
}
