//! Removes blobs that nothing refers to.
//!
//! Roots are the entries of `index.json` and the records of the build cache and of downloads. What they refer to,
//! through indexes and manifests, stays. While a [`Lease`](crate::Lease) is held nothing is
//! collected at all: who holds one may have written blobs that nothing refers to yet.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use firebuild_core::Digest;

use crate::Store;
use crate::error::{Doing, Error, Result};
use crate::layout::{Descriptor, Index};
use crate::lock::{Lock, Mode};
use crate::temporary::remove;

/// How deep indexes may lie in indexes.
const DEEPEST: usize = 4;

/// What a collection did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collected {
    /// This many blobs or images of this many bytes together are gone.
    Freed {
        /// How many.
        blobs: u64,
        /// Their bytes together.
        bytes: u64,
    },
    /// Somebody holds a lease. The next collection will do it.
    Busy,
}

/// The right to remove: while it is held nobody has a [`Lease`](crate::Lease), so no blob is being
/// written, no name given and no machine made. Names may be taken away meanwhile.
#[derive(Debug)]
pub struct Removal<'a> {
    store: &'a Store,
    #[expect(dead_code, reason = "held until all is removed")]
    lock: Lock,
}

/// A file of the store that nothing needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unneeded {
    /// A blob's digest, or the key of a root file system image.
    pub digest: Digest,
    /// What it takes on the host's disk.
    pub taken: u64,
    path: PathBuf,
    length: u64,
}

impl Store {
    /// Removes blobs that nothing refers to, and whatever dead processes left half-made.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it cannot be known what is referred to, and then nothing is removed;
    /// [`Error::Io`].
    pub fn collect(&self) -> Result<Collected> {
        self.sweep()?;
        self.sweep_partials()?;
        let Some(removal) = self.removal()? else {
            return Ok(Collected::Busy);
        };
        let gone = removal.remove_blobs()?;
        Ok(Collected::Freed {
            blobs: gone.len() as u64,
            bytes: gone.iter().map(|blob| blob.length).sum(),
        })
    }

    /// Removes root file system images whose keys are not in `keep` and that no machine uses. Who
    /// has one made for a new machine holds a lease until the machine is created.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`].
    pub fn collect_rootfs(&self, keep: &HashSet<Digest>) -> Result<Collected> {
        let Some(removal) = self.removal()? else {
            return Ok(Collected::Busy);
        };
        let gone = removal.remove_rootfs(keep)?;
        Ok(Collected::Freed {
            blobs: gone.len() as u64,
            bytes: gone.iter().map(|image| image.taken).sum(),
        })
    }

    /// The right to remove; none while anybody holds a lease.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn removal(&self) -> Result<Option<Removal<'_>>> {
        let lock = self.try_lock("blobs", Mode::Exclusive)?;
        Ok(lock.map(|lock| Removal { store: self, lock }))
    }

    /// The blobs that are not in `used`.
    pub(crate) fn blobs_without(&self, used: &HashSet<Digest>) -> Result<Vec<Unneeded>> {
        let directory = self.path().join("images/blobs/sha256");
        let mut blobs = Vec::new();
        for path in files_of(&directory)? {
            let digest = digest_of(&path, "");
            if digest.is_some_and(|digest| used.contains(&digest)) {
                continue;
            }
            // What is no blob at all has no business there.
            let digest = digest.unwrap_or_else(|| Digest::of(b""));
            blobs.extend(Unneeded::of(path, digest)?);
        }
        Ok(blobs)
    }

    /// The root file system images that are not in `keep`.
    pub(crate) fn rootfs_without(&self, keep: &HashSet<Digest>) -> Result<Vec<Unneeded>> {
        let mut images = Vec::new();
        for key in self.rootfs_list()? {
            if !keep.contains(&key) {
                images.extend(Unneeded::of(self.rootfs_path(&key), key)?);
            }
        }
        Ok(images)
    }

    /// The digests of all blobs that these entries of the index refer to.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`].
    pub fn referenced_by<'a>(
        &self,
        entries: impl IntoIterator<Item = &'a Descriptor>,
    ) -> Result<HashSet<Digest>> {
        let mut used = HashSet::new();
        for entry in entries {
            self.follow(entry, &mut used, DEEPEST)?;
        }
        Ok(used)
    }

    /// The digests of all blobs that images refer to.
    pub(crate) fn referenced_by_images(&self) -> Result<HashSet<Digest>> {
        self.referenced_by(&self.tags().read()?.manifests)
    }

    /// The digests of all blobs that records of the build cache and of downloads keep.
    pub(crate) fn referenced_by_records(&self) -> Result<HashSet<Digest>> {
        let mut used = HashSet::new();
        let records = self.cache().list()?.into_iter();
        used.extend(records.map(|entry| entry.record.layer));
        let records = self.downloads().list()?.into_iter();
        used.extend(records.map(|entry| entry.record.content));
        Ok(used)
    }

    fn follow(
        &self,
        descriptor: &Descriptor,
        used: &mut HashSet<Digest>,
        depth: usize,
    ) -> Result<()> {
        if !used.insert(descriptor.digest) || depth == 0 {
            return Ok(());
        }
        if descriptor.is_index() {
            let index = self.parse_blob::<Index>(&descriptor.digest);
            for entry in present(index)?
                .map(|index| index.manifests)
                .unwrap_or_default()
            {
                self.follow(&entry, used, depth - 1)?;
            }
        } else if descriptor.is_manifest()
            && let Some(manifest) = present(self.manifest(&descriptor.digest))?
        {
            used.insert(manifest.config.digest);
            used.extend(manifest.layers.iter().map(|layer| layer.digest));
        }
        Ok(())
    }
}

