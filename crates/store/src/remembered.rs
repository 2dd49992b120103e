//! Digests that would take long to find out again: one opaque file for each build context, one for
//! each list of layers that something was copied from, and one for each layer that was compressed.
//!
//! They only save time: whoever reads one checks it, and goes without it.

use std::path::PathBuf;
use std::time::SystemTime;

use firebuild_core::Digest;

use crate::Store;
use crate::error::{Doing, Result};

/// What digests are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remembered {
    /// The files of a build context; the key is that of its path.
    Context,
    /// What was copied from layers; the key is theirs.
    Layers,
    /// What a layer is compressed; the key is that of its diff id and how it is compressed.
    Compressed,
}

impl Remembered {
    fn directory(self) -> &'static str {
        match self {
            Self::Context => "contexts",
            Self::Layers => "copied",
            Self::Compressed => "compressed",
        }
    }

    /// How many are kept at most.
    fn most(self) -> usize {
        match self {
            Self::Context => 256,
            Self::Layers | Self::Compressed => 2048,
        }
    }
}

impl Store {
    /// What was kept of this key, if anything.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub fn remembered(&self, what: Remembered, key: &Digest) -> Result<Option<Vec<u8>>> {
        let path = self.remembered_path(what, key);
        match fs_err::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).doing(|| format!("read `{}`", path.display())),
        }
    }

    /// Keeps something, in place of what was. What nothing was kept of for longest is forgotten if
    /// there is too much: 256 contexts, 2,048 lists of layers, 2,048 compressed layers.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io), [`Error::NoSpace`](crate::Error::NoSpace).
    pub fn remember(&self, what: Remembered, key: &Digest, bytes: &[u8]) -> Result<()> {
        self.write_bytes(&self.remembered_path(what, key), bytes)?;
        self.forget(what, what.most())
    }

    fn forget(&self, what: Remembered, most: usize) -> Result<()> {
        let directory = self.path().join(what.directory());
        let doing = || format!("clean up `{}`", directory.display());
        let mut files = Vec::new();
        for entry in fs_err::read_dir(&directory).doing(doing)? {
            let entry = entry.doing(doing)?;
            let changed = entry.metadata().and_then(|metadata| metadata.modified());
            files.push((changed.unwrap_or(SystemTime::UNIX_EPOCH), entry.path()));
        }
        files.sort();
        let surplus = files.len().saturating_sub(most);
        for (_, path) in &files[..surplus] {
            // Another process may have been quicker.
            let _ = fs_err::remove_file(path);
        }
        Ok(())
    }

    fn remembered_path(&self, what: Remembered, key: &Digest) -> PathBuf {
        self.path().join(what.directory()).join(key.hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_much_is_remembered() {
        let what = Remembered::Context;
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let keys: Vec<Digest> = (0..5_u8).map(|number| Digest::of(&[number])).collect();
        for (number, key) in keys.iter().enumerate() {
            assert_eq!(store.remembered(what, key).unwrap(), None);
            store.remember(what, key, b"text").unwrap();
            let file = fs_err::File::open(store.remembered_path(what, key)).unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(number as u64);
            file.file().set_modified(time).unwrap();
        }
        store.forget(what, 2).unwrap();
        let left: Vec<bool> = keys
            .iter()
            .map(|key| store.remembered(what, key).unwrap().is_some())
            .collect();
        assert_eq!(left, [false, false, false, true, true]);
    }
}
