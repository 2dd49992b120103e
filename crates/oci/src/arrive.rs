//! Images that come from elsewhere, by whatever way: the store gets what it lacks of them, verified
//! while it comes, and at the same time their root file systems are made.
//!
//! The manifest and the layers stay byte for byte what they were. Nothing of an image gets a name in
//! the store before all of it has been found valid.

use std::collections::HashMap;
use std::fs::File;
use std::hash::Hash;
use std::ops::Range;

use firebuild_core::tree::Tree;
use firebuild_core::{Digest, ImageConfig, Reference};
use firebuild_store::layout::{Descriptor, Manifest};
use firebuild_store::{Blob, LayerRecord, Lease, PlacedLayer, StagedBlob, Store, TemporaryFile};

use crate::error::{Error, Result};
use crate::image::{name, parse_config};
use crate::origin::Kept;
use crate::unpack::unpack;
use crate::{Arriving, Image, ImportLimits, LayerIndex, Origin, Room, Unpacked, apply, kept_layer};

/// The documents of an image, verified.
#[derive(Debug, Clone)]
pub struct Documents {
    /// Refers to the manifest.
    pub descriptor: Descriptor,
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// The configuration's bytes.
    pub config: Vec<u8>,
}

/// What a root file system is made of.
#[derive(Debug, Default)]
pub struct Merged {
    /// The files.
    pub tree: Tree,
    /// By the number of the source in which files say that their bytes are: the blocks of the image
    /// that are that source. A layer that is there several times is one source.
    pub blocks: Vec<Vec<Range<u64>>>,
}

/// Several layers, of which some may be the same.
struct Distinct {
    /// Where each of them is first.
    firsts: Vec<usize>,
    /// For each place, which of them is there.
    order: Vec<usize>,
}

impl Distinct {
    fn of<T: Eq + Hash>(layers: impl IntoIterator<Item = T>) -> Self {
        let mut known = HashMap::new();
        let (mut firsts, mut order) = (Vec::new(), Vec::new());
        for (place, layer) in layers.into_iter().enumerate() {
            let number = *known.entry(layer).or_insert_with(|| {
                firsts.push(place);
                firsts.len() - 1
            });
            order.push(number);
        }
        Self { firsts, order }
    }

    /// Lays the layers on each other, given what each of them holds.
    fn merge(&self, mut indexes: Vec<LayerIndex>) -> Result<Tree> {
        let mut tree = Tree::default();
        for (place, number) in self.order.iter().enumerate() {
            let index = if self.order[place + 1..].contains(number) {
                indexes[*number].clone()
            } else {
                std::mem::take(&mut indexes[*number])
            };
            apply(&mut tree, index)?;
        }
        Ok(tree)
    }
}

/// Unpacks layers that the store has to room of an image that is being made.
///
/// # Errors
/// [`Error::Store`] if a layer is missing, [`Error::Entry`], and those of [`unpack`].
pub fn unpack_kept<'a>(
    store: &Store,
    diff_ids: impl IntoIterator<Item = &'a Digest>,
    room: &mut dyn Room,
    output: &File,
) -> Result<Merged> {
    let diff_ids: Vec<&Digest> = diff_ids.into_iter().collect();
    let distinct = Distinct::of(&diff_ids);
    let firsts = distinct.firsts.iter();
    let layers = firsts.map(|place| kept_layer(store, diff_ids[*place]));
    let layers = layers.collect::<Result<Vec<_>>>()?;
    let unpacked = unpack(layers, room, output, &ImportLimits::default())?;
    let (indexes, blocks) = unpacked
        .into_iter()
        .map(|unpacked| (unpacked.index, unpacked.blocks))
        .unzip();
    let tree = distinct.merge(indexes)?;
    Ok(Merged { tree, blocks })
}

/// Unpacks layers to room of an image that is being made.
pub type Fill<'f> = dyn FnMut(&mut dyn Room, &File) -> Result<Merged> + 'f;

