//! Downloads of blobs that are not whole yet, in `partial`, by the digest that they will have.
//!
//! They outlive who made them: a download that broke off goes on where it was, also days later.
//! Whoever holds a [`Partial`] is the only one who writes it. A whole one becomes the blob by getting
//! its name. One that nobody has gone on with for a week is removed by [`Store::collect`].

use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use firebuild_core::Digest;

use crate::Store;
use crate::error::{Doing, Result};
use crate::lock::{Lock, Mode};
use crate::temporary::{TemporaryFile, remove};

/// Where they are.
pub(crate) const DIRECTORY: &str = "partial";

/// How long one that nobody goes on with is kept.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// The beginning of a blob, and the right to write it. Dropped, it stays for another time.
#[derive(Debug)]
pub struct Partial {
    lock: Lock,
    path: PathBuf,
}

impl Store {
    /// What is here of a blob that is being downloaded, which is nothing for a new one. None if
    /// somebody else has it: who takes several never waits for one.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io), [`Error::NoSpace`](crate::Error::NoSpace).
    pub fn partial(&self, digest: &Digest) -> Result<Option<Partial>> {
        let path = self.path().join(DIRECTORY).join(digest.hex());
        let lock = Lock::try_take(&path, Mode::Exclusive)?;
        Ok(lock.map(|lock| Partial { lock, path }))
    }

    /// Removes what is here of a blob, unless somebody is at it.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub fn forget_partial(&self, digest: &Digest) -> Result<()> {
        let path = self.path().join(DIRECTORY).join(digest.hex());
        if !path.exists() {
            return Ok(());
        }
        match Lock::try_take(&path, Mode::Exclusive)? {
            Some(lock) => Partial { lock, path }.discard(),
            None => Ok(()),
        }
    }

    /// Removes those that nobody goes on with.
    pub(crate) fn sweep_partials(&self) -> Result<()> {
        let directory = self.path().join(DIRECTORY);
        let doing = || format!("clean up `{}`", directory.display());
        for entry in fs_err::read_dir(&directory).doing(doing)? {
            let path = entry.doing(doing)?.path();
            let modified = fs_err::metadata(&path).and_then(|metadata| metadata.modified());
            let age = modified
                .ok()
                .and_then(|modified| SystemTime::now().duration_since(modified).ok());
            if age.is_some_and(|age| age > KEPT)
                && let Some(lock) = Lock::try_take(&path, Mode::Exclusive)?
            {
                Partial { lock, path }.discard()?;
            }
        }
        Ok(())
    }
}

impl Partial {
    /// The bytes so far; more are written at the end.
    #[must_use]
    pub fn file(&self) -> &File {
        self.lock.file()
    }

    /// The blob, which is whole and was found to be the right one. If it is then not given its name,
    /// it goes.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub fn into_whole(self) -> Result<TemporaryFile> {
        Ok(TemporaryFile::at(self.lock.hand_over()?, self.path))
    }

    /// Removes it: the blob was another one.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub fn discard(self) -> Result<()> {
        remove(&self.path).doing(|| format!("remove `{}`", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _, Write as _};

    use super::*;

    #[test]
    fn a_download_is_found_again_and_goes_when_it_is_old() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let digest = Digest::of(b"whole");
        let partial = store.partial(&digest).unwrap().unwrap();
        assert!(store.partial(&digest).unwrap().is_none());
        partial.file().write_all(b"who").unwrap();
        drop(partial);
        store.collect().unwrap();
        let again = Store::open(directory.path())
            .unwrap()
            .partial(&digest)
            .unwrap()
            .unwrap();
        let mut text = String::new();
        again.file().rewind().unwrap();
        again.file().read_to_string(&mut text).unwrap();
        assert_eq!(text, "who");
        let old = SystemTime::now() - KEPT - Duration::from_secs(60);
        again.file().set_modified(old).unwrap();
        let count = || {
            fs_err::read_dir(store.path().join(DIRECTORY))
                .unwrap()
                .count()
        };
        // Not while somebody has it.
        store.collect().unwrap();
        assert_eq!(count(), 1);
        drop(again);
        store.collect().unwrap();
        assert_eq!(count(), 0);
        store.partial(&digest).unwrap().unwrap().discard().unwrap();
        assert_eq!(count(), 0);
    }
}
