//! Images of the store: loading them to start from, and saving what was built.

use std::fs::File;

use firebuild_core::layer::Limits;
use firebuild_core::{Digest, ImageConfig, Reference};
use firebuild_oci::{Image, LayerIndex};
use firebuild_plan::lower::{Bases, BoxError};
use firebuild_store::{Blob, Lease, Store};

use crate::Error;
use crate::stage::{Layer, StageState};

/// The images of a store, as lowering asks for them.
#[derive(Debug, Clone, Copy)]
pub struct StoreBases<'a>(pub &'a Store);

impl Bases for StoreBases<'_> {
    fn config(&self, image: &Reference) -> Result<ImageConfig, BoxError> {
        Ok(load(self.0, image)?.config)
    }
}

/// An image of the store.
pub(crate) fn load(store: &Store, reference: &Reference) -> Result<Image, Error> {
    match firebuild_oci::find_image(store, reference) {
        Err(firebuild_oci::Error::NoImage(_)) => Err(Error::NoImage {
            reference: reference.clone(),
        }),
        other => Ok(other?),
    }
}

/// An image of the store as the beginning of a stage.
pub(crate) fn state(store: &Store, reference: &Reference) -> Result<StageState, Error> {
    let image = load(store, reference)?;
    let layers = image.plain_layers(store)?.into_iter().map(|layer| Layer {
        digest: layer.digest,
        size: layer.size,
    });
    let created = crate::time::parse(image.config.created.as_deref());
    Ok(StageState {
        base: image.layers.into(),
        ..StageState::new(layers.collect(), image.config, created)
    })
}

/// What a layer of this digest holds.
pub(crate) fn index(layer: &File, source: u32, digest: &Digest) -> Result<LayerIndex, Error> {
    LayerIndex::of_file(layer, source, Limits::default()).map_err(|source| {
        Error::Image(firebuild_oci::Error::Layer {
            layer: format!("layer `{digest}`"),
            source,
        })
    })
}

/// Makes a stage an image with these names. The result is its manifest's digest.
pub(crate) fn save(lease: &Lease, state: StageState, tags: &[Reference]) -> Result<Digest, Error> {
    let mut config = state.config;
    config.created = Some(crate::time::rfc3339(state.created));
    let layers: Vec<Blob> = state
        .layers
        .iter()
        .map(|layer| Blob {
            digest: layer.digest,
            size: layer.size,
        })
        .collect();
    Ok(
        firebuild_oci::write_image(lease, config, &state.base, &layers, tags)?
            .manifest
            .digest,
    )
}
