//! Bases from a Dockerfile: an image that is called what it was made from, unless it is given a name.
//!
//! The image that had the name then is below it. It keeps the name with its digest
//! (`alpine:3.13@sha256:…`), and the base's entry in the index refers to it, so that the same
//! Dockerfile made again begins where it began the first time, and not on its own result.

use firebuild_core::{Digest, ImageConfig, Reference};
use firebuild_plan::lower::{Bases, BoxError};
use firebuild_plan::operation::{Base, Plan};
use firebuild_store::layout::Descriptor;
use firebuild_store::{Lease, Store};

use crate::command::pulling::Pulling;
use crate::error::hinted;

/// The annotation of a base's entry in the store's index that is what it was made from and named after:
/// its name with that image's digest.
const BELOW: &str = "io.firebuild.below";

/// The images that a base is made from.
pub(super) struct Below<'a> {
    pub(super) store: &'a Store,
    pub(super) bases: &'a Pulling<'a>,
}

impl Bases for Below<'_> {
    fn config(&self, image: &Reference) -> Result<ImageConfig, BoxError> {
        self.bases.config(&self.original(image)?)
    }
}

impl Below<'_> {
    /// What `image` was before a base took its name.
    fn original(&self, image: &Reference) -> Result<Reference, firebuild_store::Error> {
        let tags = self.store.tags();
        let entry = tags.get(image)?;
        let below = entry.and_then(|entry| entry.annotations.get(BELOW)?.parse().ok());
        // Under a name that the base was given later, it is the base that is meant.
        let is_of = |below: &Reference| {
            let digest = below.digest();
            digest.is_some_and(|digest| pinned(image, digest).as_ref() == Some(below))
        };
        // If it was removed, it may still come from where it came from; never is it the base itself.
        Ok(below.filter(is_of).unwrap_or_else(|| image.clone()))
    }

    /// Lets a plan begin with the originals. The result is what the target begins with.
    pub(super) fn settle(&self, plan: &mut Plan) -> anyhow::Result<Option<Beginning>> {
        let name = from(plan).cloned();
        for stage in &mut plan.stages {
            if let Base::Image(image) = &mut stage.base {
                *image = self.original(image)?;
            }
        }
        let Some((name, original)) = name.zip(from(plan)) else {
            return Ok(None);
        };
        // It is not collected while it has no name.
        let lease = self.store.lease()?;
        let entry = self.store.tags().get(original)?;
        Ok(entry.map(|entry| Beginning { name, entry, lease }))
    }
}

/// The image that the target's stages begin with.
pub(super) fn from(plan: &Plan) -> Option<&Reference> {
    let mut stage = plan.stages.get(plan.target)?;
    loop {
        match &stage.base {
            // Each depends on earlier ones only.
            Base::Stage(earlier) => stage = plan.stages.get(*earlier)?,
            Base::Image(image) => return Some(image),
            Base::Scratch | Base::Context(_) => return None,
        }
    }
}

/// What a base begins with.
pub(super) struct Beginning {
    /// As the Dockerfile has it.
    name: Reference,
    entry: Descriptor,
    lease: Lease,
}

impl Beginning {
    /// The name of a base that was given none.
    pub(super) fn name(of: Option<&Self>) -> anyhow::Result<Reference> {
        let message = match of {
            Some(beginning) if beginning.name.digest().is_none() => {
                return Ok(beginning.name.clone());
            }
            Some(_) => {
                "the Dockerfile's FROM names an image by its digest, which is not the base's"
            }
            None => "the Dockerfile's FROM names no image that the base could be called after",
        };
        Err(hinted(message, "give it a name with `--tag NAME:TAG`"))
    }

    /// If a base took the name of what it began with, lets that be known by its digest.
    pub(super) fn keep(mut self, tags: &[Reference]) -> anyhow::Result<()> {
        let (names, below) = (self.lease.store().tags(), self.entry.digest);
        if !tags.contains(&self.name) {
            return Ok(());
        }
        let (Some(mut made), Some(pinned)) = (names.get(&self.name)?, pinned(&self.name, &below))
        else {
            return Ok(());
        };
        if made.digest == below {
            return Ok(());
        }
        self.entry.annotations.remove(BELOW);
        names.set(&pinned, self.entry)?;
        made.annotations
            .insert(BELOW.to_owned(), pinned.to_string());
        Ok(names.set(&self.name, made)?)
    }
}

/// A name with a digest.
fn pinned(name: &Reference, digest: &Digest) -> Option<Reference> {
    format!("{name}@{digest}").parse().ok()
}
