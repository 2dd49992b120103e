//! What a cache mount holds, as an archive: out of its disk, and into a new one.
//!
//! A disk's file system was written by guests, so only a guest looks into it: a VM with nothing but
//! the disk sends what is there, or fills it.

use std::io::{Read, Write};

use firebuild_oci::{ImportLimits, import_layer};
use firebuild_store::{CacheDisk, Lease, Store};

use super::cache::{Disks, make};
use crate::error::StepError;
use crate::progress::{Progress, StageRef};
use crate::rootfs;
use crate::schedule::Slot;
use crate::vm::{BuildVm, Ground, VmOptions};

/// What the VM is called in events.
const STAGE: StageRef<'_> = StageRef {
    index: 0,
    name: "cache",
};

/// Writes what disk 0 of the cache `id` holds as an uncompressed archive. It starts a VM.
///
/// # Errors
/// [`StepError::NoCache`], [`StepError::CacheInUse`], and those of VM, store and output.
pub async fn export_cache_mount(
    store: &Store,
    options: &VmOptions,
    progress: &dyn Progress,
    id: &str,
    output: &mut dyn Write,
) -> Result<(), StepError> {
    let known = store.cache_disks().list()?;
    if !known.iter().any(|disk| disk.id == id && disk.number == 0) {
        return Err(StepError::NoCache(id.to_owned()));
    }
    let disk = take(store, id)?;
    let lease = store.lease()?;
    let ground = Ground {
        lease: &lease,
        options,
        progress,
        keep: false,
    };
    let (mut vm, serial) = start(ground, id, disk).await?;
    let saved = vm.save(serial).await;
    let layer = end(vm, saved).await?;
    let mut archive = store.blob(&layer.digest)?;
    std::io::copy(&mut archive, output).map_err(StepError::Write)?;
    Ok(())
}

/// Makes a cache `id` of an archive, compressed or not. It starts a VM.
///
/// # Errors
/// [`StepError::CacheExists`] if there is such a cache; those of the archive, of VM and store, and
/// then there is none.
pub async fn import_cache_mount(
    store: &Store,
    options: &VmOptions,
    progress: &dyn Progress,
    id: &str,
    input: impl Read,
) -> Result<(), StepError> {
    let known = store.cache_disks().list()?;
    if known.iter().any(|disk| disk.id == id && disk.number == 0) {
        return Err(StepError::CacheExists(id.to_owned()));
    }
    let lease = store.lease()?;
    let limits = ImportLimits::default();
    let (staged, _) = import_layer(&lease, input, "the archive", &limits)?;
    let blob = staged.commit()?;
    let disk = take(store, id)?;
    let filled = fill(&lease, options, progress, (id, disk), &blob.digest).await;
    if filled.is_err() {
        // The error is what counts; a cache that is half there is none.
        let _ = store.cache_disks().remove(id, 0);
    }
    filled
}

async fn fill(
    lease: &Lease,
    options: &VmOptions,
    progress: &dyn Progress,
    (id, disk): (&str, CacheDisk),
    layer: &firebuild_core::Digest,
) -> Result<(), StepError> {
    let ground = Ground {
        lease,
        options,
        progress,
        keep: false,
    };
    let (mut vm, serial) = start(ground, id, disk).await?;
    let filled = vm.fill(lease.store(), serial, layer).await;
    end(vm, filled).await
}

fn take(store: &Store, id: &str) -> Result<CacheDisk, StepError> {
    let disk = store.cache_disks().try_take(id, 0, make)?;
    disk.ok_or_else(|| StepError::CacheInUse(id.to_owned()))
}

/// A VM that has nothing but the disk, and the disk's serial.
async fn start<'a>(
    ground: Ground<'a>,
    id: &str,
    disk: CacheDisk,
) -> Result<(BuildVm<'a>, String), StepError> {
    let mut disks = Disks::default();
    disks.add(id, disk);
    let serial = disks.serial(id).unwrap_or_default().to_owned();
    let root = rootfs::of_layers(ground.lease.store(), &[])?;
    let vm = BuildVm::start(ground, STAGE, (root, 0), (Slot::beside(), disks)).await?;
    Ok((vm, serial))
}

async fn end<T>(vm: BuildVm<'_>, result: Result<T, StepError>) -> Result<T, StepError> {
    match result {
        Ok(value) => {
            vm.finish().await?;
            Ok(value)
        }
        Err(error) => {
            vm.abandon().await;
            Err(error)
        }
    }
}
