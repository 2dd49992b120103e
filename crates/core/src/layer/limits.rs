//! How much a layer may ask of its reader, and what is wrong with one that was refused.

use std::io;

use crate::tree::shown;

/// Bounds on what one archive may hold. What a limit counts is counted before memory is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Entries, whiteouts included.
    pub entries: u64,
    /// Bytes of a path or a link's target, after normalisation.
    pub path: usize,
    /// Bytes of one extended header or one long name.
    pub extended_header: u64,
    /// Bytes of names and values of one entry's extended attributes.
    pub xattrs: usize,
    /// Runs of data in one sparse file.
    pub segments: usize,
    /// Bytes of all paths, targets, attributes and extended headers together.
    pub names: u64,
    /// Bytes of all files together, holes included.
    pub content: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 2_000_000,
            path: 4096,
            extended_header: 2 << 20,
            xattrs: 1 << 20,
            segments: 1 << 20,
            names: 512 << 20,
            content: 1 << 42,
        }
    }
}

/// Why a layer could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The input failed.
    #[error("cannot read the layer at byte {offset}")]
    Read {
        /// How many bytes had been read.
        offset: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The input ended within an entry.
    #[error("the layer ends at byte {offset}, within entry `{entry}`")]
    Truncated {
        /// The entry's path, or the last one seen.
        entry: String,
        /// Where the missing bytes should have begun.
        offset: u64,
    },
    /// The bytes are no valid archive, or one with an entry that no layer may have.
    #[error("entry `{entry}` at byte {offset} of the layer is not valid: {reason}")]
    Malformed {
        /// The entry's path, as far as it is known.
        entry: String,
        /// Where its header begins.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// The layer asks for more than [`Limits`] allow.
    #[error("entry `{entry}` at byte {offset} of the layer exceeds the limit of {limit} {what}")]
    Limit {
        /// The entry's path, as far as it is known.
        entry: String,
        /// Where its header begins.
        offset: u64,
        /// What was counted.
        what: &'static str,
        /// The most that is allowed.
        limit: u64,
    },
}

/// What is wrong with an entry, before it is known which entry it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Malformed(String),
    Limit(&'static str, u64),
}

impl Fault {
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Self::Malformed(reason.into())
    }

    pub(super) fn at(self, entry: &[u8], offset: u64) -> LayerError {
        let entry = shown(entry);
        match self {
            Self::Malformed(reason) => LayerError::Malformed {
                entry,
                offset,
                reason,
            },
            Self::Limit(what, limit) => LayerError::Limit {
                entry,
                offset,
                what,
                limit,
            },
        }
    }
}

/// What has been taken of the limits so far.
#[derive(Debug, Default)]
pub(super) struct Used {
    entries: u64,
    names: u64,
    content: u64,
}

impl Used {
    pub(super) fn entry(&mut self, limits: &Limits) -> Result<(), Fault> {
        take(&mut self.entries, 1, limits.entries, "entries")
    }

    pub(super) fn names(&mut self, bytes: u64, limits: &Limits) -> Result<(), Fault> {
        take(
            &mut self.names,
            bytes,
            limits.names,
            "bytes of names and attributes",
        )
    }

    pub(super) fn content(&mut self, bytes: u64, limits: &Limits) -> Result<(), Fault> {
        take(
            &mut self.content,
            bytes,
            limits.content,
            "bytes of file content",
        )
    }
}

fn take(used: &mut u64, more: u64, limit: u64, what: &'static str) -> Result<(), Fault> {
    *used = used
        .checked_add(more)
        .filter(|sum| *sum <= limit)
        .ok_or(Fault::Limit(what, limit))?;
    Ok(())
}
