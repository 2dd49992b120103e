//! Mends what [`super::verify()`] found: broken bytes go, and what can be made again is.
//!
//! A blob that is not what its name says goes even if an image needs it: nobody can use it, and as
//! long as it is there nobody would fetch it again.

use std::collections::HashMap;

use firebuild_core::Digest;
use firebuild_store::layout::Descriptor;
use firebuild_store::{Removal, Store};

use super::readable;
use super::verify::{Part, Remedy, Report, problem_of, problem_of_rootfs};
use crate::Error;

/// What became of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is as it should be, or gone without loss.
    Mended,
    /// What was broken is gone, and images need it: they have to be fetched again.
    Missing,
    /// It is as it was: a VM runs from it, or only a person can do something about it.
    Left,
}

/// Mends what can be mended; the outcomes are in the order of the findings. None if somebody is at
/// work: then nothing was done.
///
/// # Errors
/// Those of the store.
pub fn repair(store: &Store, report: &Report) -> Result<Option<Vec<Outcome>>, Error> {
    let Some(removal) = store.removal()? else {
        return Ok(None);
    };
    // In the order of the parts: what becomes of a blob decides what becomes of its records.
    let mut outcomes = Vec::new();
    let mut blobs = None;
    for finding in &report.findings {
        outcomes.push(match (finding.part, finding.remedy) {
            (_, Remedy::ByHand) | (Part::Index, _) => Outcome::Left,
            (Part::Blob(digest), remedy) => {
                remove_blob(&removal, &digest)?;
                match remedy {
                    Remedy::Fetch => Outcome::Missing,
                    _ => Outcome::Mended,
                }
            }
            (Part::RootFs(key), _) => remove_rootfs(store, &key)?,
            (Part::Layer(diff_id), _) => {
                let blobs = match &blobs {
                    Some(blobs) => blobs,
                    None => blobs.insert(blobs_of_layers(store)?),
                };
                learn_again(store, &diff_id, blobs.get(&diff_id))?
            }
            (Part::Result(key), _) => {
                store.cache().remove(&key)?;
                Outcome::Mended
            }
            (Part::Download(key), _) => {
                store.downloads().remove(&key)?;
                Outcome::Mended
            }
        });
    }
    Ok(Some(outcomes))
}

/// Removes a blob, unless it has become the right one since it was looked at.
fn remove_blob(removal: &Removal<'_>, digest: &Digest) -> Result<(), Error> {
    let store = removal.store();
    if store.has_blob(digest)? && problem_of(store, digest, &|_| {}).is_some() {
        removal.remove_broken(digest)?;
    }
    Ok(())
}

fn remove_rootfs(store: &Store, key: &Digest) -> Result<Outcome, Error> {
    if problem_of_rootfs(store, key).is_none() {
        return Ok(Outcome::Mended);
    }
    match store.rootfs_remove(key) {
        Ok(_) => Ok(Outcome::Mended),
        Err(firebuild_store::Error::RootfsInUse { .. }) => Ok(Outcome::Left),
        Err(error) => Err(error.into()),
    }
}

/// Forgets what was noted of a layer and notes it anew, if an image has it.
fn learn_again(
    store: &Store,
    diff_id: &Digest,
    blob: Option<&Descriptor>,
) -> Result<Outcome, Error> {
    store.layers().remove(diff_id)?;
    let Some(blob) = blob else {
        return Ok(Outcome::Mended);
    };
    match firebuild_oci::relearn(store, diff_id, blob) {
        Ok(true) => Ok(Outcome::Mended),
        Ok(false) | Err(firebuild_oci::Error::Store(firebuild_store::Error::NoBlob(_))) => {
            Ok(Outcome::Missing)
        }
        Err(error) => Err(error.into()),
    }
}

/// The blobs that hold images' layers, by what they are uncompressed.
fn blobs_of_layers(store: &Store) -> Result<HashMap<Digest, Descriptor>, Error> {
    let mut blobs = HashMap::new();
    for tagged in store.tags().list()? {
        if let Some(image) = readable(store, &tagged)? {
            for (diff_id, layer) in image.diff_ids().iter().zip(&image.layers) {
                if layer.digest != *diff_id && store.has_blob(&layer.digest)? {
                    blobs.insert(*diff_id, layer.clone());
                }
            }
        }
    }
    Ok(blobs)
}
