//! Makes the build cache smaller: what was not used for longest goes first, results of steps and
//! what was fetched from elsewhere and disks of cache mounts alike. A disk that is in use stays.
//!
//! A record whose layer an image has frees nothing, so it stays. A running build has a lease on
//! every layer that it took from the cache, so a record may go while it works.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, SystemTime};

use firebuild_core::{ByteSize, Digest};

use crate::cache::CacheEntry;
use crate::cache_disk::CacheDiskEntry;
use crate::downloads::DownloadEntry;
use crate::error::Result;
use crate::{Collected, Store};

/// What of the build cache may stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PrunePolicy {
    /// Layers of this many bytes together may stay; none if there is no limit of age either.
    pub keep: Option<ByteSize>,
    /// What was used in this time stays, unless `keep` says otherwise.
    pub older_than: Option<Duration>,
}

/// What pruning did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pruned {
    /// How many records are gone, disks of cache mounts included.
    pub records: u64,
    /// What the disks among them took.
    pub disk_bytes: u64,
    /// The removal of the layers that nothing refers to any more.
    pub collected: Collected,
}

impl Store {
    /// Removes records of the build cache, and then the layers that nothing refers to any more.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io), [`Error::Damaged`](crate::Error::Damaged).
    pub fn prune_cache(&self, policy: PrunePolicy) -> Result<Pruned> {
        let of_images = self.referenced_by_images()?;
        let results = self.cache().list()?.into_iter().map(Candidate::from);
        let downloads = self.downloads().list()?.into_iter().map(Candidate::from);
        let disks = self.cache_disks().list()?;
        let by_key: BTreeMap<Digest, &CacheDiskEntry> =
            disks.iter().map(|disk| (key_of(disk), disk)).collect();
        let mounts = disks
            .iter()
            .filter(|disk| !disk.in_use)
            .map(Candidate::from);
        let candidates = results.chain(downloads).chain(mounts).collect();
        let (mut records, mut disk_bytes) = (0, 0);
        for (kind, key) in chosen(candidates, &of_images, policy, SystemTime::now()) {
            let removed = match kind {
                Kind::Result => self.cache().remove(&key)?,
                Kind::Download => self.downloads().remove(&key)?,
                Kind::Mount => match by_key.get(&key) {
                    Some(disk) if self.cache_disks().remove(&disk.id, disk.number)? => {
                        disk_bytes += disk.size.0;
                        true
                    }
                    _ => false,
                },
            };
            records += u64::from(removed);
        }
        Ok(Pruned {
            records,
            disk_bytes,
            collected: self.collect()?,
        })
    }
}

fn key_of(disk: &CacheDiskEntry) -> Digest {
    Digest::of(format!("{} {}", disk.number, disk.id).as_bytes())
}

/// Of what a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Result,
    Download,
    /// The disk of a cache mount, which is a blob of its own.
    Mount,
}

/// A record that may have to go.
#[derive(Debug)]
struct Candidate {
    kind: Kind,
    key: Digest,
    /// The blob that it keeps.
    blob: Digest,
    size: u64,
    last_used: SystemTime,
}

impl From<CacheEntry> for Candidate {
    fn from(entry: CacheEntry) -> Self {
        Self {
            kind: Kind::Result,
            key: entry.key,
            blob: entry.record.layer,
            size: entry.record.size,
            last_used: entry.last_used,
        }
    }
}

impl From<DownloadEntry> for Candidate {
    fn from(entry: DownloadEntry) -> Self {
        Self {
            kind: Kind::Download,
            key: entry.key,
            blob: entry.record.content,
            size: entry.record.size,
            last_used: entry.last_used,
        }
    }
}

impl From<&CacheDiskEntry> for Candidate {
    fn from(entry: &CacheDiskEntry) -> Self {
        let key = key_of(entry);
        Self {
            kind: Kind::Mount,
            key,
            blob: key,
            size: entry.size.0,
            last_used: entry.last_used,
        }
    }
}

/// The keys of the records that have to go.
fn chosen(
    mut entries: Vec<Candidate>,
    of_images: &HashSet<Digest>,
    policy: PrunePolicy,
    now: SystemTime,
) -> Vec<(Kind, Digest)> {
    entries.retain(|entry| !of_images.contains(&entry.blob));
    // The key only makes the order of equal times the same every time.
    entries.sort_by_key(|entry| (entry.last_used, entry.key));
    let mut users: BTreeMap<Digest, u64> = BTreeMap::new();
    let mut total = 0;
    for entry in &entries {
        let users = users.entry(entry.blob).or_default();
        *users += 1;
        if *users == 1 {
            total += entry.size;
        }
    }
    let everything = policy.keep.is_none() && policy.older_than.is_none();
    let mut gone = Vec::new();
    for entry in entries {
        let age = now.duration_since(entry.last_used).unwrap_or_default();
        let too_old = policy.older_than.is_some_and(|limit| age > limit);
        let too_much = policy.keep.is_some_and(|keep| total > keep.0);
        if !(everything || too_old || too_much) {
            continue;
        }
        gone.push((entry.kind, entry.key));
        let users = users.entry(entry.blob).or_default();
        *users -= 1;
        if *users == 0 {
            total -= entry.size;
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1000;

    /// A record of the key, blob and size, last used that many seconds ago.
    fn entry(key: &str, blob: &str, size: u64, age: u64) -> Candidate {
        Candidate {
            kind: match key {
                "old" => Kind::Download,
                _ => Kind::Result,
            },
            key: Digest::of(key.as_bytes()),
            blob: Digest::of(blob.as_bytes()),
            size,
            last_used: SystemTime::UNIX_EPOCH + Duration::from_secs(NOW - age),
        }
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let entries = || {
            vec![
                entry("new", "a", 10, 1),
                entry("old", "b", 20, 30),
                entry("older", "c", 30, 40),
                entry("shares", "c", 30, 2),
                entry("image", "d", 40, 50),
            ]
        };
        let of_images = HashSet::from([Digest::of(b"d")]);
        let policy = |keep: Option<u64>, seconds: Option<u64>| PrunePolicy {
            keep: keep.map(ByteSize),
            older_than: seconds.map(Duration::from_secs),
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
        for (policy, expected) in [
            (policy(None, None), &["older", "old", "shares", "new"][..]),
            (policy(Some(100), None), &[]),
            (policy(Some(60), None), &[]),
            // The layer of the oldest one is shared, so that its going frees nothing.
            (policy(Some(40), None), &["older", "old"]),
            (policy(Some(10), None), &["older", "old", "shares"]),
            (policy(Some(0), None), &["older", "old", "shares", "new"]),
            (policy(None, Some(35)), &["older"]),
            (policy(None, Some(5)), &["older", "old"]),
            (policy(Some(10), Some(35)), &["older", "old", "shares"]),
        ] {
            let gone = chosen(entries(), &of_images, policy, now);
            let expected: Vec<(Kind, Digest)> = expected
                .iter()
                .map(|key| entry(key, "", 0, 0))
                .map(|entry| (entry.kind, entry.key))
                .collect();
            assert_eq!(gone, expected, "{policy:?}");
        }
    }
}
