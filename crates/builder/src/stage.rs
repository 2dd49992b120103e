//! A stage: its layers, its configuration, and its files as a tree.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use firebuild_core::config::History;
use firebuild_core::layer::LayerWriter;
use firebuild_core::{Digest, ImageConfig};
use firebuild_plan::key::Chain;
use firebuild_store::Store;
use firebuild_store::layout::Descriptor;
use tokio::sync::OnceCell;

use crate::Error;
use crate::sources::Files;
use crate::threads::Threads;

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
#[derive(Debug, Clone)]
pub(crate) struct StageState {
    pub(crate) layers: Vec<Layer>,
    pub(crate) chain: Chain,
    pub(crate) config: ImageConfig,
    /// What the manifest of the image below says of its layers, which are the first ones.
    pub(crate) base: Arc<[Descriptor]>,
    /// When its newest part was made, in seconds since 1970.
    pub(crate) created: u64,
    /// The time that everything made is said to be of.
    pub(crate) epoch: Option<u64>,
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
            base: Arc::default(),
            created,
            epoch: None,
        }
    }

    /// A stage that starts from another.
    pub(crate) fn from_stage(parent: &Self) -> Self {
        Self {
            base: Arc::clone(&parent.base),
            ..Self::new(parent.layers.clone(), parent.config.clone(), parent.created)
        }
    }

    /// Adds a step's layer and its line of history.
    pub(crate) fn push(&mut self, layer: Option<Layer>, created: u64, history: Option<&str>) {
        self.created = self.epoch.unwrap_or(self.created.max(created));
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
}

/// The files of a stage's first layers, as far as they were asked for.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    files: Files,
    /// How many layers are in `files`.
    applied: usize,
}

impl Merged {
    /// The files of `layers`, of which those that are here already are the first.
    pub(crate) fn load(&mut self, store: &Store, layers: &[Layer]) -> Result<&Files, Error> {
        for layer in layers.get(self.applied..).unwrap_or_default() {
            self.apply(store, *layer)?;
        }
        Ok(&self.files)
    }

    /// Lays one more layer on, as [`StageState::push`] will do with the stage. A guest's layer is
    /// only believed if that is possible.
    pub(crate) fn lay(&mut self, store: &Store, layer: Layer) -> Result<(), Error> {
        match layer.unless_empty() {
            Some(layer) => self.apply(store, layer),
            None => Ok(()),
        }
    }

    fn apply(&mut self, store: &Store, layer: Layer) -> Result<(), Error> {
        let lease = store.lease()?;
        let sources = &mut self.files.sources;
        let index = firebuild_oci::layer_index(&lease, &layer.digest, sources)?;
        firebuild_oci::apply(&mut self.files.tree, index)?;
        self.applied += 1;
        Ok(())
    }
}

/// A finished stage, or an image: it does not change any more, and any number of others read it.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) state: StageState,
    /// What was loaded while it was built; taken by whoever loads the rest.
    begun: Mutex<Merged>,
    files: OnceCell<Arc<Files>>,
}

impl Finished {
    pub(crate) fn new(state: StageState, merged: Merged) -> Self {
        Self {
            state,
            begun: Mutex::new(merged),
            files: OnceCell::new(),
        }
    }

    /// Its files, loaded when they are asked for the first time.
    pub(crate) async fn files(
        &self,
        threads: &Threads,
        store: &Store,
    ) -> Result<Arc<Files>, Error> {
        let load = async || {
            let mut merged =
                std::mem::take(&mut *self.begun.lock().unwrap_or_else(PoisonError::into_inner));
            let (store, layers) = (store.clone(), self.state.layers.clone());
            let load = move || {
                merged.load(&store, &layers)?;
                Ok(Arc::new(merged.files))
            };
            threads.run(load).await
        };
        self.files.get_or_try_init(load).await.cloned()
    }
}
