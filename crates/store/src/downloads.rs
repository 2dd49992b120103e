//! What was fetched from elsewhere: for an address, the content that it had and what its server
//! said of it, so that the next build can ask whether it changed instead of fetching it again.
//!
//! A record is a small JSON file beside those of the build cache, and is collected as they are: it
//! keeps its blob until it is removed. The file's modification time is when it was last used.

use std::time::SystemTime;

use firebuild_core::Digest;
use serde::{Deserialize, Serialize};

use crate::Store;
use crate::error::Result;
use crate::records::{self, Record};

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
    /// [`Error::Io`](crate::Error::Io). A record that cannot be understood is as good as none.
    pub fn get(&self, key: &Digest) -> Result<Option<DownloadRecord>> {
        records::get(self.store, key)
    }

    /// Records what a key stands for, in place of an older record. The content must be in the
    /// store.
    ///
    /// # Errors
    /// [`Error::NoBlob`](crate::Error::NoBlob), [`Error::Io`](crate::Error::Io), [`Error::NoSpace`](crate::Error::NoSpace).
    pub fn put(&self, key: &Digest, record: &DownloadRecord) -> Result<()> {
        records::put(self.store, key, record)
    }

    /// Forgets a key. Its content goes with the next [`Store::collect`], unless something else
    /// refers to it.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub fn remove(&self, key: &Digest) -> Result<bool> {
        records::remove::<DownloadRecord>(self.store, key)
    }

    /// The keys of records that cannot be understood, and so are as good as none.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub fn unreadable(&self) -> Result<Vec<Digest>> {
        records::unreadable::<DownloadRecord>(self.store)
    }

    /// All records, in no order.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub fn list(&self) -> Result<Vec<DownloadEntry>> {
        let found = records::list(self.store)?.into_iter();
        let entry = |(key, record, last_used)| DownloadEntry {
            key,
            record,
            last_used,
        };
        Ok(found.map(entry).collect())
    }
}

impl Record for DownloadRecord {
    const DIRECTORY: &'static str = "downloads";

    fn blob(&self) -> Digest {
        self.content
    }
}
