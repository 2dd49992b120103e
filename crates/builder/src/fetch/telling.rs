//! What is told while something is fetched.

use std::cell::Cell;
use std::time::{Duration, Instant};

use firebuild_store::Lease;

use crate::progress::{Event, Progress, Silent};

/// How often it is told at most how much there is.
const INTERVAL: Duration = Duration::from_millis(200);

/// Where what is fetched goes, and who is told of it.
#[derive(Clone, Copy)]
pub struct Destination<'a> {
    /// Keeps it in its store.
    pub lease: &'a Lease,
    /// Is told of it.
    pub progress: &'a dyn Progress,
}

impl std::fmt::Debug for Destination<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Destination").finish_non_exhaustive()
    }
}

impl<'a> From<&'a Lease> for Destination<'a> {
    /// Nobody is told.
    fn from(lease: &'a Lease) -> Self {
        Self {
            lease,
            progress: &Silent,
        }
    }
}

/// Tells of one thing that is fetched.
pub(super) struct Telling<'a> {
    progress: &'a dyn Progress,
    /// What it is, for people.
    source: String,
    began: Cell<Instant>,
    told: Cell<Instant>,
}

impl<'a> Telling<'a> {
    /// Nothing has been told yet.
    pub(super) fn new(progress: &'a dyn Progress, source: &str) -> Self {
        let now = Instant::now();
        Self {
            progress,
            source: source.to_owned(),
            began: Cell::new(now),
            told: Cell::new(now),
        }
    }

    /// It begins.
    pub(super) fn begin(&self) {
        self.began.set(Instant::now());
        self.tell(0, None);
    }

    /// So many bytes are here, of `size` if that is known.
    pub(super) fn more(&self, bytes: u64, size: Option<u64>) {
        if self.told.get().elapsed() >= INTERVAL {
            self.tell(bytes, size);
        }
    }

    /// All of it is here: as many bytes; none if what was here already is still right.
    pub(super) fn end(&self, bytes: Option<u64>) {
        self.progress.event(Event::Fetched {
            source: &self.source,
            bytes,
            duration: self.began.get().elapsed(),
        });
    }

    fn tell(&self, bytes: u64, size: Option<u64>) {
        self.told.set(Instant::now());
        self.progress.event(Event::Fetching {
            source: &self.source,
            bytes,
            size,
        });
    }
}
