//! Threads for what would hold up the thread that serves the VMs: reading, hashing and writing
//! files.
//!
//! Work never waits for a VM or for another stage, so that it always comes to an end; and there is
//! never more of it at once than the host has processors: a build's contexts, its downloads and its
//! steps share them.

use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::sync::Semaphore;

/// As many threads as the host has processors.
#[derive(Debug, Clone)]
pub(crate) struct Threads {
    turns: Arc<Semaphore>,
    count: u32,
}

impl Default for Threads {
    fn default() -> Self {
        let count = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            turns: Arc::new(Semaphore::new(count)),
            count: u32::try_from(count).unwrap_or(u32::MAX),
        }
    }
}

impl Threads {
    /// Does work on a thread of its own. If the future is dropped, the work goes on to its end.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let task = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(turn);
            result
        });
        match task.await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime goes away, and with it whoever waits here.
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// Waits until nothing is being done, that of dropped futures included.
    pub(crate) async fn idle(&self) {
        let _all = self.turns.acquire_many(self.count).await;
    }
}
