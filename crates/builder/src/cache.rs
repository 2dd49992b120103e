//! What is known already: the store's build cache, and what this build is finding out.
//!
//! Stages that begin alike have steps with the same key. Of these one executes the step, and the
//! others wait for its result: so the work is done once, and the image does not depend on which
//! stage was quicker.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use firebuild_core::Digest;
use firebuild_store::{CacheRecord, Store};
use tokio::sync::OwnedMutexGuard;

use crate::Error;
use crate::stage::Layer;

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The layer that it added; none if it added nothing.
    pub(crate) layer: Option<Layer>,
    /// When that was made, in seconds since 1970. An image from the cache is the same image.
    pub(crate) created: u64,
    /// Whether the result was known, and then how long it took when it was executed.
    pub(crate) cached: Option<Duration>,
}

impl Outcome {
    /// That of a step that adds nothing and takes no time.
    pub(crate) const NOTHING: Self = Self {
        layer: None,
        created: 0,
        cached: None,
    };
}

/// A result of this build, and the stage that has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) stage: usize,
    pub(crate) outcome: Outcome,
}

type Cell = Arc<tokio::sync::Mutex<Option<Found>>>;

/// The results of this build by their keys. Whoever executes a step has its cell locked.
#[derive(Debug, Default)]
pub(crate) struct Results {
    cells: Mutex<HashMap<Digest, Cell>>,
}

impl Results {
    /// The cell of a key.
    pub(crate) fn cell(&self, key: &Digest) -> Cell {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(cells.entry(*key).or_default())
    }

    /// The keys of which this build has a result, with their layers.
    pub(crate) fn used(&self) -> Vec<(Digest, Option<Layer>)> {
        let cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        let result = |(key, cell): (&Digest, &Cell)| {
            let found = (*cell.try_lock().ok()?)?;
            Some((*key, found.outcome.layer))
        };
        cells.iter().filter_map(result).collect()
    }
}

/// The right to execute the step of a key: others with the same key wait until it is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    key: Digest,
    cell: OwnedMutexGuard<Option<Found>>,
}

/// What is known for a key.
#[derive(Debug)]
pub(crate) enum Known {
    /// Its result.
    Yes(Outcome),
    /// Nothing: whoever asked finds out.
    No(Claim),
}

impl Claim {
    pub(crate) fn new(key: Digest, cell: OwnedMutexGuard<Option<Found>>) -> Self {
        Self { key, cell }
    }

    /// What this build has found.
    pub(crate) fn found(&self) -> Option<Found> {
        *self.cell
    }

    /// The result that the store has, which is one of this build from now on.
    pub(crate) fn look_up(
        &mut self,
        store: &Store,
        stage: usize,
    ) -> Result<Option<Outcome>, Error> {
        let Some(record) = store.cache().get(&self.key)? else {
            return Ok(None);
        };
        let layer = Layer {
            digest: record.layer,
            size: record.size,
        };
        let outcome = Outcome {
            layer: layer.unless_empty(),
            created: record.created,
            cached: Some(Duration::from_millis(record.duration_ms.unwrap_or(0))),
        };
        *self.cell = Some(Found { stage, outcome });
        Ok(Some(outcome))
    }

    /// Keeps the step's result, in the store and for the others that wait for it.
    pub(crate) fn keep(
        mut self,
        store: &Store,
        stage: usize,
        layer: Layer,
        made: Made,
    ) -> Result<Outcome, Error> {
        let record = CacheRecord {
            layer: layer.digest,
            size: layer.size,
            created: made.created,
            duration_ms: u64::try_from(made.duration.as_millis()).ok(),
            description: made.description,
        };
        store.cache().put(&self.key, &record)?;
        let outcome = Outcome {
            layer: layer.unless_empty(),
            created: made.created,
            cached: None,
        };
        let cached = Some(made.duration);
        *self.cell = Some(Found {
            stage,
            outcome: Outcome { cached, ..outcome },
        });
        Ok(outcome)
    }
}

/// How a result came about.
#[derive(Debug)]
pub(crate) struct Made {
    /// When, in seconds since 1970.
    pub(crate) created: u64,
    /// In how much time.
    pub(crate) duration: Duration,
    /// From what.
    pub(crate) description: String,
}
