//! Finished root file system images, made once for each key.

use std::fs::File;
use std::path::PathBuf;

use firebuild_core::Digest;

use crate::Store;
use crate::error::{Doing, Error, Result};
use crate::lock::Mode;

impl Store {
    /// The root file system image of `key`. If it is not there, `make` writes it to the empty file
    /// that it is given; of several callers at once one makes it and the others wait for it.
    ///
    /// # Errors
    /// Those of `make`, and then nothing is left; [`Error::Io`], [`Error::NoSpace`].
    pub fn rootfs<E: From<Error>>(
        &self,
        key: &Digest,
        make: impl FnOnce(&File) -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        let path = self.rootfs_path(key);
        if exists(&path)? {
            return Ok(path);
        }
        let _lock = self.lock(&format!("rootfs-{}", key.hex()), Mode::Exclusive)?;
        if exists(&path)? {
            return Ok(path);
        }
        let temporary = self.temporary_file()?;
        make(temporary.file())?;
        temporary.persist(&path)?;
        Ok(path)
    }

    /// Where the image of `key` is, or would be.
    #[must_use]
    pub fn rootfs_path(&self, key: &Digest) -> PathBuf {
        let directory = self.path().join("rootfs");
        directory.join(format!("{}.img", key.hex()))
    }

    /// The keys of all images that are there, in no order.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn rootfs_list(&self) -> Result<Vec<Digest>> {
        let directory = self.path().join("rootfs");
        let doing = || format!("read the directory `{}`", directory.display());
        let mut keys = Vec::new();
        for entry in fs_err::read_dir(&directory).doing(doing)? {
            let name = entry.doing(doing)?.file_name();
            let hex = name.to_str().and_then(|name| name.strip_suffix(".img"));
            keys.extend(hex.and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok()));
        }
        Ok(keys)
    }

    /// Removes the image of `key`. Returns whether there was one.
    ///
    /// # Errors
    /// [`Error::RootfsInUse`] if a machine's identity lists it; [`Error::Io`].
    pub fn rootfs_remove(&self, key: &Digest) -> Result<bool> {
        let _machines = self.lock("machines", Mode::Exclusive)?;
        let mut identities = self.machines().identities()?.into_iter();
        if let Some(user) = identities.find(|identity| identity.rootfs.contains(key)) {
            return Err(Error::RootfsInUse {
                key: *key,
                id: user.id,
            });
        }
        let path = self.rootfs_path(key);
        let lock = self
            .path()
            .join("locks")
            .join(format!("rootfs-{}", key.hex()));
        let _lock = self.lock(&format!("rootfs-{}", key.hex()), Mode::Exclusive)?;
        let removed = match fs_err::remove_file(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
            other => {
                other.doing(|| format!("remove `{}`", path.display()))?;
                true
            }
        };
        // Who waits for the lock finds that its file has lost its name, and makes another.
        fs_err::remove_file(&lock).doing(|| format!("remove `{}`", lock.display()))?;
        Ok(removed)
    }
}

fn exists(path: &std::path::Path) -> Result<bool> {
    path.try_exists()
        .doing(|| format!("look for `{}`", path.display()))
}