impl Removal<'_> {
    /// Removes blobs that nothing refers to, and says which those were.
    ///
    /// # Errors
    /// As [`Store::collect`].
    pub fn remove_blobs(&self) -> Result<Vec<Unneeded>> {
        let store = self.store;
        store.sweep_partials()?;
        let mut used = store.referenced_by_images()?;
        used.extend(store.referenced_by_records()?);
        let gone = store.blobs_without(&used)?;
        for blob in &gone {
            let doing = || format!("remove `{}`", blob.path.display());
            remove(&blob.path).doing(doing)?;
        }
        store.layers().forget_missing()?;
        Ok(gone)
    }

    /// Removes root file system images whose keys are not in `keep` and that no machine uses, and
    /// says which those were.
    ///
    /// # Errors
    /// As [`Store::collect_rootfs`].
    pub fn remove_rootfs(&self, keep: &HashSet<Digest>) -> Result<Vec<Unneeded>> {
        let mut gone = Vec::new();
        for image in self.store.rootfs_without(keep)? {
            match self.store.rootfs_remove(&image.digest) {
                Ok(true) => gone.push(image),
                Ok(false) | Err(Error::RootfsInUse { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(gone)
    }

    /// Removes a blob that is not what its name says. Whatever refers to it stays, so that it can be
    /// had again.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove_broken(&self, digest: &Digest) -> Result<()> {
        let path = self.store.blob_path(digest);
        remove(&path).doing(|| format!("remove `{}`", path.display()))
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        self.store
    }

    /// The blobs that would go if the index had only these entries, and without the records of the
    /// build cache and of downloads if not `with_records`.
    ///
    /// # Errors
    /// As [`Store::collect`].
    pub fn unneeded_blobs<'a>(
        &self,
        entries: impl IntoIterator<Item = &'a Descriptor>,
        with_records: bool,
    ) -> Result<Vec<Unneeded>> {
        let mut used = self.store.referenced_by(entries)?;
        if with_records {
            used.extend(self.store.referenced_by_records()?);
        }
        self.store.blobs_without(&used)
    }

    /// The root file system images whose keys are not in `keep`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn unneeded_rootfs(&self, keep: &HashSet<Digest>) -> Result<Vec<Unneeded>> {
        self.store.rootfs_without(keep)
    }
}

impl Unneeded {
    /// None if it is gone.
    fn of(path: PathBuf, digest: Digest) -> Result<Option<Self>> {
        match fs_err::symlink_metadata(&path) {
            Ok(metadata) => Ok(Some(Self {
                digest,
                taken: metadata.blocks() * 512,
                length: metadata.len(),
                path,
            })),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).doing(|| format!("look at `{}`", path.display())),
        }
    }
}

/// The digest that a file of the store is named by.
pub(crate) fn digest_of(path: &Path, extension: &str) -> Option<Digest> {
    let name = path.file_name()?.to_str()?.strip_suffix(extension)?;
    format!("sha256:{name}").parse().ok()
}

/// The paths of what is in a directory.
pub(crate) fn files_of(directory: &Path) -> Result<Vec<PathBuf>> {
    let doing = || format!("read the directory `{}`", directory.display());
    let entries = fs_err::read_dir(directory).doing(doing)?;
    entries
        .map(|entry| entry.map(|entry| entry.path()).doing(doing))
        .collect()
}

/// A manifest that is not there refers to nothing.
fn present<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::NoBlob(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
