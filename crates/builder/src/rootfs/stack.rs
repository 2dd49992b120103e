//! Which images a root file system is made of.
//!
//! Layers have one image that holds all of them, or one that holds what they have over another root file
//! system. Images' keys tell the layers of both, so where that other one has the lower of these layers,
//! what there is can be found by looking. Where an image came whose base was never there alone, but
//! another image on that base is, it lies on that one, and a note tells so.

use firebuild_core::Digest;
use firebuild_oci::{Image, Lower};
use firebuild_plan::key::Chain;
use firebuild_store::Store;

use super::{VERSION, key_of};

/// A guest mounts that many images over each other at most: each costs a drive, and a look-up of
/// every name that is not in those above it.
const DEEPEST: usize = 4;

/// The key of the image of these layers that lies on a root file system, or on none.
pub(super) fn key(diff_ids: &[Digest], lower: &Lower) -> Digest {
    match lower.common {
        0 => key_of(diff_ids),
        _ => key_over(diff_ids, &lower.diff_ids),
    }
}

/// The key of the image that holds what layers have over others.
fn key_over(diff_ids: &[Digest], lower: &[Digest]) -> Digest {
    let (lower, all) = (Chain::of(lower), Chain::of(diff_ids));
    let text = format!("ext4 {VERSION} {} over {}", all.digest(), lower.digest());
    Digest::of(text.as_bytes())
}

/// The images of these layers, the lowest first; none if there is no root file system of them.
pub(crate) fn of_diff_ids(store: &Store, diff_ids: &[Digest]) -> Option<Vec<Digest>> {
    deep(store, diff_ids, DEEPEST)
}

fn deep(store: &Store, diff_ids: &[Digest], deepest: usize) -> Option<Vec<Digest>> {
    let is_there = |key: &Digest| store.rootfs_path(key).exists();
    // It is the note's name as well.
    let whole = key_of(diff_ids);
    if is_there(&whole) {
        return Some(vec![whole]);
    }
    let left = deepest.checked_sub(1).filter(|left| *left > 0)?;
    let above = |below| {
        let lower = &diff_ids[..below];
        let top = key_over(diff_ids, lower);
        let mut images = is_there(&top).then(|| deep(store, lower, left))??;
        images.push(top);
        Some(images)
    };
    let noted = || {
        let images = store.noted_rootfs(&whole).ok()??;
        (images.len() <= deepest && images.iter().all(is_there)).then_some(images)
    };
    (1..diff_ids.len()).rev().find_map(above).or_else(noted)
}

/// What the root file system of these layers can lie on, of which the store has `known`. Where that has
/// to be noted, it is.
pub(super) fn lower(
    store: &Store,
    diff_ids: &[Digest],
    known: usize,
) -> firebuild_oci::Result<Lower> {
    let most = known.min(diff_ids.len().saturating_sub(1));
    let images = |diff_ids: &[Digest]| deep(store, diff_ids, DEEPEST - 1);
    let fits = |below: &usize| images(&diff_ids[..*below]).is_some();
    if let Some(below) = (1..=most).rev().find(fits) {
        return Ok(Lower::all_common(&diff_ids[..below]));
    }
    let Some(another) = another(store, diff_ids, most)? else {
        return Ok(Lower::default());
    };
    let Some(mut images) = images(&another.diff_ids) else {
        return Ok(Lower::default());
    };
    images.push(key(diff_ids, &another));
    store.note_rootfs(&key_of(diff_ids), &images)?;
    Ok(another)
}

/// An image that has as many of these layers as there are in any, `most` at most. What it has beside
/// them must not be more than they are: it stays for as long as anything lies on it.
fn another(
    store: &Store,
    diff_ids: &[Digest],
    most: usize,
) -> firebuild_oci::Result<Option<Lower>> {
    let mut best: Option<Lower> = None;
    if most == 0 {
        return Ok(best);
    }
    for tagged in store.tags().list()? {
        // One that cannot be read is no use here, and is told elsewhere.
        let Ok(image) = firebuild_oci::read_image(store, &tagged.descriptor) else {
            continue;
        };
        let both = image.diff_ids().iter().zip(&diff_ids[..most]);
        let common = both.take_while(|(one, other)| one == other).count();
        let better = best.as_ref().is_none_or(|best| best.common < common);
        if common > 0 && better && is_mostly(&image, common) {
            let there = deep(store, image.diff_ids(), DEEPEST - 1).is_some();
            best = there
                .then(|| Lower {
                    diff_ids: image.diff_ids().to_vec(),
                    common,
                })
                .or(best);
        }
    }
    Ok(best)
}

/// Whether at least half of an image are its lowest `common` layers.
fn is_mostly(image: &Image, common: usize) -> bool {
    let size = |layers: &[firebuild_store::layout::Descriptor]| {
        let sizes = layers.iter().map(|layer| layer.size);
        sizes.fold(0_u64, u64::saturating_add)
    };
    let (lower, upper) = image.layers.split_at(common.min(image.layers.len()));
    size(lower) >= size(upper)
}
