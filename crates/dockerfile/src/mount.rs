//! `RUN --mount`: comma-separated keys and values, resolved to a typed mount.
//!
//! Keys are checked when the Dockerfile is parsed; values may hold variables, so most of them are
//! checked when they are known. A mount without variables is checked at once.

use std::ops::Range;

use serde::{Serialize, Serializer};

use crate::directive::go_bool;
use crate::expand::{Environment, Expander};
use crate::parse::names_variable;
use crate::suggest::nearest;
use crate::{ExpandErrorKind, Span, Word};

/// A `--mount` as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountFlag {
    /// The flag's value.
    pub word: Word,
    fields: Vec<Field>,
}

/// `key` or `key=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Field {
    key: Key,
    value: Option<String>,
    /// Where it stands in the word.
    range: Range<usize>,
}

/// A mount of a `RUN`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Mount {
    /// Files of the build context, a stage or an image.
    Bind(BindMount),
    /// A directory that is kept from build to build.
    Cache(CacheMount),
    /// An empty file system in memory.
    Tmpfs(TmpfsMount),
    /// A file or variable that never becomes part of the image.
    Secret(SecretMount),
    /// The socket of an SSH agent.
    Ssh(SshMount),
}

/// `type=bind`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BindMount {
    /// A stage, a named context or an image; `None` is the build context.
    pub from: Option<String>,
    /// The path in it; `None` is its root.
    pub source: Option<String>,
    /// Where it is mounted, relative to the working directory; `None` is that directory.
    pub target: Option<String>,
    /// Without this, what is written is dropped after the step.
    pub read_only: bool,
}

/// `type=cache`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CacheMount {
    /// What it is known by; `None` is the cleaned target.
    pub id: Option<String>,
    /// Where its first content comes from: a stage, a named context or an image.
    pub from: Option<String>,
    /// The path in that.
    pub source: Option<String>,
    /// Where it is mounted, relative to the working directory; `None` is that directory.
    pub target: Option<String>,
    /// Nothing can be written.
    pub read_only: bool,
    /// What happens when two steps want it at once.
    pub sharing: Sharing,
    /// Mode and owner when it is newly made; the default mode is 0755.
    pub access: Access,
}

/// `type=tmpfs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TmpfsMount {
    /// Where it is mounted, relative to the working directory; `None` is that directory.
    pub target: Option<String>,
    /// The most bytes that it holds.
    pub size: Option<u64>,
    /// Nothing can be written.
    pub read_only: bool,
}

/// `type=secret`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SecretMount {
    /// What it is known by, not empty.
    pub id: String,
    /// The file that holds it; `None` if it is only a variable.
    pub target: Option<String>,
    /// The variable that holds it.
    pub env: Option<String>,
    /// Whether the step fails where the secret is missing.
    pub required: bool,
    /// Mode and owner of the file; the default mode is 0400.
    pub access: Access,
}

/// `type=ssh`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SshMount {
    /// Which agent, `default` unless named.
    pub id: String,
    /// Where the socket is; `None` leaves the place to the builder.
    pub target: Option<String>,
    /// Whether the step fails where there is no agent.
    pub required: bool,
    /// Mode and owner of the socket; the default mode is 0600.
    pub access: Access,
}

/// Mode and owner of what a mount makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Access {
    /// Permission bits.
    pub mode: Option<u32>,
    /// The owner.
    pub uid: Option<u32>,
    /// The group.
    pub gid: Option<u32>,
}

/// What happens when two steps want one cache at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    /// They share it.
    #[default]
    Shared,
    /// The second gets a new one.
    Private,
    /// The second waits.
    Locked,
}

/// A `--mount` that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct MountError {
    /// What is wrong.
    pub kind: MountErrorKind,
    /// Where.
    pub span: Span,
}

/// What is wrong with a `--mount`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MountErrorKind {
    /// Quotes that do not match.
    #[error("quotes in a comma-separated list do not match")]
    Csv,
    /// A key that does not exist.
    #[error("unexpected key `{key}`{}", .suggestion.map_or_else(String::new, |s| format!("; did you mean `{s}`?")))]
    UnknownKey {
        /// The key.
        key: String,
        /// The key that it looks like.
        suggestion: Option<&'static str>,
    },
    /// A key that needs a value, without one.
    #[error("key `{key}` must have a value")]
    NoValue {
        /// The key.
        key: &'static str,
    },
    /// A value that the key cannot have.
    #[error("invalid value `{value}` of key `{key}`")]
    Value {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
    },
    /// A key that this type of mount does not have.
    #[error("key `{key}` does not go with a mount of type `{kind}`")]
    NotForType {
        /// The key.
        key: &'static str,
        /// The type.
        kind: &'static str,
    },
    /// A secret without anything that names it.
    #[error("a secret needs one of id, source and target")]
    SecretWithoutId,
    /// A secret with two names.
    #[error("both source and id can't be set")]
    SecretWithTwoIds,
    /// A variable in `from`.
    #[error("`from` doesn't support variable expansion, define an alias stage instead")]
    VariableInFrom,
    /// A value that cannot be expanded.
    #[error("{0}")]
    Expand(ExpandErrorKind),
}

