//! Removes images that nobody has a name for, and with them everything that nothing needs.
//!
//! Whatever is removed is chosen while nobody has a lease: so no build is at work and no VM is
//! being made, and an image that is chosen is one that nobody is about to use.

use std::collections::HashSet;

use firebuild_core::{Digest, Reference};
use firebuild_store::{PrunePolicy, Removal, Store, Tagged, Unneeded};

use super::used;
use crate::Error;

/// An image that is gone, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrunedImage {
    /// The name it had.
    pub name: Option<Reference>,
    /// Its manifest.
    pub digest: Digest,
}

/// What is gone, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The images, each as often as it had names.
    pub images: Vec<PrunedImage>,
    /// How many root file system images.
    pub rootfs: u64,
    /// How many blobs.
    pub blobs: u64,
    /// How many records of the build cache and disks of cache mounts.
    pub records: u64,
    /// What all of it took on the host's disk.
    pub bytes: u64,
}

/// Removes images without a name, with `all` also those with one, unless a VM runs from them; and then the blobs and root
/// file systems that nothing needs any more. With `dry_run` nothing is removed. None if somebody is
/// at work: then nothing is removed either.
///
/// # Errors
/// Those of the store.
pub fn prune_images(store: &Store, all: bool, dry_run: bool) -> Result<Option<Pruned>, Error> {
    let Some(removal) = store.removal()? else {
        return Ok(None);
    };
    let run = store.machines().rootfs(true)?;
    let (gone, left) = chosen(store, all, &run)?;
    let mut pruned = Pruned::default();
    let keep = used(store, &left, &run)?.rootfs;
    if dry_run {
        let entries = left.iter().map(|tagged| &tagged.descriptor);
        pruned.count_blobs(&removal.unneeded_blobs(entries, true)?);
        pruned.count_rootfs(&removal.unneeded_rootfs(&keep)?);
    } else {
        store.tags().remove_entries(&gone)?;
        remove_unneeded(&removal, &keep, &mut pruned)?;
    }
    pruned.images = gone.into_iter().map(PrunedImage::from).collect();
    Ok(Some(pruned))
}

/// As [`prune_images`], and with everything that the build cache has. VMs that have ended are the
/// caller's to remove before; a dry run counts as if they were.
///
/// # Errors
/// Those of the store.
pub fn prune_everything(store: &Store, all: bool, dry_run: bool) -> Result<Option<Pruned>, Error> {
    if !dry_run {
        let Some(mut pruned) = prune_images(store, all, false)? else {
            return Ok(None);
        };
        let cache = store.prune_cache(PrunePolicy::default())?;
        pruned.records = cache.records;
        pruned.bytes += cache.disk_bytes;
        if let firebuild_store::Collected::Freed { blobs, bytes } = cache.collected {
            pruned.blobs += blobs;
            pruned.bytes += bytes;
        }
        return Ok(Some(pruned));
    }
    let Some(removal) = store.removal()? else {
        return Ok(None);
    };
    let run = store.machines().rootfs(false)?;
    let (gone, left) = chosen(store, all, &run)?;
    let mut pruned = Pruned::default();
    let entries: Vec<_> = left.iter().map(|tagged| &tagged.descriptor).collect();
    pruned.count_blobs(&removal.unneeded_blobs(entries.iter().copied(), false)?);
    pruned.count_rootfs(&removal.unneeded_rootfs(&used(store, &left, &run)?.rootfs)?);
    let of_images = store.referenced_by(entries)?;
    let results = store.cache().list()?;
    let results = results.iter().map(|entry| entry.record.layer);
    let downloads = store.downloads().list()?;
    let downloads = downloads.iter().map(|entry| entry.record.content);
    let records = results.chain(downloads);
    let disks = store.cache_disks().list()?;
    let disks: Vec<_> = disks.iter().filter(|disk| !disk.in_use).collect();
    pruned.records = records.filter(|blob| !of_images.contains(blob)).count() as u64;
    pruned.records += disks.len() as u64;
    pruned.bytes += disks.iter().map(|disk| disk.size.0).sum::<u64>();
    pruned.images = gone.into_iter().map(PrunedImage::from).collect();
    Ok(Some(pruned))
}

/// Removes what nothing needs any more: layers that no image and no record of the cache has, and
/// root file systems of layers that are no image's and that no VM runs from. They can be made again from
/// layers, so those of a build's stages go as well. None if somebody is at work: then nothing is removed,
/// and the next time will do it.
///
/// # Errors
/// Those of the store.
pub fn unneeded(store: &Store) -> Result<Option<Pruned>, Error> {
    let Some(removal) = store.removal()? else {
        return Ok(None);
    };
    let run = store.machines().rootfs(true)?;
    let keep = used(store, &store.tags().list()?, &run)?.rootfs;
    let mut pruned = Pruned::default();
    remove_unneeded(&removal, &keep, &mut pruned)?;
    Ok(Some(pruned))
}

fn remove_unneeded(
    removal: &Removal<'_>,
    keep: &HashSet<Digest>,
    pruned: &mut Pruned,
) -> Result<(), Error> {
    pruned.count_rootfs(&removal.remove_rootfs(keep)?);
    pruned.count_blobs(&removal.remove_blobs()?);
    Ok(())
}

/// The images that have to go, and the others, given the root file systems that VMs have.
fn chosen(
    store: &Store,
    all: bool,
    run: &[Vec<Digest>],
) -> Result<(Vec<Tagged>, Vec<Tagged>), Error> {
    let images = store.tags().list()?;
    let used = used(store, &images, run)?.manifests;
    let goes =
        |tagged: &Tagged| (all || !tagged.is_named()) && !used.contains(&tagged.descriptor.digest);
    Ok(images.into_iter().partition(goes))
}

impl Pruned {
    fn count_blobs(&mut self, blobs: &[Unneeded]) {
        self.blobs += blobs.len() as u64;
        self.bytes += blobs.iter().map(|blob| blob.taken).sum::<u64>();
    }

    fn count_rootfs(&mut self, images: &[Unneeded]) {
        self.rootfs += images.len() as u64;
        self.bytes += images.iter().map(|image| image.taken).sum::<u64>();
    }
}

impl From<Tagged> for PrunedImage {
    fn from(tagged: Tagged) -> Self {
        Self {
            name: tagged.reference,
            digest: tagged.descriptor.digest,
        }
    }
}
