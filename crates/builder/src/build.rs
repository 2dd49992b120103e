//! From a plan to an image in the store.

use std::path::Path;
use std::time::Duration;

use firebuild_core::{ByteSize, Digest, Reference};
use firebuild_plan::Plan;
use firebuild_plan::ignore::Patterns;
use firebuild_store::Store;

use crate::execute::Execution;
use crate::progress::Progress;
use crate::vm::VmOptions;
use crate::{Error, image};

/// What a build needs beside its plan.
#[derive(Debug)]
pub struct Request<'a> {
    /// The directory that copies without a source of their own take from.
    pub context: &'a Path,
    /// What of it they do not see.
    pub ignore: &'a Patterns,
    /// The names that the image gets.
    pub tags: &'a [Reference],
    /// Take no result from the cache.
    pub no_cache: bool,
    /// How build VMs are made.
    pub vm: VmOptions,
}

/// A finished build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The digest of the image's manifest.
    pub digest: Digest,
    /// The sum of its layers' sizes.
    pub size: ByteSize,
    /// How long it took.
    pub duration: Duration,
}

/// Executes a plan. The image is in the store under every tag, or under none.
///
/// Everything that was finished stays in the build cache, however the build ends. Dropping the
/// future ends the build's VMs.
///
/// # Errors
/// [`Error`]; [`Error::Step`] says which step failed.
pub async fn build(
    store: &Store,
    plan: &Plan,
    request: &Request<'_>,
    progress: &mut dyn Progress,
) -> Result<Built, Error> {
    let started = std::time::Instant::now();
    let lease = store.lease()?;
    let mut state = Execution::new(lease.clone(), store, plan, request, progress)
        .run()
        .await?;
    state.config.config.labels.extend(plan.labels.clone());
    let size = ByteSize(state.layers.iter().map(|layer| layer.size).sum());
    let digest = image::save(&lease, state, request.tags)?;
    Ok(Built {
        digest,
        size,
        duration: started.elapsed(),
    })
}
