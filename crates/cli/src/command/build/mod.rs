//! `firebuild build`: an image from a Dockerfile.

mod anew;
mod base;
mod cache;
mod caches;
mod choices;
mod context;
mod debug;
mod epoch;
mod from_image;
mod keep;
mod provenance;
mod sensitive;

use std::io::Write as _;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, Subcommand, ValueEnum};
use firebuild_builder::contexts::Opened;
use firebuild_builder::debug::Debugger;
use firebuild_builder::fetch::{Bounds, Fetcher};
use firebuild_builder::provider::{BuildConfig, Kind, Own};
use firebuild_builder::{Built, NoCache, Request, StoreBases};
use firebuild_core::{ImageConfig, Platform, Reference};
use firebuild_dockerfile::{Dockerfile, ParseError};
use firebuild_plan::Plan;
use firebuild_plan::check::Facts;
use firebuild_plan::lower::{self, Bases, BoxError, LowerErrorKind};
use firebuild_plan::lower::{lower, outline};
use firebuild_store::Store;

use anew::AnewArguments;
use base::{Beginning, Below};
use caches::CacheArguments;
use choices::{Choices, familiar};
use context::ContextArguments;
use debug::DebugArguments;
use from_image::FromImage;
use keep::KeepArguments;
use sensitive::SensitiveArguments;

use super::machine::VmArguments;
use super::pulling::{PullArguments, Pulling};
use super::{Format, Global, block_on, check};
use crate::arguments::values;
use crate::picture::Picture;
use crate::progress;
use crate::terminal;
use crate::timeline::{self, Recorder};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Build {
    #[command(subcommand)]
    command: Option<BuildCommand>,
    #[command(flatten)]
    image: ImageBuild,
}

#[derive(Debug, Subcommand)]
enum BuildCommand {
    /// Look at the build cache, or make it smaller
    #[command(subcommand)]
    Cache(cache::Cache),
}

impl Build {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        match self.command {
            Some(BuildCommand::Cache(command)) => command.run(global),
            None => self.image.run(global),
        }
    }
}

/// `rootfs`: the same as the original tool has it.
#[derive(Debug, Args)]
pub(crate) struct Rootfs {
    #[command(flatten)]
    image: ImageBuild,
}

impl Rootfs {
    pub(crate) fn run(mut self, global: &Global) -> anyhow::Result<()> {
        self.image.context.or_folder();
        self.image.run(global)
    }
}

/// The building itself.
#[derive(Debug, Args)]
pub(crate) struct ImageBuild {
    /// Whether it is the base of others.
    #[arg(skip)]
    is_base: bool,
    /// Give the image this name (may be repeated)
    #[arg(long = "tag", short, value_name = "NAME[:TAG]")]
    tags: Vec<Reference>,
    #[command(flatten)]
    choices: Choices,
    #[command(flatten)]
    sensitive: SensitiveArguments,
    #[command(flatten)]
    caches: CacheArguments,
    /// Write what went into the image, as an in-toto statement (SLSA provenance), to a file
    #[arg(long, value_name = "FILE")]
    provenance: Option<PathBuf>,
    #[command(flatten)]
    anew: AnewArguments,
    #[command(flatten)]
    pull: PullArguments,
    /// How many build VMs may run at once; as many as this process has processors and memory for,
    /// control groups included, if not given
    #[arg(long, value_name = "N", value_parser = values::whole::<usize>(1, 1024))]
    jobs: Option<usize>,
    /// Write how the build went as a chart over time: a page for a browser
    #[arg(long, value_name = "FILE.html")]
    timeline: Option<PathBuf>,
    /// How to show what happens
    #[arg(long, value_enum, default_value_t)]
    progress: progress::Style,
    /// Only print what was understood; start no VM
    #[arg(long, value_enum, value_name = "WHAT")]
    print: Option<Printed>,
    /// Only check the Dockerfile for what is legal and probably not meant; start no VM
    #[arg(long, conflicts_with = "print")]
    check: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    debug: DebugArguments,
    #[command(flatten)]
    vm: VmArguments,
    #[command(flatten)]
    bootstrap: super::machine::BootstrapArguments,
    #[command(flatten)]
    gone: super::gone::GoneFlags,
    #[command(flatten)]
    gone_build: super::gone::GoneBuildFlags,
    #[command(flatten)]
    context: ContextArguments,
    #[command(flatten)]
    from_image: FromImage,
    #[command(flatten)]
    keep: KeepArguments,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Printed {
    /// The Dockerfile's instructions, as they were read
    Instructions,
    /// The operations that would be executed
    Plan,
    /// The stages, and which of them the target needs
    Stages,
}

impl ImageBuild {
    /// The names that were given.
    pub(crate) fn tags(&self) -> &[Reference] {
        &self.tags
    }

