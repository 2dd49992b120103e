//! What `run` takes about the process in a microVM: what it is beyond what its image says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use firebuild_core::ImageConfig;
use firebuild_core::config::{DEFAULT_PATH, ProcessConfig};
use firebuild_protocol::workload::Workload;

use super::health::HealthArguments;
use crate::arguments::values;
use crate::error::hinted;
use crate::terminal::{self, Wanted};

/// The workload of a VM.
#[derive(Debug, Args)]
pub(super) struct WorkloadArguments {
    /// Set an environment variable; without a value it is taken from the environment
    #[arg(long, short, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Set the environment variables of a file of NAME=VALUE lines; `--env` wins
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Run this instead of the image's entrypoint
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Run as this user
    #[arg(long, short, value_name = "USER[:GROUP]", value_parser = values::user)]
    user: Option<String>,
    /// Start in this directory
    #[arg(long, short, value_name = "DIR")]
    workdir: Option<String>,
    /// Let it read: pass standard input on, or with `--detach` what `attach` passes on
    #[arg(long, short)]
    interactive: bool,
    /// Give it a terminal
    #[arg(long, short)]
    tty: bool,
    #[command(flatten)]
    health: HealthArguments,
}

impl WorkloadArguments {
    /// What a command that stays with it does with its streams.
    pub(super) fn wanted(&self) -> Wanted {
        Wanted {
            input: self.interactive,
            terminal: self.tty,
        }
    }

    /// What the VM is to run: the image's process, as far as nothing else is said.
    pub(super) fn workload(
        &self,
        config: &ImageConfig,
        command: &[String],
    ) -> anyhow::Result<Workload> {
        let health = self.health.check(config)?;
        let config = &config.config;
        let given = self.environment()?;
        let mut environment: Vec<(String, String)> = Vec::new();
        let image = config.env.iter().filter_map(|entry| entry.split_once('='));
        let path = ("PATH", DEFAULT_PATH);
        for (name, value) in std::iter::once(path).chain(image).chain(
            given
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        ) {
            match environment.iter_mut().find(|(known, _)| known == name) {
                Some(known) => value.clone_into(&mut known.1),
                None => environment.push((name.to_owned(), value.to_owned())),
            }
        }
        Ok(Workload {
            environment,
            run_environment: given.into_iter().collect(),
            workdir: match self
                .workdir
                .as_ref()
                .unwrap_or(&config.working_dir)
                .as_str()
            {
                "" => "/".to_owned(),
                directory => directory.to_owned(),
            },
            user: self.user.clone().unwrap_or_else(|| config.user.clone()),
            terminal: self.tty.then(terminal::facts),
            interactive: self.interactive,
            health,
            ..Workload::new(self.arguments(config, command))
        })
    }

    /// The entrypoint and then the command; another entrypoint takes the image's command away.
    fn arguments(&self, config: &ProcessConfig, command: &[String]) -> Vec<String> {
        let (entrypoint, default) = match &self.entrypoint {
            Some(program) => (vec![program.clone()], Vec::new()),
            None => (
                config.entrypoint.clone().unwrap_or_default(),
                config.cmd.clone().unwrap_or_default(),
            ),
        };
        let command = if command.is_empty() {
            default
        } else {
            command.to_vec()
        };
        entrypoint.into_iter().chain(command).collect()
    }

    /// What the person sets: files first, in their order, then `--env`.
    fn environment(&self) -> anyhow::Result<BTreeMap<String, String>> {
        environment(&self.env_file, &self.env)
    }
}

/// What `--env-file` and `--env` set: files first, in their order.
pub(crate) fn environment(
    files: &[PathBuf],
    entries: &[String],
) -> anyhow::Result<BTreeMap<String, String>> {
    let mut environment = BTreeMap::new();
    for file in files {
        read_environment(file, &mut environment)?;
    }
    for entry in entries {
        add(entry, &mut environment)?;
    }
    Ok(environment)
}

fn read_environment(file: &Path, environment: &mut BTreeMap<String, String>) -> anyhow::Result<()> {
    let text = fs_err::read_to_string(file).context("cannot read the environment file")?;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim_start();
        if !line.is_empty() && !line.starts_with('#') {
            add(line, environment)
                .with_context(|| format!("`{}`, line {number}", file.display()))?;
        }
    }
    Ok(())
}

/// `NAME=VALUE`, or `NAME` with the value that it has here, if any.
fn add(entry: &str, environment: &mut BTreeMap<String, String>) -> anyhow::Result<()> {
    let (name, value) = match entry.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (entry, std::env::var(entry).ok()),
    };
    if name.is_empty() || name.contains(char::is_whitespace) || entry.contains('\0') {
        return Err(hinted(
            format!("`{entry}` does not set an environment variable"),
            "write NAME=VALUE",
        ));
    }
    if let Some(value) = value {
        environment.insert(name.to_owned(), value);
    }
    Ok(())
}
