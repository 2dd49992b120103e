//! Makes the build cache smaller: what was not used for longest goes first.
//!
//! A record whose layer an image has frees nothing, so it stays. A running build has a lease on
//! every layer that it took from the cache, so a record may go while it works.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, SystemTime};

use firebuild_core::{ByteSize, Digest};

use crate::cache::CacheEntry;
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
    /// How many records are gone.
    pub records: u64,
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
        let entries = self.cache().list()?;
        let mut records = 0;
        for key in chosen(entries, &of_images, policy, SystemTime::now()) {
            records += u64::from(self.cache().remove(&key)?);
        }
        Ok(Pruned {
            records,
            collected: self.collect()?,
        })
    }
}

/// The keys of the records that have to go.
fn chosen(
    mut entries: Vec<CacheEntry>,
    of_images: &HashSet<Digest>,
    policy: PrunePolicy,
    now: SystemTime,
) -> Vec<Digest> {
    entries.retain(|entry| !of_images.contains(&entry.record.layer));
    // The key only makes the order of equal times the same every time.
    entries.sort_by_key(|entry| (entry.last_used, entry.key));
    let mut users: BTreeMap<Digest, u64> = BTreeMap::new();
    let mut total = 0;
    for entry in &entries {
        let users = users.entry(entry.record.layer).or_default();
        *users += 1;
        if *users == 1 {
            total += entry.record.size;
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
        gone.push(entry.key);
        let users = users.entry(entry.record.layer).or_default();
        *users -= 1;
        if *users == 0 {
            total -= entry.record.size;
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CacheRecord;

    const NOW: u64 = 1000;

    /// A record of the key, layer and size, last used that many seconds ago.
    fn entry(key: &str, layer: &str, size: u64, age: u64) -> CacheEntry {
        let json = serde_json::json!({ "layer": Digest::of(layer.as_bytes()), "size": size, "created": 0 });
        CacheEntry {
            key: Digest::of(key.as_bytes()),
            record: serde_json::from_value::<CacheRecord>(json).unwrap(),
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
            let expected: Vec<Digest> = expected
                .iter()
                .map(|key| Digest::of(key.as_bytes()))
                .collect();
            assert_eq!(gone, expected, "{policy:?}");
        }
    }
}
