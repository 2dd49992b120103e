//! Why a file system could not be read.

use std::io;

use firebuild_core::tree::TreeError;

/// Why a file system could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no superblock of ext2, ext3 or ext4.
    #[error("it is no ext4 file system")]
    NotExt4,
    /// It is shorter than its superblock says.
    #[error("it is cut off: it has {actual} bytes of {expected}")]
    CutOff {
        /// The image's length.
        actual: u64,
        /// The file system's.
        expected: u64,
    },
    /// It was in use when it was copied, or is still.
    #[error("it was not unmounted: its journal has changes that are not in place yet")]
    InUse,
    /// It uses something that is not understood, such as encryption.
    #[error("it has features that are not supported (incompatible features {0:#x})")]
    Features(u32),
    /// It has more than a layer may.
    #[error("it has {0}, more than an image can have")]
    TooMuch(&'static str),
    /// It contradicts itself.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    /// An entry that can be in no tree.
    #[error("it is damaged")]
    Entry(#[from] TreeError),
    /// The image cannot be read.
    #[error("it cannot be read")]
    Io(#[from] io::Error),
}

impl ReadError {
    /// What a person can do about it, to the file `path`.
    #[must_use]
    pub fn hint(&self, path: &str) -> Option<String> {
        match self {
            Self::InUse => Some(format!(
                "stop what uses it, then put it in order with `e2fsck -p {path}`"
            )),
            Self::Damaged(_) | Self::Entry(_) => Some(format!("see `e2fsck -fn {path}`")),
            _ => None,
        }
    }
}

pub(super) type Result<T, E = ReadError> = std::result::Result<T, E>;

pub(super) fn damaged(what: &'static str) -> ReadError {
    ReadError::Damaged(what)
}
