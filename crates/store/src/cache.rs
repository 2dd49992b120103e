//! The build cache: what an operation's key stands for.
//!
//! A record is a small JSON file; the file's modification time is when it was last used.

use std::time::SystemTime;

use firebuild_core::Digest;
use serde::{Deserialize, Serialize};

use crate::Store;
use crate::error::Result;
use crate::records::{self, Record};

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
    /// [`Error::Io`](crate::Error::Io). A record that cannot be understood is as good as none.
    pub fn get(&self, key: &Digest) -> Result<Option<CacheRecord>> {
        records::get(self.store, key)
    }

    /// Records the result of a key's operation, in place of an older one. The layer must be in the
    /// store.
    ///
    /// # Errors
    /// [`Error::NoBlob`](crate::Error::NoBlob), [`Error::Io`](crate::Error::Io), [`Error::NoSpace`](crate::Error::NoSpace).
    pub fn put(&self, key: &Digest, record: &CacheRecord) -> Result<()> {
        records::put(self.store, key, record)
    }

    /// Forgets a key. Its layer goes with the next [`Store::collect`], unless an image has it.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub fn remove(&self, key: &Digest) -> Result<bool> {
        records::remove::<CacheRecord>(self.store, key)
    }

    /// The keys of records that cannot be understood, and so are as good as none.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub fn unreadable(&self) -> Result<Vec<Digest>> {
        records::unreadable::<CacheRecord>(self.store)
    }

    /// All records, in no order.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub fn list(&self) -> Result<Vec<CacheEntry>> {
        let found = records::list(self.store)?.into_iter();
        let entry = |(key, record, last_used)| CacheEntry {
            key,
            record,
            last_used,
        };
        Ok(found.map(entry).collect())
    }
}

impl Record for CacheRecord {
    const DIRECTORY: &'static str = "cache";

    fn blob(&self) -> Digest {
        self.layer
    }
}
