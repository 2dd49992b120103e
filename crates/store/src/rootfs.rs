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

    /// Notes that several images together are the root file system that the one of `key` would be. The
    /// note goes with any of them.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NoSpace`].
    pub fn note_rootfs(&self, key: &Digest, images: &[Digest]) -> Result<()> {
        self.write_json(&self.rootfs_note(key), &images)
    }

    /// The images of [`Store::note_rootfs`], whether they are there or not; none if nothing was noted.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`].
    pub fn noted_rootfs(&self, key: &Digest) -> Result<Option<Vec<Digest>>> {
        let path = self.rootfs_note(key);
        match fs_err::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            other => {
                let bytes = other.doing(|| format!("read `{}`", path.display()))?;
                let images = serde_json::from_slice(&bytes);
                images
                    .map(Some)
                    .map_err(|source| Error::Damaged { path, source })
            }
        }
    }

    fn rootfs_note(&self, key: &Digest) -> PathBuf {
        self.rootfs_path(key).with_extension("json")
    }

    /// The keys of all images that are there, in no order.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn rootfs_list(&self) -> Result<Vec<Digest>> {
        self.rootfs_files(".img")
    }

    /// Removes the notes that tell of the image of `key`.
    fn remove_rootfs_notes(&self, key: &Digest) -> Result<()> {
        for noted in self.rootfs_files(".json")? {
            // One that cannot be read is of no use to anybody.
            let images = self.noted_rootfs(&noted).ok().flatten();
            if images.is_none_or(|images| images.contains(key)) {
                let note = self.rootfs_note(&noted);
                fs_err::remove_file(&note).doing(|| format!("remove `{}`", note.display()))?;
            }
        }
        Ok(())
    }

    /// The keys in the names of files that end so.
    fn rootfs_files(&self, ending: &str) -> Result<Vec<Digest>> {
        let directory = self.path().join("rootfs");
        let doing = || format!("read the directory `{}`", directory.display());
        let mut keys = Vec::new();
        for entry in fs_err::read_dir(&directory).doing(doing)? {
            let name = entry.doing(doing)?.file_name();
            let hex = name.to_str().and_then(|name| name.strip_suffix(ending));
            keys.extend(hex.and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok()));
        }
        Ok(keys)
    }

    /// Removes the image of `key`. Returns whether there was one.
    ///
    /// # Errors
    /// [`Error::RootfsInUse`] if a machine's identity lists it; [`Error::DamagedMachine`] if it cannot
    /// be known what a running one needs; [`Error::Io`].
    pub fn rootfs_remove(&self, key: &Digest) -> Result<bool> {
        let _machines = self.lock("machines", Mode::Exclusive)?;
        if let Some(id) = self.machines().user_of(key)? {
            return Err(Error::RootfsInUse { key: *key, id });
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
        self.remove_rootfs_notes(key)?;
        // Who waits for the lock finds that its file has lost its name, and makes another.
        fs_err::remove_file(&lock).doing(|| format!("remove `{}`", lock.display()))?;
        Ok(removed)
    }
}

fn exists(path: &std::path::Path) -> Result<bool> {
    path.try_exists()
        .doing(|| format!("look for `{}`", path.display()))
}