/// A key, with its other names folded into one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
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
    fn name(self) -> &'static str {
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
            let span = word.sub_span(range.clone());
            field(&text, range).map_err(|kind| MountError { kind, span })
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Type {
    #[default]
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

impl Type {
    const ALL: [(&'static str, Self); 5] = [
        ("bind", Self::Bind),
        ("cache", Self::Cache),
        ("tmpfs", Self::Tmpfs),
        ("secret", Self::Secret),
        ("ssh", Self::Ssh),
    ];

    fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, kind)| *kind == self)
            .map_or("", |(name, _)| name)
    }
}

/// The keys of a mount, collected.
#[derive(Debug, Default)]
struct Parts {
    kind: Type,
    from: Option<String>,
    source: Option<String>,
    target: Option<String>,
    id: Option<String>,
    env: Option<String>,
    read_only: Option<bool>,
    required: bool,
    size: Option<u64>,
    sharing: Option<Sharing>,
    access: Access,
}

impl Parts {
    fn set(
        &mut self,
        field: &Field,
        expander: &Expander,
        environment: &dyn Environment,
    ) -> Result<(), MountErrorKind> {
        let key = field.key;
        // `required` and `size` are refused at once where the type, which has to come first,
        // does not have them.
        match (key, self.kind) {
            (Key::Required, Type::Secret | Type::Ssh) | (Key::Size, Type::Tmpfs) => {}
            (Key::Required | Key::Size, _) => return Err(self.not_for_type(key)),
            _ => {}
        }
        let Some(value) = &field.value else {
            match key {
                Key::ReadOnly => self.read_only = Some(true),
                Key::ReadWrite => self.read_only = Some(false),
                _ => self.required = true,
            }
            return Ok(());
        };
        let value = match key {
            Key::From => value.clone(),
            _ => {
                let expanded = expander.text(value, environment);
                expanded
                    .map_err(|error| MountErrorKind::Expand(error.kind))?
                    .value
            }
        };
        self.set_value(key, &value)
            .ok_or_else(|| MountErrorKind::Value {
                key: key.name(),
                value: value.chars().take(100).collect(),
            })
    }

    /// `None` if the key cannot have that value.
    fn set_value(&mut self, key: Key, value: &str) -> Option<()> {
        let text = || Some(value.to_owned()).filter(|text| !text.is_empty());
        match key {
            Key::Type => {
                let lower = value.to_lowercase();
                self.kind = Type::ALL.iter().find(|(name, _)| *name == lower)?.1;
            }
            Key::From => self.from = text(),
            Key::Source => self.source = text(),
            Key::Target => self.target = text(),
            Key::Id => self.id = text(),
            Key::Env => self.env = Some(value.to_owned()),
            Key::ReadOnly => self.read_only = Some(go_bool(value)?),
            Key::ReadWrite => self.read_only = Some(!go_bool(value)?),
            Key::Required => self.required = go_bool(value)?,
            Key::Size => self.size = Some(size(value)?),
            Key::Sharing => {
                self.sharing = Some(match value.to_lowercase().as_str() {
                    "shared" => Sharing::Shared,
                    "private" => Sharing::Private,
                    "locked" => Sharing::Locked,
                    _ => return None,
                });
            }
            Key::Mode => self.access.mode = Some(number(value, 8)?),
            Key::Uid => self.access.uid = Some(number(value, 10)?),
            Key::Gid => self.access.gid = Some(number(value, 10)?),
        }
        Some(())
    }

    fn not_for_type(&self, key: Key) -> MountErrorKind {
        MountErrorKind::NotForType {
            key: key.name(),
            kind: self.kind.name(),
        }
    }

