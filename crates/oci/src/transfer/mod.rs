//! Images between registries and the store, byte for byte.

mod layer;
mod pull;
mod push;
#[cfg(test)]
mod tests;
mod watch;

pub use pull::{Pulled, pull, restore};
pub use push::{LayerCompression, PushedImage, push};
pub use watch::{Motion, Unwatched, Watcher};

use std::io;

use crate::error::{Error, Result};

/// Does work on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::io(io::Error::other(error), || "do work on a thread".to_owned()))?
}
