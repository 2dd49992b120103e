//! The subcommands, one file each, and what all of them share.

mod attach;
mod baseos;
mod build;
mod check;
mod cni;
mod completion;
mod copy;
mod doctor;
mod egress;
mod exec;
mod firecracker;
mod gone;
pub(crate) mod groups;
mod image;
mod kernel;
mod lifecycle;
mod machine;
mod manual;
mod metrics;
mod network;
mod port;
mod profile;
mod pull;
mod pulling;
mod run;
mod ssh;
mod stats;
mod storage;
mod system;
mod top;
mod volume;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use firebuild_store::Store;

pub(crate) use build::BuildEnd;
pub(crate) use lifecycle::{SUPERVISE, Supervise};

use crate::error;
use crate::logging::LogArguments;
use crate::profile::ProfileName;
use crate::tracing::{self, TracingArguments};

/// Where all state is kept unless somebody says otherwise.
pub(crate) const DEFAULT_ROOT: &str = "/var/lib/firebuild";

/// Where profiles are unless somebody says otherwise.
pub(crate) const PROFILES: &str = "/etc/firebuild/profiles";

/// Build root file systems from Dockerfiles and run them as microVMs
///
/// Every RUN of a Dockerfile is executed inside a microVM; images, kernels and running VMs are
/// kept on this host alone. There is no daemon.
#[derive(Debug, Parser)]
#[command(name = "firebuild", version, max_term_width = 100, after_help = FIRST_STEPS)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
    /// What the command is called.
    #[arg(skip)]
    pub(crate) words: Vec<String>,
}

const FIRST_STEPS: &str = "\
First steps:
  firebuild kernel pull debian:bookworm
  firebuild baseos --bootstrap debian:bookworm --tag debian:bookworm-slim
  firebuild build -t org/app:1.0 .
  firebuild run -d --name app -p 8080:80 org/app:1.0
  firebuild logs -f app";

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Keep all state under this directory
    #[arg(long, global = true, visible_alias = "run-cache", env = "FIREBUILD_ROOT", default_value = DEFAULT_ROOT, value_name = "DIR", help_heading = "Global options")]
    root: PathBuf,
    /// Take values for flags that are not given from this profile [default: default]
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        help_heading = "Global options"
    )]
    profile: Option<ProfileName>,
    /// Where profiles are
    #[arg(long, global = true, default_value = PROFILES, value_name = "DIR", help_heading = "Global options")]
    profile_conf_dir: PathBuf,
    #[command(flatten)]
    log: LogArguments,
    #[command(flatten)]
    tracing: TracingArguments,
}

impl Global {
    /// Where all state is kept.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The profile that was asked for.
    pub(crate) fn profile(&self) -> Option<&ProfileName> {
        self.profile.as_ref()
    }

    /// Where profiles are.
    pub(crate) fn profiles(&self) -> &Path {
        &self.profile_conf_dir
    }

    /// The store under the chosen root.
    pub(crate) fn store(&self) -> anyhow::Result<Store> {
        Ok(Store::open(&self.root)?)
    }
}