    fn mount(self) -> Result<Mount, MountErrorKind> {
        self.check()?;
        let read_only = self.read_only;
        Ok(match self.kind {
            Type::Bind => Mount::Bind(BindMount {
                from: self.from,
                source: self.source,
                target: self.target,
                read_only: read_only.unwrap_or(true),
            }),
            Type::Cache => Mount::Cache(CacheMount {
                id: self.id,
                from: self.from,
                source: self.source,
                target: self.target,
                read_only: read_only.unwrap_or(false),
                sharing: self.sharing.unwrap_or_default(),
                access: self.access,
            }),
            Type::Tmpfs => Mount::Tmpfs(TmpfsMount {
                target: self.target,
                size: self.size,
                read_only: read_only.unwrap_or(false),
            }),
            Type::Secret => Mount::Secret(self.secret()?),
            Type::Ssh => Mount::Ssh(SshMount {
                id: self
                    .id
                    .or(self.source)
                    .unwrap_or_else(|| "default".to_owned()),
                target: self.target,
                required: self.required,
                access: self.access,
            }),
        })
    }

    /// Keys that do not go with the type.
    fn check(&self) -> Result<(), MountErrorKind> {
        let is = |kinds: &[Type]| kinds.contains(&self.kind);
        let owned = is(&[Type::Cache, Type::Secret, Type::Ssh]);
        for (set, fits, key) in [
            (self.access.mode.is_some(), owned, Key::Mode),
            (self.access.uid.is_some(), owned, Key::Uid),
            (self.access.gid.is_some(), owned, Key::Gid),
            (self.sharing.is_some(), is(&[Type::Cache]), Key::Sharing),
            (self.env.is_some(), is(&[Type::Secret]), Key::Env),
            (self.from.is_some(), !is(&[Type::Secret]), Key::From),
        ] {
            if set && !fits {
                return Err(self.not_for_type(key));
            }
        }
        Ok(())
    }

    fn secret(self) -> Result<SecretMount, MountErrorKind> {
        let base = |path: &str| {
            let path = path.trim_end_matches('/');
            path.rsplit('/').next().unwrap_or(path).to_owned()
        };
        let id = match (self.source, self.id, &self.target) {
            (Some(_), Some(_), _) => return Err(MountErrorKind::SecretWithTwoIds),
            (Some(id), None, _) | (None, Some(id), _) => id,
            (None, None, Some(target)) => base(target),
            (None, None, None) => return Err(MountErrorKind::SecretWithoutId),
        };
        if id.is_empty() {
            return Err(MountErrorKind::SecretWithoutId);
        }
        let target = match (self.target, &self.env) {
            (None, None) => Some(format!("/run/secrets/{}", base(&id))),
            (target, _) => target,
        };
        Ok(SecretMount {
            env: self
                .env
                .map(|env| if env.is_empty() { id.clone() } else { env }),
            id,
            target,
            required: self.required,
            access: self.access,
        })
    }
}

/// `strconv.ParseUint`: digits only.
fn number(text: &str, radix: u32) -> Option<u32> {
    let digits = !text.starts_with('+');
    digits.then(|| u32::from_str_radix(text, radix).ok())?
}

/// Bytes with an optional unit, in powers of 1024: `64k`, `1.5g`, `10MiB`.
fn size(text: &str) -> Option<u64> {
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let prefix = unit.strip_suffix('b').unwrap_or(&unit);
    let (prefix, binary) = match prefix.strip_suffix('i') {
        Some(prefix) => (prefix, true),
        None => (prefix, false),
    };
    let shift = match prefix {
        "" if !binary => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let whole = whole.parse::<u64>().ok()?.checked_mul(1 << shift)?;
    let fraction = fraction.get(..fraction.len().min(15))?;
    let numerator = fraction.parse::<u128>().ok()? << shift;
    let part = numerator / 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    whole.checked_add(u64::try_from(part).ok()?)
}

/// The fields of one line of comma-separated values (RFC 4180), with the ranges that they were
/// read from; `None` where the quotes do not match.
pub(crate) fn csv_fields(text: &str) -> Option<Vec<(String, Range<usize>)>> {
    let mut fields = Vec::new();
    let mut at = 0;
    loop {
        let rest = &text[at..];
        let (field, length) = match rest.strip_prefix('"') {
            Some(inner) => quoted_field(inner).map(|(field, length)| (field, length + 1))?,
            None => {
                let length = rest.find(',').unwrap_or(rest.len());
                if rest[..length].contains('"') {
                    return None;
                }
                (rest[..length].to_owned(), length)
            }
        };
        fields.push((field, at..at + length));
        at += length;
        match text[at..].chars().next() {
            None => return Some(fields),
            Some(',') => at += 1,
            Some(_) => return None,
        }
    }
}

/// A field behind its first quote, and its length with the last one.
fn quoted_field(text: &str) -> Option<(String, usize)> {
    let mut field = String::new();
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        if character != '"' {
            field.push(character);
        } else if characters.next_if(|(_, next)| *next == '"').is_some() {
            field.push('"');
        } else {
            return Some((field, at + 1));
        }
    }
    None
}