    /// Whether it is said where a Dockerfile is.
    pub(crate) fn names_a_dockerfile(&self) -> bool {
        self.context.is_given()
    }

    /// Makes a base, which is called after what it was made from if it was given no name.
    pub(crate) fn run_as_base(mut self, global: &Global) -> anyhow::Result<()> {
        self.is_base = true;
        self.context.or_folder();
        self.run(global)
    }

    /// Keeps a base that was made of packages, as any other.
    pub(crate) fn keep_base(mut self, store: &Store, tags: Vec<Reference>) -> anyhow::Result<()> {
        self.is_base = true;
        self.tags = tags;
        self.keep(store, None, None)
    }

    fn run(mut self, global: &Global) -> anyhow::Result<()> {
        self.debug.check(self.context.reads_input())?;
        self.gone.warn();
        self.gone_build.warn();
        self.from_image.check()?;
        if self.print.is_none()
            && !self.check
            && let Some(image) = self.from_image.as_it_is()
        {
            return self.adopt(global, image);
        }
        let build_args = self.choices.build_args();
        let fetcher = Fetcher::new(
            self.sensitive.trust()?,
            self.sensitive.credentials()?,
            Bounds::default(),
        );
        let began = Instant::now();
        let shown = progress::OnDemand::new(self.progress, began);
        let text = self.from_image.text();
        let opening = (self.context).open(global, (text, &build_args), fetcher, &shown);
        let opened = block_on(opening)??;
        // What is said next stands below a live view.
        drop(shown);
        let picture = Picture {
            name: &opened.dockerfile.name,
            text: &opened.dockerfile.text,
        };
        let parsed = firebuild_dockerfile::parse(&opened.dockerfile.text);
        if self.check {
            return self.check(global, &opened, parsed, &picture);
        }
        let dockerfile = parsed.map_err(|error| picture.of_parse(&error))?;
        match self.print {
            Some(Printed::Instructions) => self.print(&dockerfile, &dockerfile.instructions),
            Some(Printed::Stages) => {
                let options = self.lowering(global, &opened)?;
                let outline =
                    outline(&dockerfile, &options).map_err(|error| picture.of_lowering(error))?;
                self.print(&outline, &outline.stages)
            }
            Some(Printed::Plan) => {
                let store = global.store()?;
                let options = self.dated(global, &store, &opened, &dockerfile)?;
                let plan = lower(&dockerfile, &options, &OrNothing(StoreBases(&store)));
                let mut plan = plan.map_err(|error| picture.of_lowering(error))?;
                self.from_image.as_root(&mut plan);
                self.print(&plan, &plan.stages)
            }
            None => self.build(global, &opened, &dockerfile, &picture, began),
        }
    }

