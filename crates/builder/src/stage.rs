//! One stage while it is built: its layers, its configuration, and its files as a tree.

use std::sync::LazyLock;

use firebuild_core::config::History;
use firebuild_core::layer::LayerWriter;
use firebuild_core::{Digest, ImageConfig};
use firebuild_plan::key::Chain;
use firebuild_store::Store;

use crate::Error;
use crate::image;
use crate::sources::Files;

/// A layer of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layer {
    /// The digest of its uncompressed bytes, under which the store has them.
    pub(crate) digest: Digest,
    /// Their number.
    pub(crate) size: u64,
}

impl Layer {
    /// The bytes of a layer without entries.
    pub(crate) fn empty_bytes() -> Vec<u8> {
        // Writing to memory does not fail.
        LayerWriter::new(Vec::new()).finish().unwrap_or_default()
    }

    /// The layer, or none for one without entries: as with BuildKit, images have no such layers.
    pub(crate) fn unless_empty(self) -> Option<Self> {
        static EMPTY: LazyLock<Digest> = LazyLock::new(|| Digest::of(&Layer::empty_bytes()));
        (self.digest != *EMPTY).then_some(self)
    }
}

/// What a stage has become so far.
#[derive(Debug)]
pub(crate) struct StageState {
    pub(crate) layers: Vec<Layer>,
    pub(crate) chain: Chain,
    pub(crate) config: ImageConfig,
    /// When its newest part was made, in seconds since 1970.
    pub(crate) created: u64,
    files: Files,
    /// How many of the layers are in `files`.
    applied: usize,
}

impl StageState {
    /// A stage that starts from these layers and this configuration.
    pub(crate) fn new(layers: Vec<Layer>, mut config: ImageConfig, created: u64) -> Self {
        firebuild_plan::lower::begin(&mut config);
        let digests: Vec<Digest> = layers.iter().map(|layer| layer.digest).collect();
        Self {
            chain: Chain::of(&digests),
            layers,
            config,
            created,
            files: Files::default(),
            applied: 0,
        }
    }

    /// A stage that starts from another.
    pub(crate) fn from_stage(parent: &Self) -> Self {
        Self::new(parent.layers.clone(), parent.config.clone(), parent.created)
    }

    /// Adds a step's layer and its line of history.
    pub(crate) fn push(&mut self, layer: Option<Layer>, created: u64, history: Option<&str>) {
        self.created = self.created.max(created);
        if let Some(layer) = layer {
            self.chain = self.chain.with(&layer.digest);
            self.layers.push(layer);
            self.config.rootfs.diff_ids.push(layer.digest);
        }
        let Some(history) = history else {
            return;
        };
        self.config.history.push(History {
            created: Some(crate::time::rfc3339(self.created)),
            created_by: Some(history.to_owned()),
            comment: Some("buildkit.dockerfile.v0".to_owned()),
            empty_layer: layer.is_none(),
            ..History::default()
        });
    }

    /// The files of all layers so far.
    pub(crate) fn files(&mut self, store: &Store) -> Result<&Files, Error> {
        while let Some(layer) = self.layers.get(self.applied).copied() {
            self.apply(store, layer)?;
        }
        Ok(&self.files)
    }

    /// Lays the next layer on the files that [`Self::files`] was asked for, as [`Self::push`] will
    /// do with the stage. A guest's layer is only believed if that is possible.
    pub(crate) fn lay(&mut self, store: &Store, layer: Layer) -> Result<(), Error> {
        if let Some(layer) = layer.unless_empty() {
            self.apply(store, layer)?;
        }
        Ok(())
    }

    fn apply(&mut self, store: &Store, layer: Layer) -> Result<(), Error> {
        let number = self.files.sources.add_file(store.blob(&layer.digest)?);
        let index = image::index(&store.blob(&layer.digest)?, number, &layer.digest)?;
        firebuild_oci::apply(&mut self.files.tree, &index)?;
        self.applied += 1;
        Ok(())
    }

    /// The files of the layers that [`Self::files`] was last asked for.
    pub(crate) fn loaded_files(&mut self) -> &mut Files {
        &mut self.files
    }
}
