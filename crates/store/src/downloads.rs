//! What was fetched from elsewhere: for an address, the content that it had and what its server
//! said of it, so that the next build can ask whether it changed instead of fetching it again.
//!
//! A record is a small JSON file beside those of the build cache, and is collected as they are: it
//! keeps its blob until it is removed. The file's modification time is when it was last used.

use std::fs::FileTimes;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use firebuild_core::Digest;
use serde::{Deserialize, Serialize};

use crate::Store;
use crate::error::{Doing, Error, Result};

/// The records of what was fetched. See [`Store::downloads`].
#[derive(Debug)]
pub struct Downloads<'a> {
    store: &'a Store,
}

/// What was at an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownloadRecord {
    /// The content: a blob of the store.
    pub content: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// The address for people, without what it may say of their passwords.
    pub address: String,
    /// When it was fetched, or last found unchanged, in seconds since 1970.
    pub fetched: u64,
    /// The server's name for this version of it (`ETag`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// When it last changed, as the server wrote it (`Last-Modified`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
}

/// A record with its key and age.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownloadEntry {
    /// The key: a digest of the address and whatever else decides the content.
    pub key: Digest,
    /// The record.
    pub record: DownloadRecord,
    /// When it was last asked for.
    pub last_used: SystemTime,
}

impl Store {
    /// The records of what was fetched from elsewhere.
    #[must_use]
    pub fn downloads(&self) -> Downloads<'_> {
        Downloads { store: self }
    }
}

impl Downloads<'_> {
    /// The record of a key, if there is one and its content is there; it counts as used. Hold a
    /// [`Lease`](crate::Lease), so that the content stays.
    ///
    /// # Errors
    /// [`Error::Io`]. A record that cannot be understood is as good as none.
    pub fn get(&self, key: &Digest) -> Result<Option<DownloadRecord>> {
        let path = self.path(key);
        let Some(record) = read(&path)? else {
            return Ok(None);
        };
        if !self.store.has_blob(&record.content)? {
            return Ok(None);
        }
        // Only the order in which records are dropped depends on it.
        let _ = fs_err::File::open(&path).and_then(|file| {
            file.file()
                .set_times(FileTimes::new().set_modified(SystemTime::now()))
        });
        Ok(Some(record))
    }

    /// Records what a key stands for, in place of an older record. The content must be in the
    /// store.
    ///
    /// # Errors
    /// [`Error::NoBlob`], [`Error::Io`], [`Error::NoSpace`].
    pub fn put(&self, key: &Digest, record: &DownloadRecord) -> Result<()> {
        let _lease = self.store.lease()?;
        if !self.store.has_blob(&record.content)? {
            return Err(Error::NoBlob(record.content));
        }
        self.store.write_json(&self.path(key), record)
    }

    /// Forgets a key. Its content goes with the next [`Store::collect`], unless something else
    /// refers to it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove(&self, key: &Digest) -> Result<bool> {
        let path = self.path(key);
        match fs_err::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            other => other
                .map(|()| true)
                .doing(|| format!("remove `{}`", path.display())),
        }
    }

    /// All records, in no order.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn list(&self) -> Result<Vec<DownloadEntry>> {
        let directory = self.store.path().join("downloads");
        let doing = || format!("read the downloads `{}`", directory.display());
        let mut all = Vec::new();
        for entry in fs_err::read_dir(&directory).doing(doing)? {
            let entry = entry.doing(doing)?;
            let name = entry.file_name();
            let key = name.to_str().and_then(|name| name.strip_suffix(".json"));
            let key = key.and_then(|hex| format!("sha256:{hex}").parse().ok());
            let (Some(key), Some(record)) = (key, read(&entry.path())?) else {
                continue;
            };
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            all.push(DownloadEntry {
                key,
                record,
                last_used: modified.unwrap_or(SystemTime::UNIX_EPOCH),
            });
        }
        Ok(all)
    }

    fn path(&self, key: &Digest) -> PathBuf {
        let directory = self.store.path().join("downloads");
        directory.join(format!("{}.json", key.hex()))
    }
}

fn read(path: &Path) -> Result<Option<DownloadRecord>> {
    match fs_err::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).doing(|| format!("read the record `{}`", path.display())),
    }
}
