//! The build cache: results of operations by what they depend on.

use firebuild_core::Digest;
use firebuild_plan::Step;
use firebuild_store::{CacheRecord, Store};

use crate::stage::Layer;
use crate::{Error, time};

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The layer that it added; none if it added nothing.
    pub(crate) layer: Option<Layer>,
    /// When that was made, in seconds since 1970. An image from the cache is the same image.
    pub(crate) created: u64,
    /// Whether the result was known.
    pub(crate) cached: bool,
}

/// The store's cache, as one build uses it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cache<'a> {
    pub(crate) store: &'a Store,
    /// Whether results are only written.
    pub(crate) ignored: bool,
}

impl Cache<'_> {
    /// What is known for a key.
    pub(crate) fn get(self, key: &Digest) -> Result<Option<Outcome>, Error> {
        if self.ignored {
            return Ok(None);
        }
        let record = self.store.cache().get(key)?;
        Ok(record.map(|record| {
            let layer = Layer {
                digest: record.layer,
                size: record.size,
            };
            Outcome {
                layer: layer.unless_empty(),
                created: record.created,
                cached: true,
            }
        }))
    }

    /// Keeps a result.
    pub(crate) fn put(self, key: &Digest, layer: Layer, step: &Step) -> Result<Outcome, Error> {
        let created = time::now();
        let record = CacheRecord {
            layer: layer.digest,
            size: layer.size,
            created,
            description: step.origin.text.clone(),
        };
        self.store.cache().put(key, &record)?;
        Ok(Outcome {
            layer: layer.unless_empty(),
            created,
            cached: false,
        })
    }
}
