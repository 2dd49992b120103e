//! A root file system of which there is nothing but an ext4 image, as an image of the store.
//!
//! Its files become one layer, so it is an image like any other: VMs run from it, builds begin with it,
//! and it can be pushed. What tells whether that was done is kept beside the image's name.

use std::fs::File;
use std::path::PathBuf;

use firebuild_core::Reference;
use firebuild_core::layer::Limits;
use firebuild_disk::ext4;
use firebuild_oci::{Changes, Identity, LayerIndex, Sources};
use firebuild_store::Store;

use super::Brought;
use super::error::{Doing as _, ProviderError, Result};
use super::metadata::Metadata;

/// The annotation of an entry of the store's index that tells the file that it was made of.
const STAMP: &str = "io.firebuild.storage";

/// A root file system of a provider.
pub(super) struct Found {
    /// Where it is, for messages.
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) metadata_path: PathBuf,
    pub(super) metadata: Metadata,
}

impl Found {
    /// Sees that `name` is an image of these files in the store.
    pub(super) fn adopt(&self, store: &Store, name: &Reference) -> Result<Brought> {
        let before = self.identity()?;
        let stamp = stamp(&before);
        if let Some(known) = store.tags().get(name)? {
            let is_same = known.annotations.get(STAMP) == Some(&stamp);
            if is_same || self.metadata.digest() == Some(known.digest) {
                return Ok(Brought::Known);
            }
        }
        let config = self.metadata.config();
        let config = config.map_err(|reason| ProviderError::Nonsense {
            path: self.metadata_path.clone(),
            reason,
        })?;
        let tree = ext4::read(&self.file, 0);
        let tree = tree.map_err(|source| ProviderError::FileSystem {
            path: self.path.clone(),
            source,
        })?;
        let not_made = |source| ProviderError::Image {
            path: self.path.clone(),
            source: Box::new(source),
        };
        let mut sources = Sources::new();
        sources.add_file(self.file.try_clone().doing(|| self.reading())?);
        let lease = store.lease()?;
        let writer = Changes::whole(tree).write(&sources, lease.blob_writer()?);
        let staged = writer.map_err(not_made)?.finish()?;
        // A tree may have what no layer may.
        let read = LayerIndex::of_file(staged.file(), 0, Limits::default());
        read.map_err(|source| {
            let layer = self.path.display().to_string();
            not_made(firebuild_oci::Error::Layer { layer, source })
        })?;
        let layer = staged.commit()?;
        let after = self.identity()?;
        if (after.size, after.mtime) != (before.size, before.mtime) {
            return Err(ProviderError::Changed(self.path.clone()));
        }
        let image = firebuild_oci::write_image(&lease, config, &[], &[layer], &[]);
        let mut entry = image.map_err(not_made)?.manifest;
        entry.annotations.insert(STAMP.to_owned(), stamp);
        store.tags().set(name, entry)?;
        Ok(Brought::Taken)
    }

    fn identity(&self) -> Result<Identity> {
        let metadata = self.file.metadata().doing(|| self.reading())?;
        Ok(Identity::of(&metadata))
    }

    fn reading(&self) -> String {
        format!("read `{}`", self.path.display())
    }
}

/// What changes whenever the file does.
fn stamp(identity: &Identity) -> String {
    let Identity {
        size,
        mtime,
        ctime,
        inode,
        device,
    } = identity;
    format!(
        "{device}:{inode} {size} {}.{:09} {}.{:09}",
        mtime.0, mtime.1, ctime.0, ctime.1
    )
}
