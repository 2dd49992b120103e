//! From layers to a bootable root file system: ext4 images, made once and shared by every VM.
//!
//! Layers that lie on a root file system that is there already become one more image, which holds
//! [what they change](difference) and is mounted over it, so that a second image on a known base
//! costs what it adds. A root file system is a list of images, the lowest first; [`stack`] knows which.

mod difference;
mod export;
mod stack;

use std::fs::File;
use std::ops::Range;

use firebuild_core::Digest;
use firebuild_disk::{ContentSource, ext4};
use firebuild_oci::{Destination, Fill, Lower, Room, Sources};
use firebuild_plan::key::Chain;
use firebuild_store::Store;

pub use export::{Verity, export, protect};
pub(crate) use stack::of_diff_ids as images_of;

use crate::Error;
use crate::stage::Layer;

/// Counts up when the writer's output changes.
const VERSION: u32 = 3;

/// Layers above a root file system that exists already are laid on in the guest up to this size
/// together; beyond it, a new root file system is quicker.
const LAID_ON_LIMIT: u64 = 16 << 20;

/// A root file system in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootFs {
    /// The keys of its images, the lowest first: see [`Store::rootfs_path`].
    pub images: Vec<Digest>,
}

/// The key of the image that holds all of these layers.
pub(crate) fn key_of(diff_ids: &[Digest]) -> Digest {
    Digest::of(format!("ext4 {VERSION} {}", Chain::of(diff_ids).digest()).as_bytes())
}

fn diff_ids(layers: &[Layer]) -> Vec<Digest> {
    layers.iter().map(|layer| layer.digest).collect()
}

/// The root file system of an image of the store, made if it is not there.
///
/// # Errors
/// [`Error::NoImage`], [`Error::RootFs`], and those of the store.
pub fn of_image(store: &Store, reference: &firebuild_core::Reference) -> Result<RootFs, Error> {
    let state = crate::image::state(store, reference)?;
    of_layers(store, &state.layers)
}

/// The root file system of these layers.
pub(crate) fn of_layers(store: &Store, layers: &[Layer]) -> Result<RootFs, Error> {
    let diff_ids = diff_ids(layers);
    // Nothing of it may go before somebody says that it is needed.
    let _lease = store.lease()?;
    let fill = &mut |lower: &Lower, room: &mut dyn Room, output: &File| {
        firebuild_oci::unpack_kept(store, &diff_ids, lower, room, output)
    };
    let top = Ext4.make(store, &diff_ids, diff_ids.len(), fill)?;
    // What was there a moment ago is there still, so this is found.
    let images = stack::of_diff_ids(store, &diff_ids).unwrap_or_else(|| vec![top]);
    Ok(RootFs { images })
}

/// Makes root file systems of images while they come: see [`firebuild_oci::take_in`].
#[derive(Debug, Clone, Copy)]
pub struct Ext4;

impl Destination for Ext4 {
    fn make(
        &self,
        store: &Store,
        diff_ids: &[Digest],
        known: usize,
        fill: &mut Fill<'_>,
    ) -> firebuild_oci::Result<Digest> {
        if let Some(&top) = stack::of_diff_ids(store, diff_ids)
            .as_ref()
            .and_then(|all| all.last())
        {
            return Ok(top);
        }
        let lower = stack::lower(store, diff_ids, known)?;
        let key = stack::key(diff_ids, &lower);
        let mut make = |output: &File| {
            let mut room = Free(ext4::Room::new());
            let merged = fill(&lower, &mut room, output)?;
            let options = ext4::Options {
                identity: key.bytes().to_vec(),
                ..ext4::Options::default()
            };
            let tree = match lower.common {
                0 => merged.tree,
                _ => difference::difference(&merged.below, &merged.tree)
                    .map_err(|error| firebuild_oci::Error::RootFs(error.into()))?,
            };
            let content = Placed::above(merged.sources, merged.blocks);
            ext4::finish(&tree, &content, &room.0, output, &options)
                .map_err(|error| firebuild_oci::Error::RootFs(error.into()))?;
            Ok::<(), firebuild_oci::Error>(())
        };
        store.rootfs(&key, |output| {
            make(output).map_err(|error| error.on_full_disk(store, "write a root file system"))
        })?;
        Ok(key)
    }
}

/// How many of the layers a root file system that exists has, if the rest is little; else all.
pub(crate) fn ready(store: &Store, layers: &[Layer]) -> usize {
    let diff_ids = diff_ids(layers);
    let mut above = 0;
    for count in (0..=layers.len()).rev() {
        if stack::of_diff_ids(store, &diff_ids[..count]).is_some() {
            return count;
        }
        let Some(layer) = count.checked_sub(1).and_then(|top| layers.get(top)) else {
            break;
        };
        above += layer.size;
        if above > LAID_ON_LIMIT {
            break;
        }
    }
    layers.len()
}

/// The file system's free blocks in the words of who unpacks layers.
struct Free(ext4::Room);

impl Room for Free {
    fn take(&mut self, most: u64) -> Option<Range<u64>> {
        self.0.take(most)
    }
}

/// Layers in the words of the file system's writer: those below are read, those above are unpacked.
struct Placed {
    below: Sources,
    above: Vec<ext4::Blocks>,
}

impl Placed {
    fn above(below: Sources, layers: Vec<Vec<Range<u64>>>) -> Self {
        let blocks = |runs: Vec<Range<u64>>| {
            let mut blocks = ext4::Blocks::new();
            runs.into_iter().for_each(|run| blocks.push(run));
            blocks
        };
        Self {
            below,
            above: layers.into_iter().map(blocks).collect(),
        }
    }
}

impl ContentSource for Placed {
    fn read_exact_at(&self, source: u32, offset: u64, buffer: &mut [u8]) -> std::io::Result<()> {
        self.below.read_exact_at(source, offset, buffer)
    }

    fn placed(&self, source: u32) -> Option<&ext4::Blocks> {
        let source = usize::try_from(source).ok()?;
        self.above.get(source.checked_sub(self.below.len())?)
    }
}