/// Makes root file systems.
pub trait Destination {
    /// Makes the root file system of the layers with these diff ids, if there is none, of what `fill`
    /// puts into it. The result is its name in the store: see [`Store::rootfs`].
    ///
    /// # Errors
    /// Those of `fill`; [`Error::RootFs`].
    fn make(&self, store: &Store, diff_ids: &[Digest], fill: &mut Fill<'_>) -> Result<Digest>;
}

/// Takes an image into the store and gives it these names; without any it is known by its digest
/// only. What the store has is not asked for.
///
/// # Errors
/// Those of the origin, of [`unpack`] and of the destination; [`Error::Document`],
/// [`Error::Invalid`], [`Error::Entry`], [`Error::Store`]. Nothing of it is then in the store.
pub fn take_in(
    store: &Store,
    documents: &Documents,
    origin: &dyn Origin,
    destination: &dyn Destination,
    references: &[Reference],
) -> Result<Image> {
    let what = format!("manifest `{}`", documents.descriptor.digest);
    let manifest: Manifest = serde_json::from_slice(&documents.manifest)
        .map_err(|source| Error::Document { what, source })?;
    let config = parse_config(&documents.config, &manifest.config.digest)?;
    check(&manifest, &config, &ImportLimits::default())?;
    let lease = store.lease()?;
    let mut intake = Intake {
        lease: &lease,
        origin,
        manifest: &manifest,
        diff_ids: &config.rootfs.diff_ids,
        arrived: Vec::new(),
    };
    let fill = &mut |room: &mut dyn Room, output: &File| intake.fill(room, output);
    let rootfs = destination.make(store, &config.rootfs.diff_ids, fill)?;
    if intake.arrived.is_empty() && intake.lacks_any()? {
        // There is such a root file system, but not these layers: they are only looked at.
        let scratch = store.temporary_file()?;
        intake.fill(&mut Endless(0), scratch.file())?;
    }
    let arrived = std::mem::take(&mut intake.arrived);
    keep(&lease, arrived, &rootfs)?;
    write(&lease, documents, manifest, config, references)
}

fn check(manifest: &Manifest, config: &ImageConfig, limits: &ImportLimits) -> Result<()> {
    let what = || format!("image configuration `{}`", manifest.config.digest);
    let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
    if layers != diff_ids {
        let reason = format!("lists {diff_ids} layers, but the manifest {layers}");
        return Err(Error::invalid(what(), reason));
    }
    if layers > limits.layers {
        let reason = format!("has more than {} layers", limits.layers);
        return Err(Error::invalid(what(), reason));
    }
    if let Some(layer) = manifest
        .layers
        .iter()
        .find(|layer| layer.size > limits.layer)
    {
        return Err(Error::TooLarge {
            what: format!("layer `{}`", layer.digest),
            limit: limits.layer,
        });
    }
    if config.platform.os != "linux" {
        let os: String = config.platform.os.chars().take(100).collect();
        let reason = format!("is for `{os}`, not for linux");
        return Err(Error::invalid(what(), reason));
    }
    Ok(())
}

/// Room that is never used up, for layers that are only looked at.
struct Endless(u64);

impl Room for Endless {
    fn take(&mut self, most: u64) -> Option<Range<u64>> {
        let start = self.0;
        self.0 = start.checked_add(most)?;
        Some(start..self.0)
    }
}

/// An image on its way.
struct Intake<'a> {
    lease: &'a Lease,
    origin: &'a dyn Origin,
    manifest: &'a Manifest,
    diff_ids: &'a [Digest],
    /// What came, once it has been unpacked.
    arrived: Vec<Arrived>,
}

/// A layer that has been unpacked.
struct Arrived {
    descriptor: Descriptor,
    diff_id: Digest,
    size: u64,
    /// Its bytes, unless the store has them.
    file: Option<(TemporaryFile, Blob)>,
    blocks: Vec<Range<u64>>,
    headers: Vec<u8>,
}

