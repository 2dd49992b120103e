//! `firebuild build`: an image from a Dockerfile.

mod cache;
mod choices;
mod sensitive;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use firebuild_builder::{Built, NoCache, Request, StoreBases};
use firebuild_core::{ImageConfig, Platform, Reference};
use firebuild_dockerfile::{Dockerfile, ParseError};
use firebuild_plan::Plan;
use firebuild_plan::check::Facts;
use firebuild_plan::ignore::Patterns;
use firebuild_plan::lower::{self, Bases, BoxError, LowerErrorKind};
use firebuild_plan::lower::{lower, outline};
use firebuild_store::Store;

use choices::{Choices, familiar};
use sensitive::SensitiveArguments;

use super::machine::VmArguments;
use super::{Format, Global, block_on, check};
use crate::error::hinted;
use crate::picture::Picture;
use crate::progress;
use crate::terminal;

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

/// The building itself.
#[derive(Debug, Args)]
struct ImageBuild {
    /// Give the image this name (may be repeated)
    #[arg(long = "tag", short, value_name = "NAME[:TAG]")]
    tags: Vec<Reference>,
    /// The Dockerfile; `-` reads standard input
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    choices: Choices,
    #[command(flatten)]
    sensitive: SensitiveArguments,
    /// Do everything anew, or only what these stages do
    #[arg(long, value_name = "STAGE", num_args = 0.., require_equals = true, value_delimiter = ',')]
    no_cache: Option<Vec<String>>,
    /// How many build VMs may run at once; as many as the host has room for, if not given
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
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
    vm: VmArguments,
    #[command(flatten)]
    bootstrap: super::machine::BootstrapArguments,
    /// The directory whose files COPY and ADD may take
    #[arg(value_name = "CONTEXT", required = true)]
    context: Option<PathBuf>,
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
    fn run(self, global: &Global) -> anyhow::Result<()> {
        let (name, text) = self.text()?;
        let picture = Picture {
            name: &name,
            text: &text,
        };
        let parsed = firebuild_dockerfile::parse(&text);
        if self.check {
            return self.check(global, parsed, &picture);
        }
        let dockerfile = parsed.map_err(|error| picture.of_parse(&error))?;
        match self.print {
            Some(Printed::Instructions) => self.print(&dockerfile, &dockerfile.instructions),
            Some(Printed::Stages) => {
                let outline = outline(&dockerfile, &self.lowering()?)
                    .map_err(|error| picture.of_lowering(error))?;
                self.print(&outline, &outline.stages)
            }
            Some(Printed::Plan) => {
                let store = global.store()?;
                let plan = self.plan(&dockerfile, &OrNothing(StoreBases(&store)), &picture)?;
                self.print(&plan, &plan.stages)
            }
            None => self.build(global, &dockerfile, &picture),
        }
    }

    /// Checks the file, with what is here of its base images.
    fn check(
        &self,
        global: &Global,
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
        let options = self.lowering()?;
        let store = global.store().ok();
        let bases = Known(store.as_ref().map(StoreBases));
        let report = firebuild_plan::check::check(
            &dockerfile,
            &Facts {
                options: &options,
                bases: &bases,
                ignore: &self.ignore()?,
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
        &self,
        global: &Global,
        dockerfile: &Dockerfile,
        picture: &Picture<'_>,
    ) -> anyhow::Result<()> {
        let store = global.store()?;
        let plan = self.plan(dockerfile, &StoreBases(&store), picture)?;
        let ignore = self.ignore()?;
        let request = Request {
            context: self.context(),
            ignore: &ignore,
            tags: &self.tags,
            no_cache: self.no_cache(),
            jobs: self.jobs,
            vm: self.vm.options(&store, &self.bootstrap)?,
            secrets: self.sensitive.secrets(),
            agents: self.sensitive.agents()?,
            certificates: self.sensitive.certificates()?,
            proxies: lower::proxies(&self.choices.build_args()),
        };
        let shown = progress::shown(self.progress);
        let report = firebuild_plan::check::check(
            dockerfile,
            &Facts {
                options: &self.lowering()?,
                bases: &StoreBases(&store),
                ignore: &ignore,
                all_stages: false,
            },
        )?;
        check::tell(&report, picture, self.progress)?;
        let built = block_on(interruptible(&store, &plan, &request, shown.as_ref()))?;
        let built = built.map_err(|error| picture.of_build(error))?;
        self.tell(&built)
    }

    fn no_cache(&self) -> NoCache {
        match &self.no_cache {
            None => NoCache::Nothing,
            Some(stages) if stages.is_empty() => NoCache::All,
            Some(stages) => NoCache::Stages(stages.iter().cloned().collect()),
        }
    }

    fn tell(&self, built: &Built) -> anyhow::Result<()> {
        let names = match &self.tags[..] {
            [] => String::new(),
            tags => format!(" as {}", familiar(tags)),
        };
        terminal::say(format_args!(
            "built {}{names} in {:.1} s",
            built.size,
            built.duration.as_secs_f64()
        ));
        terminal::print(format_args!("{}\n", built.digest))
    }

    /// The Dockerfile's name for messages, and its text.
    fn text(&self) -> anyhow::Result<(String, Vec<u8>)> {
        if self.file.as_deref() == Some(Path::new("-")) {
            let mut text = Vec::new();
            std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut text)
                .context("cannot read the Dockerfile from standard input")?;
            return Ok(("standard input".to_owned(), text));
        }
        let path = self.path();
        match fs_err::read(&path) {
            Ok(text) => Ok((path.display().to_string(), text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let hint = "name the Dockerfile with `-f FILE`; the last argument is the directory whose files it may copy";
                Err(hinted(
                    format!("there is no Dockerfile `{}`", path.display()),
                    hint,
                ))
            }
            Err(error) => Err(anyhow::Error::new(error).context("cannot read the Dockerfile")),
        }
    }

    fn context(&self) -> &Path {
        // It is always given where this is asked.
        self.context.as_deref().unwrap_or(Path::new("."))
    }

    /// The Dockerfile: `-f`, or `Dockerfile` or `dockerfile` in the context.
    fn path(&self) -> PathBuf {
        let usual = self.context().join("Dockerfile");
        let lower = self.context().join("dockerfile");
        match &self.file {
            Some(file) => file.clone(),
            None if !usual.exists() && lower.exists() => lower,
            None => usual,
        }
    }

    /// `<Dockerfile>.dockerignore`, or else `.dockerignore` of the context.
    fn ignore(&self) -> anyhow::Result<Patterns> {
        let mut beside = self.path().into_os_string();
        beside.push(".dockerignore");
        for path in [PathBuf::from(beside), self.context().join(".dockerignore")] {
            match fs_err::read(&path) {
                Ok(text) => {
                    return Patterns::parse(&text)
                        .with_context(|| format!("cannot use `{}`", path.display()));
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Patterns::default())
    }

    fn lowering(&self) -> anyhow::Result<lower::Options> {
        self.choices.lowering(BTreeMap::new(), None)
    }

    fn plan(
        &self,
        dockerfile: &Dockerfile,
        bases: &dyn Bases,
        picture: &Picture<'_>,
    ) -> anyhow::Result<Plan> {
        let options = self.lowering()?;
        lower(dockerfile, &options, bases).map_err(|error| picture.of_lowering(error))
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
    tokio::select! {
        built = firebuild_builder::build(store, plan, request, progress) => Ok(built?),
        _ = interrupt.recv() => Err(BuildEnd::Interrupted),
        _ = terminate.recv() => Err(BuildEnd::Interrupted),
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
