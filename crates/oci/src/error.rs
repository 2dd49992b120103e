//! What can go wrong with images, in words for the person who has to do something about it.

use std::io;
use std::path::PathBuf;

use firebuild_core::layer::LayerError;
use firebuild_core::tree::{TreeError, shown};
use firebuild_core::{Digest, Reference};
use firebuild_store::Store;

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an image could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] firebuild_store::Error),
    /// A registry did not give or take something.
    #[error(transparent)]
    Registry(#[from] crate::registry::RegistryError),
    /// A file could not be read or written.
    #[error("cannot {doing}")]
    Io {
        /// What was being done, and to what.
        doing: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A layer is not valid.
    #[error("{layer} is not a valid layer")]
    Layer {
        /// Which layer.
        layer: String,
        /// Why.
        #[source]
        source: LayerError,
    },
    /// A layer is cut off.
    #[error("{0} is cut off: the end of the archive is missing")]
    CutOff(String),
    /// An entry of a layer does not fit the layers below it.
    #[error("entry `{entry}` of the layer cannot be applied")]
    Entry {
        /// The entry's path.
        entry: String,
        /// Why.
        #[source]
        source: TreeError,
    },
    /// A change cannot be part of a layer.
    #[error("`{path}` cannot be part of a layer: {reason}")]
    Change {
        /// The path.
        path: String,
        /// Why.
        reason: &'static str,
    },
    /// A manifest, index or configuration cannot be understood.
    #[error("{what} is not valid")]
    Document {
        /// Which.
        what: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// An image is not as the specification has it, or not one that firebuild can use.
    #[error("{what} {reason}")]
    Invalid {
        /// What was looked at.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Bytes that are not those that the image says.
    #[error("{what} has the digest {actual}, but the image says {expected}")]
    WrongDigest {
        /// Which blob.
        what: String,
        /// The digest that the image says.
        expected: Digest,
        /// The digest of the bytes.
        actual: Digest,
    },
    /// More bytes than are allowed.
    #[error("{what} is larger than the limit of {limit} bytes")]
    TooLarge {
        /// Which.
        what: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// No image in the store has that name.
    #[error("there is no image `{}`", .0.familiar())]
    NoImage(Box<Reference>),
    /// A layout has no image of that name, or several and no name was given.
    #[error("`{}` has {found}", directory.display())]
    NoSuchName {
        /// The layout.
        directory: PathBuf,
        /// What it has.
        found: String,
    },
    /// What should be an archive is none.
    #[error("`{}` is not an archive that can be read", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: LayerError,
    },
    /// A root file system could not be made.
    #[error("cannot make the root file system")]
    RootFs(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Files' bytes are more than one file system can hold.
    #[error("the layers are too large for one file system")]
    NoRoom,
    /// The place for an export is taken.
    #[error("`{}` exists already", .0.display())]
    Exists(PathBuf),
}

impl Error {
    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Store(error) => error.hint()?,
            Self::Registry(error) => return error.hint(),
            Self::NoImage(_) => "see `firebuild image ls`",
            Self::Exists(_) => "remove it, or choose another place",
            _ => return None,
        };
        Some(text.to_owned())
    }

    /// If this came of a file of the store that could not be written because the disk is full, an error
    /// that says how much is free; else this.
    #[must_use]
    pub fn on_full_disk(self, store: &Store, doing: &str) -> Self {
        if matches!(self, Self::Store(_)) {
            return self;
        }
        let first: Option<&(dyn std::error::Error + 'static)> = Some(&self);
        let kind = std::iter::successors(first, |error| error.source())
            .filter_map(|error| Some(error.downcast_ref::<io::Error>()?.kind()))
            .find(|kind| is_full(*kind));
        match kind {
            Some(kind) => Self::io(store.write_error(kind.into(), doing), || doing.to_owned()),
            None => self,
        }
    }

    pub(crate) fn entry(path: &[u8], source: TreeError) -> Self {
        Self::Entry {
            entry: shown(path),
            source,
        }
    }

    pub(crate) fn invalid(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid {
            what: what.into(),
            reason: reason.into(),
        }
    }

    /// An error of a write into the store or elsewhere: the store's own errors stay what they are.
    pub(crate) fn io(source: io::Error, doing: impl FnOnce() -> String) -> Self {
        match source.downcast::<firebuild_store::Error>() {
            Ok(error) => Self::Store(error),
            Err(source) => Self::Io {
                doing: doing(),
                source,
            },
        }
    }
}

fn is_full(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
