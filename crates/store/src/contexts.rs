//! What is known of the files of build contexts: one opaque file for each context.
//!
//! It only saves time: whoever reads it checks it, and goes without it.

use std::path::PathBuf;
use std::time::SystemTime;

use firebuild_core::Digest;

use crate::Store;
use crate::error::{Doing, Result};

/// The most contexts that something is kept of.
const MOST: usize = 256;

impl Store {
    /// What was kept of the context of this key, if anything.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub fn context_digests(&self, key: &Digest) -> Result<Option<Vec<u8>>> {
        let path = self.context_path(key);
        match fs_err::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).doing(|| format!("read `{}`", path.display())),
        }
    }

    /// Keeps something of a context, in place of what was. Of the contexts that nothing was kept of
    /// for longest, those beyond 256 are forgotten.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io), [`Error::NoSpace`](crate::Error::NoSpace).
    pub fn put_context_digests(&self, key: &Digest, bytes: &[u8]) -> Result<()> {
        self.write_bytes(&self.context_path(key), bytes)?;
        self.forget_contexts(MOST)
    }

    fn forget_contexts(&self, most: usize) -> Result<()> {
        let directory = self.path().join("contexts");
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

    fn context_path(&self, key: &Digest) -> PathBuf {
        self.path().join("contexts").join(key.hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_contexts_are_remembered() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let keys: Vec<Digest> = (0..5_u8).map(|number| Digest::of(&[number])).collect();
        for (number, key) in keys.iter().enumerate() {
            assert_eq!(store.context_digests(key).unwrap(), None);
            store.put_context_digests(key, b"text").unwrap();
            let file = fs_err::File::open(store.context_path(key)).unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(number as u64);
            file.file().set_modified(time).unwrap();
        }
        store.forget_contexts(2).unwrap();
        let left: Vec<bool> = keys
            .iter()
            .map(|key| store.context_digests(key).unwrap().is_some())
            .collect();
        assert_eq!(left, [false, false, false, true, true]);
    }
}
