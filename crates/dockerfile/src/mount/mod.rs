//! `RUN --mount`: comma-separated keys and values, resolved to a typed mount.
//!
//! Keys are checked when the Dockerfile is parsed; values may hold variables, so most of them are
//! checked when they are known. A mount without variables is checked at once.

mod csv;
mod flag;
mod resolve;

use serde::Serialize;

use crate::{ExpandErrorKind, Span};

pub(crate) use csv::fields as csv_fields;
pub use flag::MountFlag;

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
