//! Images in the store: a manifest, a configuration, and layers.

use firebuild_core::tree::Tree;
use firebuild_core::{Digest, ImageConfig, Reference};
use firebuild_store::layout::{self, Descriptor, Manifest};
use firebuild_store::{Blob, Lease, Store};

use crate::error::{Error, Result};
use crate::{Sources, apply, kept, layer_index};

/// An image in the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// Its manifest, as the store's index refers to it.
    pub manifest: Descriptor,
    /// Its configuration.
    pub config: ImageConfig,
    /// The digest of the configuration, which people know as the image's id.
    pub config_digest: Digest,
    /// Its layers, lowest first, as the manifest refers to them: compressed or not.
    pub layers: Vec<Descriptor>,
}

/// The image that `reference` names in the store.
///
/// # Errors
/// [`Error::NoImage`]; those of [`read_image`].
pub fn find_image(store: &Store, reference: &Reference) -> Result<Image> {
    let descriptor = store.tags().get(reference)?;
    let descriptor = descriptor.ok_or_else(|| Error::NoImage(Box::new(reference.clone())))?;
    read_image(store, &descriptor)
}

/// The image of a manifest in the store.
///
/// # Errors
/// [`Error::Store`] if a blob is missing or damaged; [`Error::Document`] for a configuration that
/// cannot be understood.
pub fn read_image(store: &Store, descriptor: &Descriptor) -> Result<Image> {
    let Manifest { config, layers, .. } = store.manifest(&descriptor.digest)?;
    let bytes = store.blob_bytes(&config.digest)?;
    Ok(Image {
        manifest: descriptor.clone(),
        config: parse_config(&bytes, &config.digest)?,
        config_digest: config.digest,
        layers,
    })
}

pub(crate) fn parse_config(bytes: &[u8], digest: &Digest) -> Result<ImageConfig> {
    serde_json::from_slice(bytes).map_err(|source| Error::Document {
        what: format!("image configuration `{digest}`"),
        source,
    })
}

/// Makes an image of layers that are in the store, and gives it these names; without any it is kept
/// without a name. `layers` are told as they are uncompressed; the configuration's list of diff ids
/// becomes theirs. The first of them may be those of another image, whose manifest's words for them
/// are `base`; the others are in the store uncompressed. So the manifest depends on nothing else that
/// the store has.
///
/// # Errors
/// [`Error::Store`].
pub fn write_image(
    lease: &Lease,
    mut config: ImageConfig,
    base: &[Descriptor],
    layers: &[Blob],
    references: &[Reference],
) -> Result<Image> {
    config.rootfs.diff_ids = layers.iter().map(|layer| layer.digest).collect();
    let bytes = serde_json::to_vec(&config).map_err(|source| Error::Document {
        what: "the image configuration".to_owned(),
        source,
    })?;
    let config_blob = lease.put(&bytes)?;
    let own = layers.iter().skip(base.len());
    let own = own.map(|layer| layer.descriptor(layout::LAYER));
    let layers: Vec<Descriptor> = base.iter().cloned().chain(own).collect();
    let manifest = Manifest::new(config_blob.descriptor(layout::CONFIG), layers.clone());
    let bytes = serde_json::to_vec(&manifest).map_err(|source| Error::Document {
        what: "the image manifest".to_owned(),
        source,
    })?;
    let mut descriptor = lease.put(&bytes)?.descriptor(layout::MANIFEST);
    descriptor.platform = Some(config.platform.clone());
    name(lease, &descriptor, references)?;
    Ok(Image {
        manifest: descriptor,
        config,
        config_digest: config_blob.digest,
        layers,
    })
}

/// Gives a manifest these names; without any it is kept without a name.
pub(crate) fn name(lease: &Lease, manifest: &Descriptor, references: &[Reference]) -> Result<()> {
    let tags = lease.store().tags();
    for reference in references {
        tags.set(reference, manifest.clone())?;
    }
    if references.is_empty() {
        tags.keep(manifest.clone())?;
    }
    Ok(())
}

/// The file tree of layers in the store, by their diff ids, lowest first, and where its files' bytes
/// are: layer `n` is source `n`.
///
/// # Errors
/// [`Error::Store`] if a layer is missing; [`Error::Layer`] and [`Error::Entry`] if one is not
/// valid.
pub fn image_tree<'a>(
    store: &Store,
    layers: impl IntoIterator<Item = &'a Digest>,
) -> Result<(Tree, Sources)> {
    let mut tree = Tree::default();
    let mut sources = Sources::new();
    lay(store, layers, &mut tree, &mut sources)?;
    Ok((tree, sources))
}

/// Lays layers in the store on a tree. Each becomes one more source.
pub(crate) fn lay<'a>(
    store: &Store,
    layers: impl IntoIterator<Item = &'a Digest>,
    tree: &mut Tree,
    sources: &mut Sources,
) -> Result<()> {
    let lease = store.lease()?;
    for diff_id in layers {
        let index = layer_index(&lease, diff_id, sources)?;
        apply(tree, index)?;
    }
    Ok(())
}

impl Image {
    /// The digests of the layers uncompressed, lowest first: what [`image_tree`] takes.
    pub fn diff_ids(&self) -> &[Digest] {
        &self.config.rootfs.diff_ids
    }

    /// The layers as they are uncompressed, lowest first: what [`write_image`] takes.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn plain_layers(&self, store: &Store) -> Result<Vec<Blob>> {
        let layers = self.diff_ids().iter().zip(&self.layers);
        let blob = |(diff_id, referred): (&Digest, &Descriptor)| {
            Ok(Blob {
                digest: *diff_id,
                size: kept::plain_size(store, diff_id, referred)?,
            })
        };
        layers.map(blob).collect()
    }
}
