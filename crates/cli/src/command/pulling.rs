//! Images that a build or a VM starts from: those of the store, those of a storage provider, and those
//! that are pulled for it.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use clap::{Args, ValueEnum};
use firebuild_builder::progress::{Event, Progress};
use firebuild_builder::provider::{Brought, Provider};
use firebuild_builder::rootfs::Ext4;
use firebuild_builder::{Error, StoreBases};
use firebuild_core::{ImageConfig, Platform, Reference};
use firebuild_oci::Trust;
use firebuild_oci::registry::{PlainHttp, Registry, RegistryError};
use firebuild_plan::Plan;
use firebuild_plan::lower::{Bases, BoxError};
use firebuild_store::Store;

use super::block_on;
use crate::progress::layers::{Direction, Layers};
use crate::progress::{self, Style};
use crate::registry::{self, MirrorArgument, RulesArgument};
use crate::terminal;

/// What is pulled when, and how.
#[derive(Debug, Clone, Args)]
pub(super) struct PullArguments {
    /// When to pull images from their registries; `--pull` alone is `always`
    #[arg(
        long,
        value_enum,
        value_name = "WHEN",
        env = "FIREBUILD_PULL",
        num_args = 0..=1,
        require_equals = true,
        default_value_t,
        default_missing_value = "always",
        help_heading = "Registry"
    )]
    pull: PullPolicy,
    #[command(flatten)]
    asking: AskingArguments,
}

/// A registry's host, as it stands in the names of images.
fn registry_host(text: &str) -> Result<String, String> {
    let name: Result<Reference, _> = format!("{text}/x").parse();
    match name {
        Ok(name) if name.registry() == text => Ok(text.to_owned()),
        _ => Err("a registry is needed as it stands in names of images, such as `localhost:5000` or `registry.example.com`".to_owned()),
    }
}

/// How the registries of images are asked.
#[derive(Debug, Clone, Args)]
pub(crate) struct AskingArguments {
    /// Pull without encryption from this registry (may be repeated)
    #[arg(
        long,
        value_name = "HOST[:PORT]",
        value_parser = registry_host,
        env = "FIREBUILD_PLAIN_HTTP",
        value_delimiter = ',',
        help_heading = "Registry"
    )]
    plain_http: Vec<String>,
    /// Ask a mirror of a registry first: `docker.io=HOST[:PORT][/PATH]` (may be repeated)
    #[arg(
        long = "mirror",
        value_name = "REGISTRY=MIRROR",
        env = "FIREBUILD_REGISTRY_MIRRORS",
        value_delimiter = ',',
        help_heading = "Registry"
    )]
    mirrors: Vec<MirrorArgument>,
    #[command(flatten)]
    rules: RulesArgument,
}

impl AskingArguments {
    /// A client for any registry.
    pub(crate) fn client(
        &self,
        trust: Trust,
        shown: &dyn Progress,
    ) -> Result<Registry, RegistryError> {
        let mut options = registry::options(trust);
        options.mirrors = registry::mirrors(&self.mirrors);
        options.rules = self.rules.rules(shown)?;
        if !self.plain_http.is_empty() {
            options.plain_http = PlainHttp::Hosts(self.plain_http.iter().cloned().collect());
        }
        Ok(Registry::new(options))
    }
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum PullPolicy {
    /// When the store does not have it
    #[default]
    Missing,
    /// Whenever the registry has another one
    Always,
    /// Never
    Never,
}

/// The images of a store, which gets what is missing.
pub(super) struct Pulling<'a> {
    store: &'a Store,
    arguments: PullArguments,
    trust: Trust,
    style: Style,
    /// Made when the first image is to be pulled.
    registry: OnceCell<Registry>,
    provider: Box<dyn Provider>,
    /// Those that were asked for already.
    asked: RefCell<BTreeSet<Reference>>,
}

impl<'a> Pulling<'a> {
    pub(super) fn new(
        store: &'a Store,
        arguments: &PullArguments,
        (trust, style): (Trust, Style),
        provider: Box<dyn Provider>,
    ) -> Self {
        Self {
            store,
            arguments: arguments.clone(),
            trust,
            style,
            registry: OnceCell::new(),
            provider,
            asked: RefCell::default(),
        }
    }

    fn registry(&self, shown: &dyn Progress) -> Result<&Registry, RegistryError> {
        if let Some(registry) = self.registry.get() {
            return Ok(registry);
        }
        let registry = self.arguments.asking.client(self.trust.clone(), shown)?;
        Ok(self.registry.get_or_init(|| registry))
    }

    /// Sees that the images are here that a plan only copies from.
    pub(super) fn complete(&self, plan: &Plan) -> anyhow::Result<()> {
        for image in plan.images() {
            // What is missing and may not be pulled is an error of the step that needs it.
            self.have(image)?;
        }
        Ok(())
    }

    /// Takes what the provider has of an image; or pulls it, if that is to be done.
    pub(super) fn have(&self, image: &Reference) -> Result<(), Error> {
        if !self.asked.borrow_mut().insert(image.clone()) {
            return Ok(());
        }
        if self.provider.bring_image(self.store, image)? == Brought::Taken {
            let name = image.familiar();
            terminal::say(format_args!("took `{name}` from its storage"));
        }
        let pull = match self.arguments.pull {
            PullPolicy::Missing => self.store.tags().get(image)?.is_none(),
            PullPolicy::Always => true,
            PullPolicy::Never => false,
        };
        match pull {
            true => self.pull(image),
            false => Ok(()),
        }
    }

    fn pull(&self, image: &Reference) -> Result<(), Error> {
        let shown: Arc<dyn Progress> = Arc::from(progress::shown(self.style, Instant::now()));
        let platform = Platform::host();
        let text = &format!("pulling `{}`", image.familiar());
        shown.event(Event::Note { stage: None, text });
        let refused = |source| Error::Pull {
            reference: Box::new(image.clone()),
            source: Box::new(source),
        };
        let registry = self.registry(&*shown);
        let registry = registry.map_err(|error| refused(error.into()))?;
        let watcher = Layers::watcher(Arc::clone(&shown), Direction::Here);
        let wanted = (image, &platform);
        let pulling = firebuild_oci::pull(self.store, registry, wanted, Ext4, &watcher);
        match block_on(pulling) {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(source)) => Err(refused(source)),
            Err(error) => Err(Error::Context(std::io::Error::other(error))),
        }
    }
}

impl Bases for Pulling<'_> {
    fn config(&self, image: &Reference) -> Result<ImageConfig, BoxError> {
        self.have(image)?;
        StoreBases(self.store).config(image)
    }
}
