//! What the store takes on the host's disk, by what it is for.
//!
//! Each file counts once, for the first that needs it: a layer that an image and the build cache
//! share is the image's. What counts is what a file takes, not its length. Others may work
//! meanwhile, so the numbers are those of no one moment; a file that goes while they are taken
//! counts or not.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use firebuild_core::Digest;

use crate::collect::{digest_of, files_of};
use crate::error::{Doing, Result};
use crate::{Store, cache_disk, events, layers, partial, volume};

/// What something in the store is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    /// Manifests, configurations and layers of images.
    Images,
    /// Root file system images.
    RootFileSystems,
    /// Results of earlier builds' steps that no image has.
    BuildCache,
    /// What builds fetched and no image has.
    Downloads,
    /// The disks of cache mounts.
    CacheMounts,
    /// Volumes.
    Volumes,
    /// Kernels with what belongs to them.
    Kernels,
    /// Disks and records of VMs.
    Machines,
    /// What nothing refers to, what is being made, and notes that only save time.
    Other,
}

/// How much of one category there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// What it is for.
    pub category: Category,
    /// How many there are: images, root file systems, records, disks, kernels, VMs, files.
    pub count: u64,
    /// What they take on the host's disk, in bytes.
    pub bytes: u64,
    /// How much of that can be had back without losing what is in use.
    pub reclaimable: u64,
}

/// What is in use, as the store itself cannot know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Used {
    /// The manifests of images that VMs run.
    pub manifests: HashSet<Digest>,
    /// The keys of root file systems to keep.
    pub rootfs: HashSet<Digest>,
}

impl Store {
    /// What the store takes, category by category.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io), [`Error::Damaged`](crate::Error::Damaged).
    pub fn usage(&self, used: &Used) -> Result<Vec<Usage>> {
        let mut all = self.blob_usage(used)?;
        all.insert(1, self.rootfs_usage(used)?);
        all.insert(4, self.disk_usage()?);
        all.insert(5, self.volume_usage()?);
        all.insert(6, self.kernel_usage()?);
        all.insert(7, self.machine_usage()?);
        Ok(all)
    }

    /// Images, build cache, downloads and the rest.
    fn blob_usage(&self, used: &Used) -> Result<Vec<Usage>> {
        let entries = self.tags().read()?.manifests;
        let manifests: HashSet<Digest> = entries.iter().map(|entry| entry.digest).collect();
        let in_use = entries
            .iter()
            .filter(|entry| used.manifests.contains(&entry.digest));
        let in_use = self.referenced_by(in_use)?;
        let of_images = self.referenced_by(&entries)?;
        let results = self.cache().list()?;
        let layers: HashSet<Digest> = results.iter().map(|entry| entry.record.layer).collect();
        let downloads = self.downloads().list()?;
        let fetched: HashSet<Digest> = downloads.iter().map(|entry| entry.record.content).collect();
        let mut images = Usage::none(Category::Images, manifests.len() as u64);
        let mut cache = Usage::none(Category::BuildCache, results.len() as u64);
        let mut downloads = Usage::none(Category::Downloads, downloads.len() as u64);
        let mut other = Usage::none(Category::Other, 0);
        for path in files_of(&self.path().join("images/blobs/sha256"))? {
            let taken = taken(&path)?;
            let digest = digest_of(&path, "");
            let is_in = |set: &HashSet<Digest>| digest.is_some_and(|digest| set.contains(&digest));
            if is_in(&of_images) {
                images.add(taken, !is_in(&in_use));
            } else if is_in(&layers) {
                cache.add(taken, true);
            } else if is_in(&fetched) {
                downloads.add(taken, true);
            } else {
                other.count += 1;
                other.add(taken, true);
            }
        }
        cache.add(taken(&self.path().join("cache"))?, false);
        downloads.add(taken(&self.path().join("downloads"))?, false);
        for directory in [
            layers::DIRECTORY,
            partial::DIRECTORY,
            "contexts",
            "copied",
            "tmp",
            events::DIRECTORY,
        ] {
            other.add(taken(&self.path().join(directory))?, false);
        }
        Ok(vec![images, cache, downloads, other])
    }

    fn rootfs_usage(&self, used: &Used) -> Result<Usage> {
        let unneeded = self.rootfs_without(&used.rootfs)?;
        let keys = self.rootfs_list()?;
        let mut usage = Usage::none(Category::RootFileSystems, keys.len() as u64);
        for key in keys {
            let unneeded = unneeded.iter().any(|image| image.digest == key);
            usage.add(taken(&self.rootfs_path(&key))?, unneeded);
        }
        Ok(usage)
    }

    fn disk_usage(&self) -> Result<Usage> {
        let disks = self.cache_disks().list()?;
        let mut usage = Usage::none(Category::CacheMounts, disks.len() as u64);
        for disk in &disks {
            usage.add(disk.size.0, !disk.in_use);
        }
        let all = taken(&self.path().join(cache_disk::DIRECTORY))?;
        usage.bytes = usage.bytes.max(all);
        Ok(usage)
    }

    /// None of it can be had back: whether a volume is still wanted only its owner knows.
    fn volume_usage(&self) -> Result<Usage> {
        let volumes = self.volumes().list()?;
        let mut usage = Usage::none(Category::Volumes, volumes.len() as u64);
        usage.add(taken(&self.path().join(volume::DIRECTORY))?, false);
        Ok(usage)
    }

    fn kernel_usage(&self) -> Result<Usage> {
        let kernels = self.kernels().list()?;
        let mut usage = Usage::none(Category::Kernels, kernels.len() as u64);
        usage.add(taken(&self.path().join("kernels"))?, false);
        Ok(usage)
    }

    fn machine_usage(&self) -> Result<Usage> {
        let machines = self.machines();
        let identities = machines.identities()?;
        let mut usage = Usage::none(Category::Machines, identities.len() as u64);
        for identity in &identities {
            // One that was removed meanwhile takes nothing.
            let has_ended = machines.is_running(&identity.id).is_ok_and(|runs| !runs);
            usage.add(taken(&machines.path(&identity.id))?, has_ended);
        }
        Ok(usage)
    }
}

impl Usage {
    fn none(category: Category, count: u64) -> Self {
        Self {
            category,
            count,
            bytes: 0,
            reclaimable: 0,
        }
    }

    fn add(&mut self, bytes: u64, reclaimable: bool) {
        self.bytes += bytes;
        if reclaimable {
            self.reclaimable += bytes;
        }
    }
}

/// What a file takes on the disk, or all files below a directory. Nothing, if it is not there.
fn taken(path: &Path) -> Result<u64> {
    let doing = || format!("look at `{}`", path.display());
    let metadata = match fs_err::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        other => other.doing(doing)?,
    };
    if !metadata.is_dir() {
        return Ok(metadata.blocks() * 512);
    }
    let mut sum = 0;
    let entries = match fs_err::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        other => other.doing(doing)?,
    };
    for entry in entries {
        sum += taken(&entry.doing(doing)?.path())?;
    }
    Ok(sum)
}
