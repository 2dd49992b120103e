//! From a plan to an image in the store.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use firebuild_core::{ByteSize, Digest, Reference};
use firebuild_oci::Exported;
use firebuild_plan::Plan;
use firebuild_store::Store;

use crate::contexts::Contexts;
use crate::debug::Debugger;
use crate::execute::Execution;
use crate::mounts::sensitive::{Agents, Secrets};
use crate::progress::Progress;
use crate::stage::Layer;
use crate::vm::VmOptions;
use crate::{Error, image};

/// What a build needs beside its plan.
#[derive(Debug)]
pub struct Request<'a> {
    /// Where files come from that are in no stage and no image.
    pub contexts: &'a Contexts,
    /// The names that the image gets.
    pub tags: &'a [Reference],
    /// What is done anew although its result is known.
    pub no_cache: NoCache,
    /// Caches of other machines, which are asked for what is not known here.
    pub cache_from: Arc<[Exported]>,
    /// How many VMs may run at once; as many as the host has room for, if none.
    pub jobs: Option<NonZeroUsize>,
    /// How build VMs are made.
    pub vm: VmOptions,
    /// What RUNs with `--mount=type=secret` may see.
    pub secrets: Secrets,
    /// What RUNs with `--mount=type=ssh` may talk to.
    pub agents: Agents,
    /// Certificates (PEM) that every RUN sees where tools look for them, without a trace.
    pub certificates: Option<Vec<u8>>,
    /// Variables that every RUN sees, without a trace: those of proxies.
    pub proxies: Vec<(String, String)>,
    /// Who looks into a RUN that failed, before the build ends; nobody if none.
    pub debugger: Option<&'a dyn Debugger>,
}

/// What is done anew although its result is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum NoCache {
    /// Nothing.
    #[default]
    Nothing,
    /// Everything.
    All,
    /// The stages of these names, in any case of letters.
    Stages(BTreeSet<String>),
}

impl NoCache {
    /// Whether it covers the stage `name`.
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::All => true,
            Self::Stages(names) => names.iter().any(|one| one.eq_ignore_ascii_case(name)),
        }
    }
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
    /// What the steps with a known result took together when they were executed.
    pub saved: Duration,
    /// The keys of all steps in the build cache.
    pub keys: BTreeSet<Digest>,
    /// Of them, those whose layers the image has.
    pub own_keys: BTreeSet<Digest>,
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
    progress: &dyn Progress,
) -> Result<Built, Error> {
    let started = std::time::Instant::now();
    let lease = store.lease()?;
    let execution = Execution::new(lease.clone(), plan, request, progress);
    let (mut state, saved, used) = execution.run().await?;
    state.config.config.labels.extend(plan.labels.clone());
    let size = ByteSize(state.layers.iter().map(|layer| layer.size).sum());
    let own: BTreeSet<Digest> = state.layers.iter().map(|layer| layer.digest).collect();
    let is_own = |layer: &Option<Layer>| layer.is_none_or(|layer| own.contains(&layer.digest));
    let own_keys = used.iter().filter(|(_, layer)| is_own(layer));
    let own_keys = own_keys.map(|(key, _)| *key).collect();
    let digest = image::save(&lease, state, request.tags)?;
    Ok(Built {
        digest,
        size,
        duration: started.elapsed(),
        saved,
        keys: used.into_iter().map(|(key, _)| key).collect(),
        own_keys,
    })
}
