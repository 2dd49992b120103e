//! From layers to a bootable root file system: an ext4 image, made once and shared by every VM.

use std::collections::HashSet;
use std::path::PathBuf;

use firebuild_core::Digest;
use firebuild_disk::{ContentSource, ext4};
use firebuild_oci::Sources;
use firebuild_plan::key::Chain;
use firebuild_store::Store;

use crate::Error;
use crate::stage::Layer;

/// Counts up when the writer's output changes.
const VERSION: u32 = 2;

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
    Digest::of(format!("ext4 {VERSION} {}", Chain::of(&digests).digest()).as_bytes())
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
    let key = key(layers);
    let path = store.rootfs(&key, |output| {
        let digests = layers.iter().map(|layer| &layer.digest);
        let (tree, sources) = firebuild_oci::image_tree(store, digests)?;
        let options = ext4::Options {
            identity: key.bytes().to_vec(),
            ..ext4::Options::default()
        };
        ext4::write(&tree, &Bytes(&sources), output, &options).map_err(Error::RootFs)?;
        Ok::<(), Error>(())
    })?;
    Ok(RootFs { key, path })
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
    let mut keep = HashSet::new();
    for tagged in store.tags().list()? {
        let image = firebuild_oci::read_image(store, &tagged.descriptor)?;
        let layers = image.layers.iter().map(|layer| Layer {
            digest: layer.digest,
            size: layer.size,
        });
        keep.insert(key(&layers.collect::<Vec<_>>()));
    }
    store.collect_rootfs(&keep)?;
    store.collect()?;
    Ok(())
}

/// An image's sources in the words of the file system's writer.
struct Bytes<'a>(&'a Sources);

impl ContentSource for Bytes<'_> {
    fn read_exact_at(&self, source: u32, offset: u64, buffer: &mut [u8]) -> std::io::Result<()> {
        self.0.read_exact_at(source, offset, buffer)
    }
}
