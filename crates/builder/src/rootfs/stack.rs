//! Which images a root file system is made of.
//!
//! Layers have either one image that holds all of them, or one that holds what the upper of them
//! change and lies on the root file system of the lower. Images' keys say which layers they hold and
//! how many of them are below, so what there is can be found by looking.

use firebuild_core::Digest;
use firebuild_plan::key::Chain;
use firebuild_store::Store;

use super::{VERSION, key_of};

/// A guest mounts that many images over each other at most: each costs a drive, and a look-up of
/// every name that is not in those above it.
const DEEPEST: usize = 4;

/// The key of the image that holds what the layers from number `below` on change.
pub(super) fn key(diff_ids: &[Digest], below: usize) -> Digest {
    if below == 0 {
        return key_of(diff_ids);
    }
    let (lower, all) = (Chain::of(&diff_ids[..below]), Chain::of(diff_ids));
    let text = format!("ext4 {VERSION} {} over {}", all.digest(), lower.digest());
    Digest::of(text.as_bytes())
}

/// The images of these layers, the lowest first; none if there is no root file system of them.
pub(crate) fn of_diff_ids(store: &Store, diff_ids: &[Digest]) -> Option<Vec<Digest>> {
    deep(store, diff_ids, DEEPEST)
}

fn deep(store: &Store, diff_ids: &[Digest], deepest: usize) -> Option<Vec<Digest>> {
    let whole = key_of(diff_ids);
    if store.rootfs_path(&whole).exists() {
        return Some(vec![whole]);
    }
    let left = deepest.checked_sub(1).filter(|left| *left > 0)?;
    (1..diff_ids.len()).rev().find_map(|below| {
        let top = key(diff_ids, below);
        if !store.rootfs_path(&top).exists() {
            return None;
        }
        let mut images = deep(store, &diff_ids[..below], left)?;
        images.push(top);
        Some(images)
    })
}

/// How many of these layers, of which the store has `known`, have a root file system that the rest
/// can lie on.
pub(super) fn below(store: &Store, diff_ids: &[Digest], known: usize) -> usize {
    let most = known.min(diff_ids.len().saturating_sub(1));
    let fits = |below: &usize| deep(store, &diff_ids[..*below], DEEPEST - 1).is_some();
    (1..=most).rev().find(fits).unwrap_or(0)
}
