//! The storage provider `directory`: the original tool's layout, in two directories of this host.
//!
//! * `rootfs-storage-root`/ORG/IMAGE/VERSION/{rootfs,metadata.json}: an ext4 image, and what it is.
//! * `kernel-storage-root`/ID: an uncompressed kernel.
//!
//! What must hold: nothing outside of these directories is read or written, whatever names and links are
//! in them. A version's directory is there whole or not at all, and of two that are written at once one
//! is there in the end.

mod read;
mod write;

use std::collections::BTreeMap;
use std::path::PathBuf;

use firebuild_core::Reference;
use firebuild_machine::boot::kernel;
use firebuild_store::{Error, KernelId, Store};

use super::error::{ProviderError, Result};
use super::place::Place;
use super::{Brought, Keep, Kept, Listed, Provider};

/// The property that tells where root file systems are.
pub const ROOTFS_ROOT: &str = "rootfs-storage-root";
/// The property that tells where kernels are.
pub const KERNEL_ROOT: &str = "kernel-storage-root";

/// The file system of a root file system.
const ROOTFS: &str = "rootfs";
/// What is told of it.
const METADATA: &str = "metadata.json";

/// Directories as the original tool has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    rootfs: Option<PathBuf>,
    kernels: Option<PathBuf>,
}

impl Directory {
    /// The directories that these properties tell.
    ///
    /// # Errors
    /// [`ProviderError::Property`], [`ProviderError::NoRoot`].
    pub fn new(properties: &BTreeMap<String, String>) -> Result<Self, ProviderError> {
        const KNOWN: [&str; 2] = [ROOTFS_ROOT, KERNEL_ROOT];
        if let Some(name) = properties.keys().find(|name| !KNOWN.contains(&&***name)) {
            return Err(ProviderError::Property {
                provider: "directory",
                name: name.clone(),
                known: &KNOWN,
            });
        }
        let root = |name: &str| {
            let path = properties.get(name).filter(|path| !path.is_empty());
            path.map(PathBuf::from)
        };
        match (root(ROOTFS_ROOT), root(KERNEL_ROOT)) {
            (None, None) => Err(ProviderError::NoRoot),
            (rootfs, kernels) => Ok(Self { rootfs, kernels }),
        }
    }
}

impl Provider for Directory {
    fn bring_image(&self, store: &Store, name: &Reference) -> Result<Brought> {
        let (Some(root), Some(place)) = (&self.rootfs, Place::of(name)) else {
            return Ok(Brought::Nothing);
        };
        match read::find(root, &place)? {
            // Another name may have the same place.
            Some((owner, found)) if owner.as_ref() == Some(name) => found.adopt(store, name),
            _ => Ok(Brought::Nothing),
        }
    }

    fn bring_kernel(&self, store: &Store, id: &KernelId) -> Result<Brought> {
        match store.kernels().get(id) {
            Ok(_) => return Ok(Brought::Known),
            Err(Error::NoKernel(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let Some(root) = &self.kernels else {
            return Ok(Brought::Nothing);
        };
        let Some(path) = read::kernel(root, id)? else {
            return Ok(Brought::Nothing);
        };
        let staged = store.temporary_directory()?;
        kernel::import(&path, staged.path())
            .map_err(|source| ProviderError::Kernel { path, source })?;
        match store.kernels().put(id, staged, false) {
            // Somebody else was as quick.
            Err(Error::KernelExists(_)) => Ok(Brought::Known),
            other => other.map(|_| Brought::Taken).map_err(Into::into),
        }
    }

    fn keep_image(&self, store: &Store, image: &Keep<'_>) -> Result<Kept> {
        let name = || Box::new(image.name.clone());
        let root = self.rootfs.as_ref();
        let root = root.ok_or_else(|| ProviderError::NoRootfsRoot(name()))?;
        let place = Place::of(image.name).ok_or_else(|| ProviderError::NoTag(name()))?;
        write::keep(root, &place, store, image)
    }

    fn images(&self, _: &Store) -> Result<Vec<Result<Listed>>> {
        match &self.rootfs {
            Some(root) => read::list(root),
            None => Ok(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests;
