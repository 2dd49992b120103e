//! Blobs: bytes by their digest, in `images/blobs/sha256`.
//!
//! A blob is written under a [`Lease`], which keeps it until something refers to it. Its name is
//! its digest, computed while it is written, so a blob that has its name is the right one.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use firebuild_core::Digest;
use firebuild_core::digest::Hashing;

use crate::collect::{digest_of, files_of};
use crate::error::{Doing, Error, Result, full};
use crate::lock::{Lock, Mode};
use crate::temporary::TemporaryFile;
use crate::{Store, layout};

const BUFFER: usize = 256 << 10;

/// Keeps every blob of the store where it is: none is collected while any lease is held.
///
/// Take one before the first blob is written or looked for, and drop it when a tag or a cache
/// record refers to all of them. Clones are the same lease.
#[derive(Debug, Clone)]
pub struct Lease {
    store: Store,
    #[expect(dead_code, reason = "held while any clone lives")]
    lock: Arc<Lock>,
}

/// A blob's address and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Blob {
    /// The digest of its bytes.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
}

impl Blob {
    /// A descriptor of the blob.
    #[must_use]
    pub fn descriptor(&self, media_type: &str) -> layout::Descriptor {
        layout::Descriptor::new(media_type, self.digest, self.size)
    }
}

/// Writes one blob. Dropped without [`BlobWriter::commit`] or [`BlobWriter::finish`], it leaves
/// nothing.
#[derive(Debug)]
pub struct BlobWriter {
    lease: Lease,
    output: BufWriter<Hashing<TemporaryFile>>,
}

/// A blob that is whole and durable but has no name yet. Dropped, it leaves nothing.
#[derive(Debug)]
pub struct StagedBlob {
    lease: Lease,
    file: TemporaryFile,
    blob: Blob,
}

impl Lease {
    /// The store it belongs to.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Begins a blob.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NoSpace`].
    pub fn blob_writer(&self) -> Result<BlobWriter> {
        let file = self.store.temporary_file()?;
        Ok(BlobWriter {
            lease: self.clone(),
            output: BufWriter::with_capacity(BUFFER, Hashing::new(file)),
        })
    }

    /// Takes a file in whose digest and length the caller has seen while it was written, and makes
    /// it durable.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NoSpace`].
    pub fn stage(&self, file: TemporaryFile, blob: Blob) -> Result<StagedBlob> {
        file.sync(&self.store.blob_path(&blob.digest))?;
        Ok(StagedBlob {
            lease: self.clone(),
            file,
            blob,
        })
    }

    /// Stores a small blob.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NoSpace`].
    pub fn put(&self, bytes: &[u8]) -> Result<Blob> {
        let blob = Blob {
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
        };
        if !self.store.has_whole_blob(&blob)? {
            let path = self.store.blob_path(&blob.digest);
            self.store.write_bytes(&path, bytes)?;
        }
        Ok(blob)
    }
}

impl BlobWriter {
    /// Ends the blob and makes it durable, without giving it its name yet.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NoSpace`].
    pub fn finish(self) -> Result<StagedBlob> {
        let Self { lease, output } = self;
        let doing = || "write a blob".to_owned();
        let hashing = output
            .into_inner()
            .map_err(io::IntoInnerError::into_error)
            .writing(lease.store.path(), doing)?;
        let (file, digest, size) = hashing.finish();
        file.sync(&lease.store.blob_path(&digest))?;
        Ok(StagedBlob {
            lease,
            file,
            blob: Blob { digest, size },
        })
    }

    /// Ends the blob and gives it its name. With `expected`, only if that is its digest.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`], and then nothing is left; [`Error::Io`], [`Error::NoSpace`].
    pub fn commit(self, expected: Option<&Digest>) -> Result<Blob> {
        let staged = self.finish()?;
        if let Some(expected) = expected {
            staged.check(expected)?;
        }
        staged.commit()
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.output.write(bytes);
        result.map_err(|error| self.lease.blob_error(error))
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.output.flush();
        result.map_err(|error| self.lease.blob_error(error))
    }
}

impl Lease {
    fn blob_error(&self, error: io::Error) -> io::Error {
        self.store.write_error(error, "write a blob")
    }
}

