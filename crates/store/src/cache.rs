//! The build cache: what an operation's key stands for.
//!
//! A record is a small JSON file; the file's modification time is when it was last used.

use std::fs::FileTimes;
use std::path::PathBuf;
use std::time::SystemTime;

use firebuild_core::Digest;
use serde::{Deserialize, Serialize};

use crate::Store;
use crate::error::{Doing, Error, Result};

/// The build cache. See [`Store::cache`].
#[derive(Debug)]
pub struct Cache<'a> {
    store: &'a Store,
}

/// The result of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheRecord {
    /// The layer: an uncompressed blob, so this is its diff id too.
    pub layer: Digest,
    /// The layer's length in bytes.
    pub size: u64,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// How long that took, in milliseconds, without waiting for others: what a hit saves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// What was done, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// A record with its key and age.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheEntry {
    /// The key.
    pub key: Digest,
    /// The record.
    pub record: CacheRecord,
    /// When it was last asked for.
    pub last_used: SystemTime,
}

impl<'a> Cache<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// The record of a key, if there is one and its layer is there; it counts as used. Hold a
    /// [`Lease`](crate::Lease), so that the layer stays.
    ///
    /// # Errors
    /// [`Error::Io`]. A record that cannot be understood is as good as none.
    pub fn get(&self, key: &Digest) -> Result<Option<CacheRecord>> {
        let path = self.path(key);
        let Some(record) = read(&path)? else {
            return Ok(None);
        };
        if !self.store.has_blob(&record.layer)? {
            return Ok(None);
        }
        // Only the order in which records are dropped depends on it.
        let _ = fs_err::File::open(&path).and_then(|file| {
            file.file()
                .set_times(FileTimes::new().set_modified(SystemTime::now()))
        });
        Ok(Some(record))
    }

    /// Records the result of a key's operation, in place of an older one. The layer must be in the
    /// store.
    ///
    /// # Errors
    /// [`Error::NoBlob`], [`Error::Io`], [`Error::NoSpace`].
    pub fn put(&self, key: &Digest, record: &CacheRecord) -> Result<()> {
        let _lease = self.store.lease()?;
        if !self.store.has_blob(&record.layer)? {
            return Err(Error::NoBlob(record.layer));
        }
        self.store.write_json(&self.path(key), record)
    }

    /// Forgets a key. Its layer goes with the next [`Store::collect`], unless an image has it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove(&self, key: &Digest) -> Result<bool> {
        let path = self.path(key);
        match fs_err::remove_file(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            other => other
                .map(|()| true)
                .doing(|| format!("remove `{}`", path.display())),
        }
    }

    /// All records, in no order.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn list(&self) -> Result<Vec<CacheEntry>> {
        let directory = self.store.path().join("cache");
        let doing = || format!("read the build cache `{}`", directory.display());
        let mut all = Vec::new();
        for entry in fs_err::read_dir(&directory).doing(doing)? {
            let entry = entry.doing(doing)?;
            let name = entry.file_name();
            let key = name.to_str().and_then(|name| name.strip_suffix(".json"));
            let key = key.and_then(|hex| format!("sha256:{hex}").parse().ok());
            let (Some(key), Some(record)) = (key, read(&entry.path())?) else {
                continue;
            };
            let metadata = entry.metadata().and_then(|metadata| metadata.modified());
            all.push(CacheEntry {
                key,
                record,
                last_used: metadata.unwrap_or(SystemTime::UNIX_EPOCH),
            });
        }
        Ok(all)
    }

    fn path(&self, key: &Digest) -> PathBuf {
        let directory = self.store.path().join("cache");
        directory.join(format!("{}.json", key.hex()))
    }
}

fn read(path: &std::path::Path) -> Result<Option<CacheRecord>> {
    match fs_err::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).doing(|| format!("read the cache record `{}`", path.display())),
    }
}
