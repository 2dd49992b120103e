//! A `--mount` as it is written: keys, and values that may hold variables.

use std::ops::Range;

use serde::{Serialize, Serializer};

use super::resolve::Parts;
use super::{Mount, MountError, MountErrorKind, csv_fields};
use crate::expand::{Environment, Expander};
use crate::parse::names_variable;
use crate::suggest::nearest;
use crate::{Span, Word};

/// A `--mount` as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountFlag {
    /// The flag's value.
    pub word: Word,
    fields: Vec<Field>,
}

/// `key` or `key=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) key: Key,
    pub(super) value: Option<String>,
    /// Where it stands in the word.
    range: Range<usize>,
}

/// A key, with its other names folded into one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Type,
    From,
    Source,
    Target,
    ReadOnly,
    ReadWrite,
    Required,
    Size,
    Id,
    Sharing,
    Mode,
    Uid,
    Gid,
    Env,
}

const KEYS: [(&str, Key); 19] = [
    ("type", Key::Type),
    ("from", Key::From),
    ("source", Key::Source),
    ("target", Key::Target),
    ("readonly", Key::ReadOnly),
    ("readwrite", Key::ReadWrite),
    ("required", Key::Required),
    ("size", Key::Size),
    ("id", Key::Id),
    ("sharing", Key::Sharing),
    ("mode", Key::Mode),
    ("uid", Key::Uid),
    ("gid", Key::Gid),
    ("env", Key::Env),
    ("src", Key::Source),
    ("dst", Key::Target),
    ("destination", Key::Target),
    ("ro", Key::ReadOnly),
    ("rw", Key::ReadWrite),
];

impl Key {
    pub(super) fn name(self) -> &'static str {
        KEYS.iter()
            .find(|(_, key)| *key == self)
            .map_or("", |(name, _)| name)
    }
}

impl MountFlag {
    /// Reads a flag's value, and checks it as far as it has no variables.
    pub(crate) fn parse(word: Word, escape: char) -> Result<Self, MountError> {
        let fields = match csv_fields(&word.text) {
            Some(fields) => fields,
            None => {
                return Err(MountError {
                    kind: MountErrorKind::Csv,
                    span: word.span,
                });
            }
        };
        let fields = fields.into_iter().map(|(text, range)| {
            field(&text, range.clone()).map_err(|kind| MountError {
                kind,
                span: word.sub_span(range),
            })
        });
        let flag = Self {
            fields: fields.collect::<Result<_, _>>()?,
            word,
        };
        let mut values = flag
            .fields
            .iter()
            .filter_map(|field| field.value.as_deref());
        if !values.any(names_variable) {
            flag.resolve(&Expander::new(escape), &())?;
        }
        Ok(flag)
    }

    /// The mount, its variables expanded.
    ///
    /// # Errors
    /// [`MountError`], with the place of the key that is wrong.
    pub fn resolve(
        &self,
        expander: &Expander,
        environment: &dyn Environment,
    ) -> Result<Mount, MountError> {
        let mut parts = Parts::default();
        for field in &self.fields {
            parts
                .set(field, expander, environment)
                .map_err(|kind| MountError {
                    kind,
                    span: self.word.sub_span(field.range.clone()),
                })?;
        }
        parts.mount().map_err(|kind| MountError {
            span: self.place_of(&kind),
            kind,
        })
    }

    /// What `from` says: a stage, a named context or an image. It never has variables, so that
    /// the graph of stages is known before anything is expanded.
    #[must_use]
    pub fn from(&self) -> Option<&str> {
        let from = self
            .fields
            .iter()
            .rev()
            .find(|field| field.key == Key::From);
        from?.value.as_deref().filter(|from| !from.is_empty())
    }

    fn place_of(&self, kind: &MountErrorKind) -> Span {
        let MountErrorKind::NotForType { key, .. } = kind else {
            return self.word.span;
        };
        let field = self.fields.iter().find(|field| field.key.name() == *key);
        field.map_or(self.word.span, |field| {
            self.word.sub_span(field.range.clone())
        })
    }
}

impl Serialize for MountFlag {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.word.serialize(serializer)
    }
}

fn field(text: &str, range: Range<usize>) -> Result<Field, MountErrorKind> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    let lower = name.to_lowercase();
    let known = KEYS.iter().find(|(known, _)| *known == lower);
    let Some((_, key)) = known else {
        let suggestion = nearest(name, KEYS.iter().map(|(known, _)| *known));
        let key = name.chars().take(100).collect();
        return Err(MountErrorKind::UnknownKey { key, suggestion });
    };
    let flag = matches!(key, Key::ReadOnly | Key::ReadWrite | Key::Required);
    if value.is_none() && !flag {
        return Err(MountErrorKind::NoValue { key: key.name() });
    }
    if *key == Key::From && value.is_some_and(names_variable) {
        return Err(MountErrorKind::VariableInFrom);
    }
    Ok(Field {
        key: *key,
        value: value.map(str::to_owned),
        range,
    })
}