    /// The images that a build may begin with. A base is not made from what it would be kept as.
    fn pulling<'a>(&self, store: &'a Store) -> anyhow::Result<Pulling<'a>> {
        let provider = match self.is_base {
            true => Box::new(Own),
            false => self.keep.storage().provider()?,
        };
        let shown = (self.sensitive.trust()?, self.progress);
        Ok(Pulling::new(store, &self.pull, shown, provider))
    }

    /// Takes an image as it is.
    fn adopt(&self, global: &Global, image: &Reference) -> anyhow::Result<()> {
        let store = global.store()?;
        let bases = self.pulling(&store)?;
        let digest = from_image::adopt(&store, &bases, image, &self.tags)?;
        self.keep(&store, None, Some(image))?;
        terminal::print(format_args!("{digest}\n"))
    }

    /// What was chosen beside the text. A context that is an image is imported for it.
    fn lowering(&self, global: &Global, opened: &Opened) -> anyhow::Result<lower::Options> {
        let named = self.context.named(global)?;
        self.choices.lowering(named, opened.epoch)
    }

    /// The same, with the time that was asked for, whatever has it.
    fn dated(
        &self,
        global: &Global,
        store: &Store,
        opened: &Opened,
        dockerfile: &Dockerfile,
    ) -> anyhow::Result<lower::Options> {
        let mut options = self.lowering(global, opened)?;
        let shown = progress::OnDemand::new(self.progress, Instant::now());
        epoch::find(store, dockerfile, &opened.contexts, &shown, &mut options)?;
        Ok(options)
    }

    /// Checks the file, with what is here of its base images.
    fn check(
        &self,
        global: &Global,
        opened: &Opened,
        parsed: Result<Dockerfile, ParseError>,
        picture: &Picture<'_>,
    ) -> anyhow::Result<()> {
        let dockerfile = match parsed {
            Ok(dockerfile) => dockerfile,
            Err(error) => {
                let failure = Some(check::Failure::Parse(error));
                return check::print(None, failure, picture, self.format);
            }
        };
        let mut options = self.lowering(global, opened)?;
        epoch::overlook(&dockerfile, &mut options);
        let store = global.store().ok();
        let bases = Known(store.as_ref().map(StoreBases));
        let report = firebuild_plan::check::check(
            &dockerfile,
            &Facts {
                options: &options,
                bases: &bases,
                ignore: &opened.contexts.ignored(),
                all_stages: true,
            },
        )?;
        let failure = match lower(&dockerfile, &options, &bases) {
            Err(error) if !matches!(error.kind, LowerErrorKind::Base(_)) => {
                Some(check::Failure::Lower(error))
            }
            _ => None,
        };
        check::print(Some(&report), failure, picture, self.format)
    }

    fn print(
        &self,
        whole: &impl serde::Serialize,
        parts: &impl std::fmt::Debug,
    ) -> anyhow::Result<()> {
        match self.format {
            Format::Json => terminal::print_json(whole),
            Format::Text => terminal::print(format_args!("{parts:#?}\n")),
        }
    }

    fn build(
        &mut self,
        global: &Global,
        opened: &Opened,
        dockerfile: &Dockerfile,
        picture: &Picture<'_>,
        began: Instant,
    ) -> anyhow::Result<()> {
        let store = global.store()?;
        let options = self.dated(global, &store, opened, dockerfile)?;
        let bases = self.pulling(&store)?;
        let below = Below {
            store: &store,
            bases: &bases,
        };
        let lowered = match self.is_base {
            true => lower(dockerfile, &options, &below),
            false => lower(dockerfile, &options, &bases),
        };
        let mut plan = lowered.map_err(|error| picture.of_lowering(error))?;
        self.from_image.as_root(&mut plan);
        let beginning = match self.is_base {
            true => self.name_base(&below, &mut plan)?,
            false => None,
        };
        bases.complete(&plan)?;
        let bases = StoreBases(&store);
        let person = self.debug.person(*picture);
        let no_cache = self.anew.of(dockerfile, &options)?;
        let request = Request {
            debugger: person.as_ref().map(|person| person as &dyn Debugger),
            ..self.request(&store, opened, no_cache)?
        };
        let report = firebuild_plan::check::check(
            dockerfile,
            &Facts {
                options: &options,
                bases: &bases,
                ignore: &opened.contexts.ignored(),
                all_stages: false,
            },
        )?;
        check::tell_of_language(picture.text, self.progress);
        check::tell(&report, picture, self.progress)?;
        // Where it cannot be written, that is said before anything is done.
        let provenance = self.provenance.as_deref().map(fs_err::File::create);
        let provenance = provenance.transpose()?;
        let started = jiff::Timestamp::now().as_second();
        let built = self.execute(&store, &plan, &request, picture, began)?;
        if let Some(beginning) = beginning {
            beginning.keep(&self.tags)?;
        }
        self.keep(&store, Some(picture.name), base::from(&plan))?;
        self.caches
            .export(&store, &built, &self.sensitive.trust()?)?;
        if let Some(file) = provenance {
            let facts = provenance::Facts {
                store: &store,
                plan: &plan,
                options: &options,
                contexts: &opened.contexts,
                dockerfile: (picture.name, picture.text),
                tags: &self.tags,
                kernel: self.vm.known_kernel(&store),
                started: u64::try_from(started).unwrap_or_default(),
                built: &built,
            };
            provenance::write(file, &facts)?;
        }
        self.tell(&built, began)
    }

    /// Puts the image to where images are kept.
    fn keep(
        &self,
        store: &Store,
        dockerfile: Option<&str>,
        parent: Option<&Reference>,
    ) -> anyhow::Result<()> {
        let kind = match self.is_base {
            true => Kind::BaseOs,
            false => Kind::Rootfs,
        };
        let made = BuildConfig {
            build_args: self.choices.told_build_args(),
            dockerfile: dockerfile.unwrap_or_default().to_owned(),
            ..self.from_image.told()
        };
        self.keep.keep(store, &self.tags, (kind, made), parent)
    }

    /// Sees that a base has a name, and begins where it should.
    fn name_base(
        &mut self,
        below: &Below<'_>,
        plan: &mut Plan,
    ) -> anyhow::Result<Option<Beginning>> {
        let beginning = below.settle(plan)?;
        if self.tags.is_empty() {
            self.tags = vec![Beginning::name(beginning.as_ref())?];
        }
        Ok(beginning)
    }

    /// What the builder needs beside the plan.
    fn request<'a>(
        &'a self,
        store: &Store,
        opened: &'a Opened,
        no_cache: NoCache,
    ) -> anyhow::Result<Request<'a>> {
        (self.keep.storage()).bring_kernel(store, self.vm.wanted_kernel())?;
        Ok(Request {
            contexts: &opened.contexts,
            tags: &self.tags,
            no_cache,
            cache_from: self.caches.open(&self.sensitive.trust()?)?,
            jobs: self.jobs.and_then(NonZeroUsize::new),
            vm: self.vm.options(store, &self.bootstrap)?,
            secrets: self.sensitive.secrets(),
            agents: self.sensitive.agents()?,
            certificates: self.sensitive.certificates()?,
            proxies: lower::proxies(&self.choices.build_args()),
            debugger: None,
        })
    }

    /// Executes a plan and shows how it goes.
    fn execute(
        &self,
        store: &Store,
        plan: &Plan,
        request: &Request<'_>,
        picture: &Picture<'_>,
        began: Instant,
    ) -> anyhow::Result<Built> {
        let timeline = self.timeline.as_deref().map(fs_err::File::create);
        let timeline = timeline.transpose()?;
        let recorder = Recorder::new(progress::shown(self.progress, began));
        let built = block_on(interruptible(store, plan, request, &recorder))?;
        if let Some(mut file) = timeline {
            let names = familiar(&self.tags);
            let facts = timeline::Facts {
                title: if names.is_empty() {
                    picture.name
                } else {
                    &names
                },
                built: built.as_ref().ok(),
            };
            file.write_all(timeline::page(&recorder, &facts).as_bytes())?;
        }
        timeline::trace(&recorder);
        // The live view makes room for what is said last.
        drop(recorder);
        built.map_err(|error| picture.of_build(error, self.debug.wanted()))
    }

    fn tell(&self, built: &Built, began: Instant) -> anyhow::Result<()> {
        let names = match &self.tags[..] {
            [] => String::new(),
            tags => format!(" as {}", familiar(tags)),
        };
        let saved = match built.saved.as_millis() {
            0..50 => String::new(),
            _ => format!(", {} saved by the cache", progress::time(built.saved)),
        };
        let took = progress::time(built.duration);
        match self.progress {
            progress::Style::Json => progress::json::built(built, began),
            _ => terminal::say(format_args!("built {}{names} in {took}{saved}", built.size)),
        }
        terminal::print(format_args!("{}\n", built.digest))
    }
}

