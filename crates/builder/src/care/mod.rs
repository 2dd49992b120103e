//! Care of the store: what nothing needs goes, and what is there can be counted and checked.
//!
//! The store knows what refers to what; only here is known which root file system an image has, and
//! so which images VMs run from.

mod prune;
mod repair;
mod restore;
#[cfg(test)]
mod tests;
mod verify;

use std::collections::HashSet;

use firebuild_core::Digest;
use firebuild_oci::Image;
use firebuild_store::{Store, Tagged, Usage, Used};

pub use prune::{Pruned, PrunedImage, prune_everything, prune_images, unneeded};

pub use repair::{Outcome, repair};
pub use restore::{incomplete, look_again};
pub use verify::{Finding, Meter, Part, Remedy, Report, verify};

use crate::{Error, rootfs, verified};

/// An image by its entry in the store's index; none if a part of it is missing or cannot be
/// understood.
fn readable(store: &Store, tagged: &Tagged) -> Result<Option<Image>, Error> {
    match firebuild_oci::read_image(store, &tagged.descriptor) {
        Ok(image) => Ok(Some(image)),
        Err(firebuild_oci::Error::Store(error @ firebuild_store::Error::Io { .. })) => {
            Err(error.into())
        }
        Err(_) => Ok(None),
    }
}

/// Which of these images run, given the root file systems that VMs have, and what root file systems
/// all of them have, those of VMs included.
fn used(store: &Store, images: &[Tagged], run: &[Vec<Digest>]) -> Result<Used, Error> {
    // Those below the highest may be other images' as well.
    let highest: HashSet<&Digest> = run.iter().filter_map(|images| images.last()).collect();
    let mut used = Used::default();
    for tagged in images {
        if let Some(image) = readable(store, tagged)? {
            let layers = image.diff_ids();
            let images = rootfs::images_of(store, layers).unwrap_or_default();
            let verified = verified::key_of(layers);
            let tops = images.last().into_iter().chain([&verified]);
            if tops.into_iter().any(|key| highest.contains(key)) {
                used.manifests.insert(tagged.descriptor.digest);
            }
            used.rootfs.extend(images);
            used.rootfs.insert(verified);
        }
    }
    used.rootfs.extend(run.iter().flatten());
    Ok(used)
}

/// What the store takes on the host's disk. What can be had back is what
/// [`prune_everything`] with `all` would remove.
///
/// # Errors
/// Those of the store.
pub fn usage(store: &Store) -> Result<Vec<Usage>, Error> {
    let _lease = store.lease()?;
    let images = store.tags().list()?;
    let run = store.machines().rootfs(false)?;
    let manifests = used(store, &images, &run)?.manifests;
    let rootfs = run.into_iter().flatten().collect();
    Ok(store.usage(&Used { manifests, rootfs })?)
}
