//! What comes from elsewhere: files by HTTP, repositories by git.
//!
//! * [`Fetcher`]: fetches, and remembers in the store what it fetched.
//! * [`Trust`]: the authorities whose certificates are believed.
//! * [`Credentials`]: what a build's secrets say about servers.
//!
//! What must hold: nothing of a transfer has a name in the store before all of it is there and
//! found right; each address is asked once a build, so that every step of it sees the same; no
//! credential gets into a record, an error, a command line or a cache's key.

mod address;
mod body;
mod credentials;
mod error;
mod git;
mod http;
mod telling;
#[cfg(test)]
#[allow(dead_code, reason = "other tests use the rest")]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use firebuild_core::{ByteSize, Digest};
use tokio::sync::OnceCell;

use crate::threads::Threads;

pub(crate) use address::shown;
pub use credentials::Credentials;
pub use error::FetchError;
use firebuild_oci::Cause;
pub use firebuild_oci::Trust;
pub use git::{Checkout, GitFailure};
pub use http::Download;
pub use telling::Destination;

/// How patient and how generous a [`Fetcher`] is.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// The most bytes that one file or repository may have.
    pub size: ByteSize,
    /// How long a connection may take.
    pub connect: Duration,
    /// How long a server may say nothing.
    pub silence: Duration,
    /// How long to wait before the one second try.
    pub pause: Duration,
    /// Whether repositories may be directories of this host (`file://`), as only tests want it.
    pub local: bool,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            size: ByteSize(10 << 30),
            connect: Duration::from_secs(30),
            silence: Duration::from_secs(60),
            pause: Duration::from_secs(1),
            local: false,
        }
    }
}

/// Fetches what a build needs from elsewhere. One serves a whole build.
#[derive(Debug, Default)]
pub struct Fetcher {
    trust: Trust,
    credentials: Credentials,
    bounds: Bounds,
    threads: Threads,
    /// Made when the first address is asked.
    client: std::sync::OnceLock<reqwest::Client>,
    /// What was fetched by this one already.
    downloads: Once<Download>,
    checkouts: Once<Checkout>,
}

/// Values by key, each made at most once, also by several at a time.
type Once<T> = Mutex<HashMap<Digest, Arc<OnceCell<T>>>>;

impl Fetcher {
    /// One that believes these authorities and has these credentials.
    #[must_use]
    pub fn new(trust: Trust, credentials: Credentials, bounds: Bounds) -> Self {
        Self {
            trust,
            credentials,
            bounds,
            ..Self::default()
        }
    }

    /// Where the build's work is done that would hold up its own thread.
    pub(crate) fn threads(&self) -> &Threads {
        &self.threads
    }
}

fn cell<T>(cells: &Once<T>, key: Digest) -> Arc<OnceCell<T>> {
    let mut cells = cells.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(cells.entry(key).or_default())
}
