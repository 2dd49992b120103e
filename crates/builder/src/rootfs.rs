//! From layers to a bootable root file system: an ext4 image, made once and shared by every VM.

use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;

use firebuild_core::{ByteSize, Digest};
use firebuild_disk::verity;
pub use firebuild_disk::verity::Verity;
use firebuild_disk::{ContentSource, ext4};
use firebuild_oci::{Destination, Fill, Room};
use firebuild_plan::key::Chain;
use firebuild_store::Store;

use crate::stage::Layer;
use crate::{Error, care};

/// Counts up when the writer's output changes.
const VERSION: u32 = 3;

/// Layers above a root file system that exists already are laid on in the guest up to this size
/// together; beyond it, a new root file system is quicker.
const LAID_ON_LIMIT: u64 = 16 << 20;

/// A root file system image in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootFs {
    /// What it was made from, as one digest: its name in the store.
    pub key: Digest,
    /// The image.
    pub path: PathBuf,
}

/// The name of the root file system of these layers.
pub(crate) fn key(layers: &[Layer]) -> Digest {
    let digests: Vec<Digest> = layers.iter().map(|layer| layer.digest).collect();
    key_of(&digests)
}

pub(crate) fn key_of(diff_ids: &[Digest]) -> Digest {
    Digest::of(format!("ext4 {VERSION} {}", Chain::of(diff_ids).digest()).as_bytes())
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
    let digests = layers.iter().map(|layer| layer.digest);
    let digests: Vec<Digest> = digests.collect();
    let fill = &mut |room: &mut dyn Room, output: &File| {
        firebuild_oci::unpack_kept(store, &digests, room, output)
    };
    let key = Ext4.make(store, &digests, fill)?;
    let path = store.rootfs_path(&key);
    Ok(RootFs { key, path })
}

/// Makes root file systems of images while they come: see [`firebuild_oci::take_in`].
#[derive(Debug, Clone, Copy)]
pub struct Ext4;

impl Destination for Ext4 {
    fn make(
        &self,
        store: &Store,
        diff_ids: &[Digest],
        fill: &mut Fill<'_>,
    ) -> firebuild_oci::Result<Digest> {
        let key = key_of(diff_ids);
        store.rootfs(&key, |output| {
            let mut room = Free(ext4::Room::new());
            let merged = fill(&mut room, output)?;
            let options = ext4::Options {
                identity: key.bytes().to_vec(),
                ..ext4::Options::default()
            };
            let placed = Placed::of(merged.blocks);
            ext4::finish(&merged.tree, &placed, &room.0, output, &options)
                .map_err(|error| firebuild_oci::Error::RootFs(error.into()))?;
            Ok::<(), firebuild_oci::Error>(())
        })?;
        Ok(key)
    }
}

/// Writes the file system of an image to `output`, for use elsewhere: with a journal, and at least
/// `size`. The same image and size give the same bytes.
///
/// # Errors
/// [`Error::Image`], [`Error::RootFs`], and those of the store.
pub fn export(
    store: &Store,
    image: &firebuild_oci::Image,
    size: ByteSize,
    output: &File,
) -> Result<ext4::Summary, Error> {
    let mut room = Free(ext4::Room::new());
    let merged = firebuild_oci::unpack_kept(store, image.diff_ids(), &mut room, output)?;
    let options = ext4::Options {
        identity: key_of(image.diff_ids()).bytes().to_vec(),
        minimum_size: size,
        journal: Some(ext4::suitable_journal(size)),
        ..ext4::Options::default()
    };
    let placed = Placed::of(merged.blocks);
    ext4::finish(&merged.tree, &placed, &room.0, output, &options).map_err(Error::RootFs)
}

/// Adds a dm-verity tree behind the file system of an image, which is `size` long.
///
/// # Errors
/// [`Error::Verity`].
pub fn protect(
    image: &firebuild_oci::Image,
    size: ByteSize,
    output: &File,
) -> Result<Verity, Error> {
    let identity = key_of(image.diff_ids());
    verity::append(output, size, identity.bytes()).map_err(Error::Verity)
}

/// How many of the layers a root file system that exists has, if the rest is little; else all.
pub(crate) fn ready(store: &Store, layers: &[Layer]) -> usize {
    let mut above = 0;
    for count in (0..=layers.len()).rev() {
        if store.rootfs_path(&key(&layers[..count])).exists() {
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

/// Removes what nothing needs any more: layers that no image and no record of the cache has, and
/// root file systems of layers that are no image's and that no VM runs from. Root file systems can
/// be made again from layers, so those of a build's stages go as well.
///
/// While something is being written, nothing is removed: the next time will do it.
///
/// # Errors
/// Those of the store.
pub fn collect(store: &Store) -> Result<(), Error> {
    care::unneeded(store)?;
    Ok(())
}

/// The file system's free blocks in the words of who unpacks layers.
struct Free(ext4::Room);

impl Room for Free {
    fn take(&mut self, most: u64) -> Option<Range<u64>> {
        self.0.take(most)
    }
}

/// Layers that were unpacked in the words of the file system's writer.
struct Placed(Vec<ext4::Blocks>);

impl Placed {
    fn of(layers: Vec<Vec<Range<u64>>>) -> Self {
        let blocks = |runs: Vec<Range<u64>>| {
            let mut blocks = ext4::Blocks::new();
            runs.into_iter().for_each(|run| blocks.push(run));
            blocks
        };
        Self(layers.into_iter().map(blocks).collect())
    }
}

impl ContentSource for Placed {
    fn read_exact_at(&self, _: u32, _: u64, _: &mut [u8]) -> std::io::Result<()> {
        // Every source is placed, so none is read.
        Err(std::io::ErrorKind::Unsupported.into())
    }

    fn placed(&self, source: u32) -> Option<&ext4::Blocks> {
        self.0.get(usize::try_from(source).ok()?)
    }
}
