//! Removes blobs that nothing refers to.
//!
//! Roots are the entries of `index.json` and the records of the build cache and of downloads. What they refer to,
//! through indexes and manifests, stays. While a [`Lease`](crate::Lease) is held nothing is
//! collected at all: who holds one may have written blobs that nothing refers to yet.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;

use firebuild_core::Digest;

use crate::Store;
use crate::error::{Doing, Error, Result};
use crate::layout::{Descriptor, Index};
use crate::lock::Mode;
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

impl Store {
    /// Removes blobs that nothing refers to, and whatever dead processes left half-made.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it cannot be known what is referred to, and then nothing is removed;
    /// [`Error::Io`].
    pub fn collect(&self) -> Result<Collected> {
        self.sweep()?;
        self.sweep_partials()?;
        let Some(_lock) = self.try_lock("blobs", Mode::Exclusive)? else {
            return Ok(Collected::Busy);
        };
        let used = self.referenced()?;
        let directory = self.path().join("images/blobs/sha256");
        let doing = || format!("clean up `{}`", directory.display());
        let (mut blobs, mut bytes) = (0, 0);
        for entry in fs_err::read_dir(&directory).doing(doing)? {
            let entry = entry.doing(doing)?;
            let name = entry.file_name();
            let hex = name.to_str().unwrap_or_default();
            let digest = format!("sha256:{hex}").parse::<Digest>();
            if digest.is_ok_and(|digest| used.contains(&digest)) {
                continue;
            }
            bytes += entry.metadata().map_or(0, |metadata| metadata.len());
            blobs += 1;
            remove(&entry.path()).doing(doing)?;
        }
        self.layers().forget_missing()?;
        Ok(Collected::Freed { blobs, bytes })
    }

    /// Removes root file system images whose keys are not in `keep` and that no machine uses. Who
    /// has one made for a new machine holds a lease until the machine is created.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`].
    pub fn collect_rootfs(&self, keep: &HashSet<Digest>) -> Result<Collected> {
        let Some(_lock) = self.try_lock("blobs", Mode::Exclusive)? else {
            return Ok(Collected::Busy);
        };
        let (mut blobs, mut bytes) = (0, 0);
        for key in self.rootfs_list()? {
            if keep.contains(&key) {
                continue;
            }
            // Such an image is sparse: what counts is what it takes.
            let size = fs_err::metadata(self.rootfs_path(&key));
            let size = size.map_or(0, |metadata| metadata.blocks() * 512);
            match self.rootfs_remove(&key) {
                Ok(true) => (blobs, bytes) = (blobs + 1, bytes + size),
                Ok(false) | Err(Error::RootfsInUse { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Collected::Freed { blobs, bytes })
    }

    /// The digests of all blobs that images refer to.
    pub(crate) fn referenced_by_images(&self) -> Result<HashSet<Digest>> {
        let mut used = HashSet::new();
        for entry in self.tags().read()?.manifests {
            self.follow(&entry, &mut used, DEEPEST)?;
        }
        Ok(used)
    }

    /// The digests of all blobs that are referred to.
    fn referenced(&self) -> Result<HashSet<Digest>> {
        let mut used = self.referenced_by_images()?;
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

/// A manifest that is not there refers to nothing.
fn present<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::NoBlob(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
