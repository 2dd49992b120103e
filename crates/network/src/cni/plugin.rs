//! Asking one plugin: environment and configuration in, result or error out, as section 2 of the
//! specification has it.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::configuration::{NetworkList, Plugin};
use super::error::{CniError, words};
use super::process::{self, Ended};
use super::result::Outcome;
use super::search;
use super::version::Version;

/// What a plugin is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Add,
    Check,
    Delete,
    Status,
    Collect,
}

impl Verb {
    /// As `CNI_COMMAND` has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Check => "CHECK",
            Self::Delete => "DEL",
            Self::Status => "STATUS",
            Self::Collect => "GC",
        }
    }
}

/// Who is attached, and with what plugins.
#[derive(Debug, Clone)]
pub(crate) struct Sandbox<'a> {
    /// `CNI_CONTAINERID`.
    pub(crate) container: &'a str,
    /// `CNI_NETNS`; none if it is gone, which DEL has to bear.
    pub(crate) namespace: Option<&'a str>,
    /// `CNI_IFNAME`.
    pub(crate) device: &'a str,
    /// `CNI_ARGS`.
    pub(crate) arguments: &'a [(String, String)],
    /// `CNI_PATH`.
    pub(crate) programs: &'a [PathBuf],
    /// What capabilities get at run time.
    pub(crate) capabilities: &'a Map<String, Value>,
    /// How long a plugin may take.
    pub(crate) limit: Duration,
}

/// An error as plugins print it.
#[derive(Deserialize)]
struct Refusal {
    code: u64,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    details: String,
}

/// Asks a plugin. What it prints is returned if it succeeds and prints anything.
pub(crate) fn ask(
    list: &NetworkList,
    plugin: &Plugin,
    verb: Verb,
    sandbox: &Sandbox<'_>,
    more: Map<String, Value>,
) -> Result<Vec<u8>, CniError> {
    let network = || list.name.clone();
    let named = || plugin.kind.clone();
    let program = search::program(sandbox.programs, &plugin.kind);
    let program = program.ok_or_else(|| CniError::PluginMissing {
        network: network(),
        plugin: named(),
        directories: search::shown(sandbox.programs),
    })?;
    let mut command = Command::new(program);
    environment(&mut command, verb, sandbox);
    let input = Value::Object(input(list, plugin, sandbox, more)).to_string();
    let doing = format!("run the CNI plugin `{}`", plugin.kind);
    let (words, started) = (firebuild_core::words(&command), Instant::now());
    log::trace!("what `{}` is told: {input}", plugin.kind);
    let ended = process::run(command, input.as_bytes(), sandbox.limit)
        .map_err(|source| CniError::File { doing, source })?;
    let took = started.elapsed().as_millis();
    log::debug!("{words}, to {} `{}`: {took} ms", verb.name(), list.name);
    match ended {
        Ended::Exited { status, output, .. } if status.success() => Ok(output),
        Ended::Exited {
            status,
            output,
            complaints,
        } => Err(match serde_json::from_slice::<Refusal>(&output) {
            Ok(refusal) => CniError::Refused {
                network: network(),
                plugin: named(),
                command: verb.name(),
                code: refusal.code,
                message: said(&[&refusal.msg, &refusal.details]),
            },
            Err(_) => CniError::Failed {
                network: network(),
                plugin: named(),
                command: verb.name(),
                said: said(&[
                    &status.to_string(),
                    &String::from_utf8_lossy(&output),
                    &complaints,
                ]),
            },
        }),
        Ended::TimedOut => Err(CniError::TimedOut {
            network: network(),
            plugin: named(),
            command: verb.name(),
            after: sandbox.limit,
        }),
        Ended::TooMuch => Err(CniError::NoResult {
            network: network(),
            plugin: named(),
            reason: "it is longer than a result can be".to_owned(),
        }),
    }
}

/// Reads what a plugin answered to ADD.
pub(crate) fn outcome(
    list: &NetworkList,
    plugin: &Plugin,
    answer: &[u8],
) -> Result<Outcome, CniError> {
    let read = serde_json::from_slice(answer)
        .map_err(|error| error.to_string())
        .and_then(|value| Outcome::read(value, list.version));
    read.map_err(|reason| CniError::NoResult {
        network: list.name.clone(),
        plugin: plugin.kind.clone(),
        reason: words(&reason),
    })
}

/// The plugin's configuration as section 3 of the specification derives it.
fn input(
    list: &NetworkList,
    plugin: &Plugin,
    sandbox: &Sandbox<'_>,
    more: Map<String, Value>,
) -> Map<String, Value> {
    let mut input = plugin.configuration.clone();
    let wanted: Map<String, Value> = sandbox
        .capabilities
        .iter()
        .filter(|(name, _)| plugin.has_capability(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if !wanted.is_empty() {
        input.insert("runtimeConfig".to_owned(), wanted.into());
    }
    input.insert("name".to_owned(), list.name.as_str().into());
    input.insert("cniVersion".to_owned(), list.version.to_string().into());
    input.extend(more);
    input
}

/// The result of what was done before, as plugins get it.
pub(crate) fn previous(outcome: Option<&Outcome>, version: Version) -> Map<String, Value> {
    let previous = outcome.map(|outcome| ("prevResult".to_owned(), outcome.write(version)));
    previous.into_iter().collect()
}

fn environment(command: &mut Command, verb: Verb, sandbox: &Sandbox<'_>) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CNI_") {
            command.env_remove(name);
        }
    }
    let programs: Vec<_> = sandbox
        .programs
        .iter()
        .map(|path| path.as_os_str())
        .collect();
    // Debian's administrators' programs, which plugins start, are not on every PATH.
    let path = std::env::var("PATH").unwrap_or_default();
    command
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .env("CNI_COMMAND", verb.name())
        .env("CNI_PATH", programs.join(":".as_ref()));
    if matches!(verb, Verb::Add | Verb::Check | Verb::Delete) {
        let arguments: Vec<String> = sandbox
            .arguments
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        command
            .env(CONTAINER, sandbox.container)
            .env("CNI_NETNS", sandbox.namespace.unwrap_or_default())
            .env("CNI_IFNAME", sandbox.device)
            .env("CNI_ARGS", arguments.join(";"));
    }
}

/// The variable by which a plugin's process is known to be at work for a VM.
pub(crate) const CONTAINER: &str = "CNI_CONTAINERID";

fn said(parts: &[&str]) -> String {
    let parts: Vec<String> = parts
        .iter()
        .map(|part| words(part))
        .filter(|part| !part.is_empty())
        .collect();
    words(&parts.join(": "))
}
