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
use firebuild_core::{Digest, ImageConfig, Reference, printable};
use firebuild_store::layout::{Descriptor, Manifest};
use firebuild_store::{Blob, LayerRecord, Lease, PlacedLayer, StagedBlob, Store};

use crate::error::{Error, Result};
use crate::image::{lay, name, parse_config};
use crate::origin::Kept;
use crate::unpack::unpack;
use crate::{
    Arriving, Image, ImportLimits, LayerIndex, Origin, Room, Sources, Unpacked, apply, image_tree,
    kept_layer,
};

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

/// Layers of which there is a root file system, and another one's lowest are among them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lower {
    /// Their diff ids, the lowest first.
    pub diff_ids: Vec<Digest>,
    /// How many of the lowest of them are the other one's, too: at most all of them.
    pub common: usize,
}

impl Lower {
    /// Layers that are all the other one's.
    #[must_use]
    pub fn all_common(diff_ids: &[Digest]) -> Self {
        Self {
            diff_ids: diff_ids.to_vec(),
            common: diff_ids.len(),
        }
    }
}

/// What a root file system is made of.
#[derive(Debug, Default)]
pub struct Merged {
    /// The files of [`Lower`].
    pub below: Tree,
    /// Where their bytes are: those of layer `n` of it in source `n`.
    pub sources: Sources,
    /// The files of all layers.
    pub tree: Tree,
    /// By the number of the source in which files say that their bytes are, counted from the last one
    /// below: the blocks of the image that are that source. A layer that is there several times is one
    /// source.
    pub blocks: Vec<Vec<Range<u64>>>,
}

impl Merged {
    /// Layers that the store has, to lay others on those of them that are common.
    fn over(store: &Store, lower: &Lower) -> Result<Self> {
        let (common, further) = lower.diff_ids.split_at(lower.common);
        let (tree, mut sources) = image_tree(store, common)?;
        let mut below = tree.clone();
        lay(store, further, &mut below, &mut sources)?;
        Ok(Self {
            below,
            sources,
            tree,
            blocks: Vec::new(),
        })
    }

    /// The source of the next layer.
    fn next(&self) -> u32 {
        self.sources.next_number()
    }
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
    fn merge(&self, tree: &mut Tree, mut indexes: Vec<LayerIndex>) -> Result<()> {
        for (place, number) in self.order.iter().enumerate() {
            let index = if self.order[place + 1..].contains(number) {
                indexes[*number].clone()
            } else {
                std::mem::take(&mut indexes[*number])
            };
            apply(tree, index)?;
        }
        Ok(())
    }
}

/// Unpacks layers that the store has to room of an image that is being made, except for the lowest
/// ones that are in `lower`, of which only the files are told.
///
/// # Errors
/// [`Error::Store`] if a layer is missing, [`Error::Entry`], and those of [`unpack`].
pub fn unpack_kept(
    store: &Store,
    diff_ids: &[Digest],
    lower: &Lower,
    room: &mut dyn Room,
    output: &File,
) -> Result<Merged> {
    let above = diff_ids.get(lower.common..).unwrap_or_default();
    let mut merged = Merged::over(store, lower)?;
    let distinct = Distinct::of(above);
    let firsts = distinct.firsts.iter();
    let layers = firsts.map(|place| kept_layer(store, &above[*place]));
    let layers = layers.collect::<Result<Vec<_>>>()?;
    let limits = ImportLimits::default();
    let unpacked = unpack(layers, merged.next(), room, output, &limits)?;
    let mut indexes = Vec::new();
    for layer in unpacked {
        indexes.push(layer.index);
        merged.blocks.push(layer.blocks);
    }
    distinct.merge(&mut merged.tree, indexes)?;
    Ok(merged)
}

/// Unpacks layers to room of an image that is being made, except for the lowest that are in the
/// layers that it is told, of which there is a root file system.
pub type Fill<'f> = dyn FnMut(&Lower, &mut dyn Room, &File) -> Result<Merged> + 'f;

