//! Locks on files, by `flock`: they belong to the open file and end with it.

use std::fs::File;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, retry_on_intr};

use crate::error::{Doing, Result};

/// Who else may hold the same lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Other shared holders.
    Shared,
    /// Nobody.
    Exclusive,
}

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
    /// False if the lock was handed over.
    unlock: bool,
}

impl Lock {
    /// Waits until the lock is free. The file is made if it is not there.
    pub(crate) fn wait(path: &Path, mode: Mode) -> Result<Self> {
        let operation = match mode {
            Mode::Shared => FlockOperation::LockShared,
            Mode::Exclusive => FlockOperation::LockExclusive,
        };
        loop {
            let file = open(path)?;
            retry_on_intr(|| flock(&file, operation)).doing(|| doing(path))?;
            if is_current(&file, path)? {
                return Ok(Self::held(file));
            }
        }
    }

    /// Takes the lock if nobody holds it.
    pub(crate) fn try_take(path: &Path, mode: Mode) -> Result<Option<Self>> {
        loop {
            let file = open(path)?;
            if !try_flock(&file, path, mode)? {
                return Ok(None);
            }
            if is_current(&file, path)? {
                return Ok(Some(Self::held(file)));
            }
        }
    }

    /// Locks a file or directory that was just made and that nobody else can have locked.
    pub(crate) fn mark(file: &File, path: &Path) -> Result<()> {
        retry_on_intr(|| flock(file, FlockOperation::LockExclusive)).doing(|| doing(path))
    }

    /// Keeps the lock that `file` has until the value is dropped.
    pub(crate) fn held(file: File) -> Self {
        Self { file, unlock: true }
    }

    /// Gives up the value and leaves the lock to whoever has the file open.
    pub(crate) fn hand_over(mut self) -> Result<File> {
        let file = self.file.try_clone();
        let file = file.doing(|| "hand a lock over".to_owned())?;
        self.unlock = false;
        Ok(file)
    }

    /// Locks a file or directory that is already open.
    pub(crate) fn try_file(file: File, path: &Path, mode: Mode) -> Result<Option<Self>> {
        Ok(try_flock(&file, path, mode)?.then(|| Self::held(file)))
    }

    /// The locked file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for Lock {
    /// Unlocks at once: a child that another thread has forked, and that has not executed its
    /// program yet, still has the file open.
    fn drop(&mut self) {
        if self.unlock {
            // Closing the file is what counts in the end.
            let _ = flock(&self.file, FlockOperation::Unlock);
        }
    }
}

fn doing(path: &Path) -> String {
    format!("lock `{}`", path.display())
}

fn open(path: &Path) -> Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .writing(path.parent().unwrap_or(path), || doing(path))
}

fn try_flock(file: &File, path: &Path, mode: Mode) -> Result<bool> {
    let operation = match mode {
        Mode::Shared => FlockOperation::NonBlockingLockShared,
        Mode::Exclusive => FlockOperation::NonBlockingLockExclusive,
    };
    match retry_on_intr(|| flock(file, operation)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error).doing(|| doing(path)),
    }
}

/// Whether the locked file still has its name: who waited may have got one that was removed.
fn is_current(file: &File, path: &Path) -> Result<bool> {
    let locked = file.metadata().doing(|| doing(path))?;
    match fs_err::metadata(path) {
        Ok(named) => Ok((locked.dev(), locked.ino()) == (named.dev(), named.ino())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).doing(|| doing(path)),
    }
}
