//! What can go wrong with the store, in words for the person who has to do something about it.

use std::io;
use std::path::{Path, PathBuf};

use firebuild_core::{ByteSize, Digest, MachineId, MachineName};

use crate::{KernelId, VolumeName};

/// The result of the store's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory could not be read or written.
    #[error("cannot {doing}")]
    Io {
        /// What was being done, and to what.
        doing: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The file system is full.
    #[error("cannot {doing}: no space left on its file system ({free} free)")]
    NoSpace {
        /// What was being done, and to what.
        doing: String,
        /// What the file system still had.
        free: ByteSize,
    },
    /// The store belongs to a newer firebuild.
    #[error("`{}` is a store of a newer firebuild (format {found}; this one knows format 1)", root.display())]
    Format {
        /// The store's root.
        root: PathBuf,
        /// The newest format found there.
        found: u32,
    },
    /// A file of the store cannot be understood.
    #[error("`{}` is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// What a machine is called and runs from cannot be understood.
    #[error("the identity of VM `{id}` is damaged")]
    DamagedMachine {
        /// The machine.
        id: MachineId,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The bytes are not those that were expected.
    #[error("the bytes have the digest {actual}, but {expected} was expected")]
    DigestMismatch {
        /// The digest that was promised.
        expected: Digest,
        /// The digest that they have.
        actual: Digest,
    },
    /// A blob is not there.
    #[error("blob `{0}` is not in the store")]
    NoBlob(Digest),
    /// There is no such kernel.
    #[error("there is no kernel `{0}`")]
    NoKernel(KernelId),
    /// There is such a kernel already.
    #[error("there is a kernel `{0}` already")]
    KernelExists(KernelId),
    /// There is no machine of that name or id.
    #[error("there is no VM `{0}`")]
    NoMachine(String),
    /// More than one machine's id begins so.
    #[error("the ids of {count} VMs begin with `{prefix}`")]
    AmbiguousMachine {
        /// What was asked for.
        prefix: String,
        /// How many there are.
        count: usize,
    },
    /// Another machine has that name.
    #[error("the name `{name}` is taken by VM `{id}`")]
    NameTaken {
        /// The name.
        name: MachineName,
        /// Who has it.
        id: MachineId,
    },
    /// A machine's root file system is not there.
    #[error("root file system `{0}` is not in the store")]
    NoRootfs(Digest),
    /// There is no such volume.
    #[error("there is no volume `{0}`")]
    NoVolume(VolumeName),
    /// Somebody else has the volume open, in a way that leaves no room.
    #[error("volume `{name}` is in use by {}", if *.written { "a VM that writes to it" } else { "VMs that read it" })]
    VolumeInUse {
        /// The volume.
        name: VolumeName,
        /// Whether it is written to.
        written: bool,
    },
    /// A machine uses that root file system.
    #[error("root file system `{key}` is used by VM `{id}`")]
    RootfsInUse {
        /// The image's key.
        key: Digest,
        /// Who uses it.
        id: MachineId,
    },
    /// A tag with a digest was to name something else.
    #[error("`{reference}` cannot name the image {digest}")]
    WrongDigest {
        /// The tag.
        reference: Box<firebuild_core::Reference>,
        /// The image's digest.
        digest: Digest,
    },
}

const NO_SPACE: &str = "free some space, remove images with `firebuild image rm`, or choose another place with `--root`";

impl Error {
    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoSpace { .. } => Some(NO_SPACE),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some(NO_SPACE)
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("run firebuild as root, or choose another place with `--root`")
            }
            Self::Format { .. } => {
                Some("use that newer firebuild, or choose another place with `--root`")
            }
            Self::NameTaken { .. } => {
                Some("choose another name, or remove that VM with `firebuild rm`")
            }
            Self::AmbiguousMachine { .. } => Some("write more of the id"),
            Self::NoMachine(_) => Some("see `firebuild ls -a`"),
            Self::DamagedMachine { .. } => {
                Some("when it does not run, `firebuild rm` removes it by its id")
            }
            Self::NoVolume(_) => Some("see `firebuild volume ls`"),
            Self::VolumeInUse { written: true, .. } => Some(
                "one VM at a time writes to a volume: stop the one that does, see `firebuild volume ls`",
            ),
            Self::VolumeInUse { .. } => {
                Some("stop the VMs that read it, or read it as well: `-v NAME:/path:ro`")
            }
            Self::NoKernel(_) => Some("see `firebuild kernel ls`"),
            _ => None,
        }
    }
}

impl From<Error> for io::Error {
    /// For writers that have to fail with an I/O error: the text stays.
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Io { source, .. } => source.kind(),
            Error::NoSpace { .. } => io::ErrorKind::StorageFull,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

pub(crate) fn free_space(path: &Path) -> io::Result<u64> {
    let statistics = rustix::fs::statvfs(path)?;
    Ok(statistics.f_bavail.saturating_mul(statistics.f_frsize))
}

/// Says what was being done when an I/O error came.
pub(crate) trait Doing<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T>;

    /// As [`Doing::doing`], for writes to the file system of `path`, which may be full.
    fn writing(self, path: &Path, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io {
            doing: doing(),
            source: source.into(),
        })
    }

    fn writing(self, path: &Path, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| full(source.into(), path, doing()))
    }
}

/// Turns an error of a write into one of the store's, unless it is one already.
pub(crate) fn full(source: io::Error, path: &Path, doing: String) -> Error {
    let source = match source.downcast::<Error>() {
        Ok(error) => return error,
        Err(source) => source,
    };
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::NoSpace {
            doing,
            free: ByteSize(free_space(path).unwrap_or_default()),
        },
        _ => Error::Io { doing, source },
    }
}