/// Makes root file systems.
pub trait Destination {
    /// Makes the root file system of the layers with these diff ids, if there is none, of what `fill`
    /// puts into it. What it makes may lie on another root file system, which has the lowest of these
    /// layers, of which the store has `known`. The result is its name in the store: see [`Store::rootfs`].
    ///
    /// # Errors
    /// Those of `fill`; [`Error::RootFs`].
    fn make(
        &self,
        store: &Store,
        diff_ids: &[Digest],
        known: usize,
        fill: &mut Fill<'_>,
    ) -> Result<Digest>;
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
    let known = intake.known()?;
    let fill =
        &mut |lower: &Lower, room: &mut dyn Room, output: &File| intake.fill(lower, room, output);
    let rootfs = destination.make(store, &config.rootfs.diff_ids, known, fill)?;
    if intake.arrived.is_empty() && known < manifest.layers.len() {
        // There is such a root file system, but not these layers: they are only looked at.
        let scratch = store.temporary_file()?;
        let lower = Lower::all_common(&config.rootfs.diff_ids[..known]);
        intake.fill(&lower, &mut Endless(0), scratch.file())?;
        intake
            .arrived
            .iter_mut()
            .for_each(|layer| layer.blocks = None);
    }
    let arrived = std::mem::take(&mut intake.arrived);
    keep(&lease, arrived, &rootfs)?;
    write(&lease, documents, manifest, config, references)
}

fn check(manifest: &Manifest, config: &ImageConfig, limits: &ImportLimits) -> Result<()> {
    let what = || format!("image configuration `{}`", manifest.config.digest);
    let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
    if layers != diff_ids {
        let s = if diff_ids == 1 { "" } else { "s" };
        let reason = format!("lists {diff_ids} layer{s}, but the manifest {layers}");
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
        let os = printable(&config.platform.os, 100);
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
    blob: Blob,
    /// Its bytes, unless the store has them. What is not kept in the end can be gone on with.
    file: Kept,
    /// Where its files' bytes are in the root file system, if they are.
    blocks: Option<Vec<Range<u64>>>,
    headers: Vec<u8>,
}

impl Intake<'_> {
    /// How many of the lowest layers the store has and knows.
    fn known(&self) -> Result<usize> {
        let mut known = 0;
        for (layer, diff_id) in self.manifest.layers.iter().zip(self.diff_ids) {
            if !self.has(layer, diff_id)? {
                break;
            }
            known += 1;
        }
        Ok(known)
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

    fn fill(&mut self, lower: &Lower, room: &mut dyn Room, output: &File) -> Result<Merged> {
        let mut merged = Merged::over(self.lease.store(), lower)?;
        let listed = self.manifest.layers.iter().zip(self.diff_ids);
        let listed: Vec<_> = listed.skip(lower.common).collect();
        let same =
            |(layer, diff_id): &(&Descriptor, &Digest)| (layer.digest, layer.size, **diff_id);
        let distinct = Distinct::of(listed.iter().map(same));
        let files: Vec<Kept> = distinct.firsts.iter().map(|_| Kept::default()).collect();
        let wanted = distinct.firsts.iter().map(|place| listed[*place]);
        let layers = wanted.clone().zip(&files);
        let layers = layers.map(|((layer, diff_id), file)| self.arriving(layer, diff_id, file));
        let layers = layers.collect::<Result<Vec<_>>>()?;
        let limits = ImportLimits::default();
        let unpacked = unpack(layers, merged.next(), room, output, &limits)?;
        let mut indexes = Vec::new();
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
            self.arrived.push(Arrived {
                descriptor: descriptor.clone(),
                diff_id: layer.digest,
                size: layer.size,
                blob,
                file,
                blocks: Some(blocks),
                headers,
            });
        }
        distinct.merge(&mut merged.tree, indexes)?;
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
        if let Some(file) = arrived.file.into_file()? {
            let staged = lease.stage(file, arrived.blob);
            staged.and_then(StagedBlob::commit)?;
        }
        if arrived.descriptor.digest == arrived.diff_id {
            continue;
        }
        let record = LayerRecord {
            size: arrived.size,
            blob: arrived.descriptor,
            placed: arrived.blocks.map(|blocks| PlacedLayer {
                rootfs: *rootfs,
                blocks,
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
