//! A file of the host whose bytes go into a layer, and how it is known that they are still the
//! same bytes.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use firebuild_core::{Digest, Hasher};

use crate::source::open_regular;

/// What the system says of a file that changes whenever its bytes do, as long as the clock has
/// gone on between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Length in bytes.
    pub size: u64,
    /// Seconds since 1970 and nanoseconds of the last change of the bytes.
    pub mtime: (i64, i64),
    /// As `mtime`, of the last change of bytes or metadata.
    pub ctime: (i64, i64),
    /// The file's number in its file system.
    pub inode: u64,
    /// The file system.
    pub device: u64,
}

impl Identity {
    /// What these metadata say.
    #[must_use]
    pub fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            size: metadata.len(),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            ctime: (metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
            device: metadata.dev(),
        }
    }
}

/// A file of the host, as it was when it was found.
#[derive(Debug)]
pub struct HostFile {
    path: PathBuf,
    identity: Identity,
    digest: OnceLock<Digest>,
}

impl HostFile {
    /// A regular file that was found like this.
    #[must_use]
    pub fn new(path: PathBuf, identity: Identity) -> Self {
        Self {
            path,
            identity,
            digest: OnceLock::new(),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the system said of it.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The digest of its bytes, if that is known.
    #[must_use]
    pub fn known_digest(&self) -> Option<&Digest> {
        self.digest.get()
    }

    /// Says what its bytes are, known from elsewhere.
    pub fn set_digest(&self, digest: Digest) {
        // Whoever said it first said the same.
        let _ = self.digest.set(digest);
    }

    /// The digest of its bytes, which are read if it is not known. `buffer` is to read into.
    ///
    /// # Errors
    /// Those of the file; `InvalidData` if it is not as it was found.
    pub fn digest(&self, buffer: &mut [u8]) -> io::Result<Digest> {
        if let Some(digest) = self.digest.get() {
            return Ok(*digest);
        }
        let mut file = self.open()?;
        let mut hasher = Hasher::new();
        loop {
            match io::Read::read(&mut file, buffer) {
                Ok(0) => break,
                Ok(count) => hasher.update(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.check(&file)?;
        let digest = hasher.finish();
        Ok(*self.digest.get_or_init(|| digest))
    }

    /// Opens it, without following a link and without waiting for the other end of a pipe: what is
    /// read here is somebody else's.
    pub(crate) fn open(&self) -> io::Result<File> {
        let file = open_regular(&self.path)?;
        self.check(&file)?;
        Ok(file)
    }

    /// Checks that an open file is still as it was found.
    pub(crate) fn check(&self, file: &File) -> io::Result<()> {
        if Identity::of(&file.metadata()?) == self.identity {
            return Ok(());
        }
        Err(self.changed())
    }

    pub(crate) fn changed(&self) -> io::Error {
        let message = format!("`{}` changed while it was read", self.path.display());
        io::Error::new(io::ErrorKind::InvalidData, message)
    }
}
