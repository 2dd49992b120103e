//! What is mounted while one process runs, and is in no layer.

use firebuild_dockerfile::mount::Sharing;
use serde::Serialize;

use crate::Source;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Mount {
    /// Files of a context, a stage or an image.
    Bind(Bind),
    /// A directory that is kept from build to build.
    Cache(Cache),
    /// An empty file system in memory.
    Tmpfs(Tmpfs),
    /// A file or variable that never becomes part of the image.
    Secret(Secret),
    /// The socket of an SSH agent.
    Ssh(Ssh),
}

/// Files of a context, a stage or an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Bind {
    /// An absolute path, not `/`.
    pub target: String,
    /// Where the files are.
    pub from: Source,
    /// A directory or file in it: an absolute path.
    pub path: String,
    /// Whether nothing can be written. What is written otherwise is dropped after the step.
    pub read_only: bool,
}

/// A directory that is kept from build to build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cache {
    /// An absolute path, not `/`.
    pub target: String,
    /// What it is known by, with its namespace.
    pub id: String,
    /// What a new one begins with.
    pub from: Source,
    /// A directory in that: an absolute path.
    pub path: String,
    /// Whether nothing can be written.
    pub read_only: bool,
    /// What happens when two steps want it at once.
    pub sharing: Sharing,
    /// Mode and owner of a new one.
    #[serde(flatten)]
    pub access: Access,
}

/// An empty file system in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Tmpfs {
    /// An absolute path, not `/`.
    pub target: String,
    /// The most bytes that it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Whether nothing can be written.
    pub read_only: bool,
}

/// A file or variable that never becomes part of the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Secret {
    /// What it is known by.
    pub id: String,
    /// The file that holds it: an absolute path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The variable that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variable: Option<String>,
    /// Whether the step fails where there is no such secret; otherwise it runs without.
    pub required: bool,
    /// Mode and owner of the file.
    #[serde(flatten)]
    pub access: Access,
}

/// The socket of an SSH agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Ssh {
    /// Which agent.
    pub id: String,
    /// Where the socket is: an absolute path.
    pub target: String,
    /// Whether the step fails where there is no such agent; otherwise it runs without.
    pub required: bool,
    /// Mode and owner of the socket.
    #[serde(flatten)]
    pub access: Access,
}

/// Mode and owner of what a mount makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Access {
    /// Permission bits.
    pub mode: u16,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

impl Mount {
    /// Where it appears; none for a secret that is only a variable.
    #[must_use]
    pub fn target(&self) -> Option<&str> {
        match self {
            Self::Bind(bind) => Some(&bind.target),
            Self::Cache(cache) => Some(&cache.target),
            Self::Tmpfs(tmpfs) => Some(&tmpfs.target),
            Self::Secret(secret) => secret.target.as_deref(),
            Self::Ssh(ssh) => Some(&ssh.target),
        }
    }

    pub(crate) fn source_mut(&mut self) -> Option<&mut Source> {
        match self {
            Self::Bind(bind) => Some(&mut bind.from),
            Self::Cache(cache) => Some(&mut cache.from),
            Self::Tmpfs(_) | Self::Secret(_) | Self::Ssh(_) => None,
        }
    }

    /// Where its files are, if it has any to begin with.
    #[must_use]
    pub fn source(&self) -> Option<&Source> {
        match self {
            Self::Bind(bind) => Some(&bind.from),
            Self::Cache(cache) => Some(&cache.from),
            Self::Tmpfs(_) | Self::Secret(_) | Self::Ssh(_) => None,
        }
    }
}