impl Store {
    /// Makes an error of a write to one of the store's files tell whether its disk is full.
    #[must_use]
    pub fn write_error(&self, error: io::Error, doing: &str) -> io::Error {
        full(error, self.path(), doing.to_owned()).into()
    }
}

impl Write for TemporaryFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl StagedBlob {
    /// Its digest and length.
    #[must_use]
    pub fn blob(&self) -> Blob {
        self.blob
    }

    /// Its bytes, to read by position.
    #[must_use]
    pub fn file(&self) -> &File {
        self.file.file()
    }

    /// Checks that the bytes are the expected ones.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`].
    pub fn check(&self, expected: &Digest) -> Result<()> {
        if self.blob.digest == *expected {
            return Ok(());
        }
        Err(Error::DigestMismatch {
            expected: *expected,
            actual: self.blob.digest,
        })
    }

    /// Gives it its name.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NoSpace`].
    pub fn commit(self) -> Result<Blob> {
        let store = &self.lease.store;
        if !store.has_whole_blob(&self.blob)? {
            self.file.persist(&store.blob_path(&self.blob.digest))?;
        }
        Ok(self.blob)
    }
}

impl Store {
    /// Keeps blobs from being collected.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn lease(&self) -> Result<Lease> {
        Ok(Lease {
            store: self.clone(),
            lock: Arc::new(self.lock("blobs", Mode::Shared)?),
        })
    }

    /// Where a blob is, or would be.
    #[must_use]
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path().join("images/blobs/sha256").join(digest.hex())
    }

    /// Whether a blob is there.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn has_blob(&self, digest: &Digest) -> Result<bool> {
        let path = self.blob_path(digest);
        path.try_exists()
            .doing(|| format!("look for `{}`", path.display()))
    }

    /// As [`Store::has_blob`], but not one that lost its end with its file system.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn has_whole_blob(&self, blob: &Blob) -> Result<bool> {
        let path = self.blob_path(&blob.digest);
        match fs_err::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            other => other
                .map(|metadata| metadata.len() == blob.size)
                .doing(|| format!("look for `{}`", path.display())),
        }
    }

    /// Opens a blob.
    ///
    /// # Errors
    /// [`Error::NoBlob`], [`Error::Io`].
    pub fn blob(&self, digest: &Digest) -> Result<File> {
        let path = self.blob_path(digest);
        match File::options().read(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::NoBlob(*digest)),
            other => other.doing(|| format!("open the blob `{}`", path.display())),
        }
    }

    /// All blobs with the lengths that they have, in the order of their digests.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn blobs(&self) -> Result<Vec<Blob>> {
        let mut blobs = Vec::new();
        for path in files_of(&self.path().join("images/blobs/sha256"))? {
            // One that is gone meanwhile is none.
            if let Some(digest) = digest_of(&path, "")
                && let Ok(metadata) = fs_err::metadata(&path)
            {
                let size = metadata.len();
                blobs.push(Blob { digest, size });
            }
        }
        blobs.sort_by_key(|blob| blob.digest);
        Ok(blobs)
    }

    /// The bytes of a small blob: a manifest, a configuration.
    ///
    /// # Errors
    /// [`Error::NoBlob`], [`Error::Io`].
    pub fn blob_bytes(&self, digest: &Digest) -> Result<Vec<u8>> {
        use io::Read;
        let mut bytes = Vec::new();
        self.blob(digest)?
            .read_to_end(&mut bytes)
            .doing(|| format!("read the blob `{digest}`"))?;
        Ok(bytes)
    }

    /// A manifest.
    ///
    /// # Errors
    /// [`Error::NoBlob`], [`Error::Damaged`], [`Error::Io`].
    pub fn manifest(&self, digest: &Digest) -> Result<layout::Manifest> {
        self.parse_blob(digest)
    }

    pub(crate) fn parse_blob<T: serde::de::DeserializeOwned>(&self, digest: &Digest) -> Result<T> {
        let bytes = self.blob_bytes(digest)?;
        serde_json::from_slice(&bytes).map_err(|source| Error::Damaged {
            path: self.blob_path(digest),
            source,
        })
    }
}