/// How facts are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a base image from a distribution's packages or from a Dockerfile
    Baseos(Box<baseos::Baseos>),
    /// Build an image from a Dockerfile
    Build(Box<build::Build>),
    /// Build an image: the original tool's word for `build`
    ///
    /// From `--dockerfile`, whose own folder is the context, or from `--docker-image`.
    Rootfs(Box<build::Rootfs>),
    /// Manage images
    #[command(subcommand)]
    Image(image::Image),
    /// List images: short for `image ls`
    Images(image::Ls),
    /// Remove images: short for `image rm`
    Rmi(image::Rm),
    /// Give an image one more name: short for `image tag`
    Tag(image::Tag),
    /// Bring an image from a registry
    Pull(Box<pull::Pull>),
    /// Send an image to a registry
    Push(Box<pull::Push>),
    /// Show how an image was made: short for `image history`
    History(image::History),
    /// Manage the kernels that microVMs boot
    #[command(subcommand)]
    Kernel(kernel::Kernel),
    /// Come into a microVM by SSH, or see the command for that
    Ssh(ssh::Ssh),
    /// Manage volumes: disks that outlive microVMs
    #[command(subcommand)]
    Volume(volume::Volume),
    /// Start a microVM from an image
    Run(Box<run::Run>),
    /// Run one more process in a running microVM
    Exec(exec::Exec),
    /// Join this terminal with a running microVM's workload
    Attach(attach::Attach),
    /// Copy files between a running microVM and the host
    Cp(copy::Cp),
    /// Show the processes in a running microVM
    Top(top::Top),
    /// Show what running microVMs use, every second
    Stats(stats::Stats),
    /// List microVMs
    #[command(visible_alias = "ps")]
    Ls(lifecycle::Ls),
    /// Show everything about a microVM
    Inspect(lifecycle::Inspect),
    /// Show what a microVM's workload wrote
    Logs(lifecycle::Logs),
    /// Start microVMs again that have ended
    Start(lifecycle::Start),
    /// Ask the workloads of microVMs to end, and wait for it
    Stop(lifecycle::Stop),
    /// Stop microVMs and start them again
    Restart(lifecycle::Restart),
    /// Make microVMs stand still
    Pause(lifecycle::Pause),
    /// Let paused microVMs go on
    Unpause(lifecycle::Unpause),
    /// Wait until microVMs have ended, and print how
    Wait(lifecycle::Wait),
    /// Give a microVM another name
    Rename(lifecycle::Rename),
    /// Change what can change of microVMs that exist
    Update(lifecycle::Update),
    /// Show what happens to microVMs
    Events(lifecycle::EventsCommand),
    /// End a microVM, or send its workload a signal
    Kill(lifecycle::Kill),
    /// Remove microVMs that have ended, with their disks
    Rm(lifecycle::Rm),
    /// Remove all microVMs that have ended, and whatever is left of dead ones
    ///
    /// Root file systems that no image needs any more go as well.
    Purge(lifecycle::Purge),
    /// Show where on the host a microVM's ports are
    Port(port::Port),
    /// Manage the networks that microVMs are in
    #[command(subcommand)]
    Network(network::Network),
    /// Manage profiles: named values for flags
    #[command(subcommand)]
    Profile(profile::Commands),
    /// The original tool's word for `profile create`
    #[command(hide = true)]
    ProfileCreate(Box<profile::Create>),
    /// The original tool's word for `profile ls`
    #[command(hide = true)]
    ProfileLs(profile::Ls),
    /// The original tool's word for `profile inspect`
    #[command(hide = true)]
    ProfileInspect(profile::Inspect),
    /// Print what a shell needs to complete commands, flags and names
    ///
    /// Names are those of VMs, images, kernels and profiles.
    Completion(completion::Completion),
    /// Write manual pages
    #[command(hide = true)]
    Man(manual::Manual),
    /// Print or serve numbers about VMs and the store, as Prometheus reads them
    Metrics(metrics::Metrics),
    /// Tell what this host has and lacks for firebuild, and how to mend it
    ///
    /// The exit status is 0 if firebuild works here, and 1 if something is missing that it needs.
    Doctor(doctor::Doctor),
    /// See what the store takes, check it, and make it smaller
    #[command(subcommand)]
    System(system::System),
}

impl Cli {
    /// Does what was asked; errors are printed here.
    pub(crate) fn run(self) -> ExitCode {
        self.global.log.install();
        self.global.tracing.begin(&self.words);
        let result = match self.command {
            Command::Run(run) => run.run(&self.global),
            Command::Exec(exec) => exec.run(&self.global),
            Command::Attach(attach) => attach.run(&self.global),
            other => other.run(&self.global).map(|()| ExitCode::SUCCESS),
        };
        tracing::finish(result.as_ref().err());
        result.unwrap_or_else(|error| error::report(&error))
    }
}

impl Command {
    fn run(self, global: &Global) -> anyhow::Result<()> {
        match self {
            Self::Baseos(command) => command.run(global),
            Self::Build(command) => command.run(global),
            Self::Rootfs(command) => command.run(global),
            Self::Image(command) => command.run(global),
            Self::Images(command) => command.run(global),
            Self::Rmi(command) => command.run(global),
            Self::Tag(command) => command.run(global),
            Self::Pull(command) => command.run(global),
            Self::Push(command) => command.run(global),
            Self::History(command) => command.run(global),
            Self::Kernel(command) => command.run(global),
            Self::Ssh(command) => command.run(global),
            Self::Volume(command) => command.run(global),
            Self::Cp(command) => command.run(global),
            Self::Top(command) => command.run(global),
            Self::Stats(command) => command.run(global),
            Self::Ls(command) => command.run(global),
            Self::Inspect(command) => command.run(global),
            Self::Logs(command) => command.run(global),
            Self::Start(command) => command.run(global),
            Self::Stop(command) => command.run(global),
            Self::Restart(command) => command.run(global),
            Self::Pause(command) => command.run(global),
            Self::Unpause(command) => command.run(global),
            Self::Wait(command) => command.run(global),
            Self::Rename(command) => command.run(global),
            Self::Update(command) => command.run(global),
            Self::Events(command) => command.run(global),
            Self::Kill(command) => command.run(global),
            Self::Rm(command) => command.run(global),
            Self::Purge(command) => command.run(global),
            Self::Port(command) => command.run(global),
            Self::Network(command) => command.run(global),
            Self::System(command) => command.run(global),
            Self::Completion(command) => command.run(global),
            Self::Man(command) => command.run(global),
            Self::Metrics(command) => command.run(global),
            Self::Doctor(command) => command.run(global),
            Self::Profile(command) => command.run(global),
            Self::ProfileCreate(command) => command.run(global),
            Self::ProfileLs(command) => command.run(global),
            Self::ProfileInspect(command) => command.run(global),
            Self::Run(_) | Self::Exec(_) | Self::Attach(_) => Ok(()),
        }
    }
}

/// A runtime for one command: one thread, because almost all the time is spent waiting.
pub(crate) fn block_on<F: Future>(future: F) -> anyhow::Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(future))
}
