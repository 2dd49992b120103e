//! Images that a build starts from or copies from: those of the store, and those of registries.

use std::cell::RefCell;
use std::collections::BTreeSet;

use clap::ValueEnum;
use firebuild_builder::rootfs::Ext4;
use firebuild_builder::{Error, StoreBases};
use firebuild_core::{ImageConfig, Platform, Reference};
use firebuild_oci::Trust;
use firebuild_oci::registry::Registry;
use firebuild_plan::Plan;
use firebuild_plan::lower::{Bases, BoxError};
use firebuild_store::Store;

use super::super::block_on;
use crate::{registry, terminal};

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum PullPolicy {
    /// When the store does not have it
    #[default]
    Missing,
    /// Whenever the registry has another one
    Always,
    /// Never
    Never,
}

/// Bases for a build, which pulls what it needs.
pub(super) struct Pulling<'a> {
    store: &'a Store,
    policy: PullPolicy,
    registry: Registry,
    /// Those that were asked for already.
    asked: RefCell<BTreeSet<Reference>>,
}

impl<'a> Pulling<'a> {
    pub(super) fn new(store: &'a Store, policy: PullPolicy, trust: Trust) -> Self {
        Self {
            store,
            policy,
            registry: Registry::new(registry::options(trust)),
            asked: RefCell::default(),
        }
    }

    /// Sees that the images are here that a plan only copies from.
    pub(super) fn complete(&self, plan: &Plan) -> anyhow::Result<()> {
        for image in plan.images() {
            // What is missing and may not be pulled is an error of the step that needs it.
            if self.policy != PullPolicy::Never {
                self.have(image)?;
            }
        }
        Ok(())
    }

    /// Pulls an image, if that is to be done.
    fn have(&self, image: &Reference) -> Result<(), Error> {
        let missing = self.store.tags().get(image)?.is_none();
        let pull = match self.policy {
            PullPolicy::Missing => missing,
            PullPolicy::Always => true,
            PullPolicy::Never => false,
        };
        if !pull || !self.asked.borrow_mut().insert(image.clone()) {
            return Ok(());
        }
        let name = image.familiar();
        terminal::say(format_args!("pulling `{name}`"));
        let platform = Platform::host();
        let pulling = firebuild_oci::pull(self.store, &self.registry, (image, &platform), Ext4);
        let pulled = match block_on(pulling) {
            Ok(pulled) => pulled,
            Err(error) => return Err(Error::Context(std::io::Error::other(error))),
        };
        match pulled {
            Ok(_) => Ok(()),
            Err(source) => Err(Error::Pull {
                reference: Box::new(image.clone()),
                source: Box::new(source),
            }),
        }
    }
}

impl Bases for Pulling<'_> {
    fn config(&self, image: &Reference) -> Result<ImageConfig, BoxError> {
        self.have(image)?;
        StoreBases(self.store).config(image)
    }
}