impl Intake<'_> {
    fn lacks_any(&self) -> Result<bool> {
        for (layer, diff_id) in self.manifest.layers.iter().zip(self.diff_ids) {
            if !self.has(layer, diff_id)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the store has a layer and knows it.
    fn has(&self, layer: &Descriptor, diff_id: &Digest) -> Result<bool> {
        let store = self.lease.store();
        let blob = Blob {
            digest: layer.digest,
            size: layer.size,
        };
        let known = layer.digest == *diff_id || store.layers().get(diff_id)?.is_some();
        Ok(known && store.has_whole_blob(&blob)?)
    }

    fn fill(&mut self, room: &mut dyn Room, output: &File) -> Result<Merged> {
        let listed: Vec<_> = self.manifest.layers.iter().zip(self.diff_ids).collect();
        let same =
            |(layer, diff_id): &(&Descriptor, &Digest)| (layer.digest, layer.size, **diff_id);
        let distinct = Distinct::of(listed.iter().map(same));
        let files: Vec<Kept> = distinct.firsts.iter().map(|_| Kept::default()).collect();
        let wanted = distinct.firsts.iter().map(|place| listed[*place]);
        let layers = wanted.clone().zip(&files);
        let layers = layers.map(|((layer, diff_id), file)| self.arriving(layer, diff_id, file));
        let layers = layers.collect::<Result<Vec<_>>>()?;
        let unpacked = unpack(layers, room, output, &ImportLimits::default())?;
        let mut indexes = Vec::new();
        let mut merged = Merged::default();
        for ((unpacked, file), (descriptor, _)) in unpacked.into_iter().zip(files).zip(wanted) {
            let Unpacked {
                blob,
                layer,
                index,
                blocks,
                headers,
            } = unpacked;
            indexes.push(index);
            merged.blocks.push(blocks.clone());
            let file = file.into_file()?.map(|file| (file, blob));
            self.arrived.push(Arrived {
                descriptor: descriptor.clone(),
                diff_id: layer.digest,
                size: layer.size,
                file,
                blocks,
                headers,
            });
        }
        merged.tree = distinct.merge(indexes)?;
        Ok(merged)
    }

    /// A layer as the store has it, or one that it lacks, whose bytes are then in `file` when they
    /// have come.
    fn arriving<'f>(
        &'f self,
        layer: &'f Descriptor,
        diff_id: &Digest,
        file: &'f Kept,
    ) -> Result<Arriving<'f>> {
        let store = self.lease.store();
        if self.has(layer, diff_id)? {
            return kept_layer(store, diff_id);
        }
        Ok(Arriving {
            name: format!("layer `{}`", layer.digest),
            open: Box::new(move || file.open(store, self.origin, layer)),
            blob: Some(Blob {
                digest: layer.digest,
                size: layer.size,
            }),
            diff_id: Some(*diff_id),
            trusted: false,
        })
    }
}

/// Gives the layers their names, and keeps what is known of them.
fn keep(lease: &Lease, arrived: Vec<Arrived>, rootfs: &Digest) -> Result<()> {
    let store = lease.store();
    for arrived in arrived {
        if let Some((file, blob)) = arrived.file {
            lease.stage(file, blob).and_then(StagedBlob::commit)?;
        }
        if arrived.descriptor.digest == arrived.diff_id {
            continue;
        }
        let record = LayerRecord {
            size: arrived.size,
            blob: arrived.descriptor,
            placed: Some(PlacedLayer {
                rootfs: *rootfs,
                blocks: arrived.blocks,
            }),
        };
        store
            .layers()
            .put(&arrived.diff_id, record, &arrived.headers)?;
    }
    Ok(())
}

/// Writes the documents as they came, and the names.
fn write(
    lease: &Lease,
    documents: &Documents,
    manifest: Manifest,
    config: ImageConfig,
    references: &[Reference],
) -> Result<Image> {
    lease.put(&documents.config)?;
    lease.put(&documents.manifest)?;
    let mut descriptor = Descriptor::new(
        &documents.descriptor.media_type,
        documents.descriptor.digest,
        documents.manifest.len() as u64,
    );
    descriptor.platform = Some(config.platform.clone());
    name(lease, &descriptor, references)?;
    Ok(Image {
        manifest: descriptor,
        config,
        config_digest: manifest.config.digest,
        layers: manifest.layers,
    })
}