/// Builds until it is done or the person interrupts it; then the build VM is stopped.
async fn interruptible(
    store: &Store,
    plan: &Plan,
    request: &Request<'_>,
    progress: &dyn firebuild_builder::progress::Progress,
) -> Result<Built, BuildEnd> {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return Ok(firebuild_builder::build(store, plan, request, progress).await?);
    };
    let hangup = async {
        // A shell goes with its terminal. Nothing else does that is started so that it stays.
        match request.debugger.map(|_| signal(SignalKind::hangup())) {
            Some(Ok(mut hangup)) => hangup.recv().await,
            _ => std::future::pending().await,
        }
    };
    tokio::select! {
        built = firebuild_builder::build(store, plan, request, progress) => Ok(built?),
        _ = interrupt.recv() => Err(BuildEnd::Interrupted),
        _ = terminate.recv() => Err(BuildEnd::Interrupted),
        _ = hangup => Err(BuildEnd::Interrupted),
    }
}

/// How a build ended without a result.
#[derive(Debug)]
pub(crate) enum BuildEnd {
    /// It failed.
    Failed(firebuild_builder::Error),
    /// The person did not want it any more.
    Interrupted,
}

impl From<firebuild_builder::Error> for BuildEnd {
    fn from(error: firebuild_builder::Error) -> Self {
        Self::Failed(error)
    }
}

/// Bases for checks: those that are here.
struct Known<'a>(Option<StoreBases<'a>>);

impl Bases for Known<'_> {
    fn config(&self, image: &Reference) -> Result<ImageConfig, BoxError> {
        match &self.0 {
            Some(bases) => bases.config(image),
            None => Err("there is no store".into()),
        }
    }
}

/// Bases for printing a plan, which fetches nothing: an image that is not there has no
/// configuration.
struct OrNothing<'a>(StoreBases<'a>);

impl Bases for OrNothing<'_> {
    fn config(&self, image: &Reference) -> Result<ImageConfig, BoxError> {
        Ok(self
            .0
            .config(image)
            .unwrap_or_else(|_| ImageConfig::scratch(Platform::host())))
    }
}
