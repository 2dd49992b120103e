//! Why a storage provider did not do what it was asked.

use std::io;
use std::path::PathBuf;

use firebuild_core::Reference;
use firebuild_disk::ext4::ReadError;
use firebuild_machine::boot::BootError;

/// Why a storage provider did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProviderError {
    /// It was given a property that it does not have.
    #[error("the storage provider `{provider}` has no property `{name}`")]
    Property {
        /// The provider.
        provider: &'static str,
        /// The property.
        name: String,
        /// Those that it has.
        known: &'static [&'static str],
    },
    /// It was not told where it is.
    #[error("the storage provider `directory` was not told which directories")]
    NoRoot,
    /// There is no place for what is built.
    #[error(
        "cannot keep `{}`: the storage provider `directory` has no place for root file systems", .0.familiar()
    )]
    NoRootfsRoot(Box<Reference>),
    /// A path that leads out of the provider's directory.
    #[error("`{}` leads out of its storage", .0.display())]
    Outside(PathBuf),
    /// Something else than a file.
    #[error("`{}` is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// A root file system without all that belongs to it.
    #[error("`{}` is no whole root file system: it has no `{missing}`", directory.display())]
    Incomplete {
        /// Its directory.
        directory: PathBuf,
        /// The name of what is missing.
        missing: &'static str,
    },
    /// Metadata that are too long.
    #[error("`{}` is longer than 4 MiB", .0.display())]
    LongMetadata(PathBuf),
    /// Metadata that cannot be understood.
    #[error("`{}` cannot be understood", path.display())]
    Metadata {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Metadata that say what cannot be.
    #[error("`{}` says what cannot be: {reason}", path.display())]
    Nonsense {
        /// The file.
        path: PathBuf,
        /// What.
        reason: String,
    },
    /// Metadata of another image.
    #[error("`{}` is about `{found}`", path.display())]
    OtherName {
        /// The file.
        path: PathBuf,
        /// Whom it names.
        found: String,
    },
    /// Two names have one place.
    #[error("cannot keep `{}`: its place is taken by `{by}`", name.familiar())]
    Taken {
        /// The name.
        name: Box<Reference>,
        /// Who has its place.
        by: String,
    },
    /// A name that can have no place.
    #[error("cannot keep `{}`: it has no tag", .0.familiar())]
    NoTag(Box<Reference>),
    /// A root file system that cannot be read.
    #[error("cannot take the root file system `{}`", path.display())]
    FileSystem {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: ReadError,
    },
    /// A root file system that somebody wrote to.
    #[error("`{}` changed while it was read", .0.display())]
    Changed(PathBuf),
    /// A kernel that no VM could boot.
    #[error("cannot take the kernel `{}`", path.display())]
    Kernel {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: BootError,
    },
    /// An image of the store that is not whole.
    #[error("`{}` is not whole", name.familiar())]
    NotWhole {
        /// Its name.
        name: Box<Reference>,
        /// Why.
        #[source]
        source: Box<firebuild_oci::Error>,
    },
    /// An image that cannot be made.
    #[error("cannot make an image of `{}`", path.display())]
    Image {
        /// The root file system.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<firebuild_oci::Error>,
    },
    /// A root file system that cannot be written.
    #[error("cannot keep `{}`", name.familiar())]
    Write {
        /// The image.
        name: Box<Reference>,
        /// Why.
        #[source]
        source: Box<crate::Error>,
    },
    /// A file or directory that cannot be read or written.
    #[error("cannot {doing}")]
    Io {
        /// What was being done, and to what.
        doing: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] firebuild_store::Error),
}

impl ProviderError {
    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Property { known: [], .. } => {
                Some("`--storage-provider directory` has some".to_owned())
            }
            Self::Property { known, .. } => Some(format!("it has `{}`", known.join("` and `"))),
            Self::NoRoot => Some(
                "give `--storage-provider-property-string rootfs-storage-root=DIR`, and \
                 `kernel-storage-root=DIR` for kernels"
                    .to_owned(),
            ),
            Self::NoRootfsRoot(_) => {
                Some("give `--storage-provider-property-string rootfs-storage-root=DIR`".to_owned())
            }
            Self::FileSystem { path, source } => source.hint(&path.display().to_string()),
            Self::Taken { .. } => Some("give the image another name".to_owned()),
            Self::NotWhole { .. } => Some("see `firebuild system verify`".to_owned()),
            _ => None,
        }
    }
}

pub(super) type Result<T, E = ProviderError> = std::result::Result<T, E>;

/// Says what was being done when an I/O error came.
pub(super) trait Doing<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| ProviderError::Io {
            doing: doing(),
            source: source.into(),
        })
    }
}
