//! What each instruction is made of.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::mount::MountFlag;
use crate::{Heredoc, Instruction, Word};

/// A command in one of its two forms; neither is expanded by the builder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Command {
    /// Text for the shell in force.
    Shell(String),
    /// A program and its arguments, from a JSON array; may be empty.
    Exec(Vec<String>),
}

/// `CMD`, `ENTRYPOINT`: the command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CommandLine {
    /// The command.
    pub command: Command,
}

/// `ARG`: one or several build arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Arguments {
    /// The arguments, at least one; each may use those before it.
    pub arguments: Vec<Argument>,
}

/// One build argument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Argument {
    /// Its name, not empty.
    pub name: Word,
    /// Its default; `None` declares it without a value, which is not an empty one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Word>,
    /// The rest of a comment directly above whose first word is the name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// `ENV`, `LABEL`: names and values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Assignments {
    /// The pairs, at least one. All are expanded in the environment before the instruction.
    pub assignments: Vec<Assignment>,
    /// Written as `NAME value`, without `=`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub legacy: bool,
}

/// A name and a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Assignment {
    /// The name, not empty.
    pub name: Word,
    /// The value.
    pub value: Word,
}

/// `FROM`: the beginning of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FromImage {
    /// The base: an image, an earlier stage, `scratch`.
    pub image: Word,
    /// The stage's name in lower case, as it is: `[a-z][a-z0-9-_.]*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Word>,
    /// `--platform`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Word>,
    /// The rest of a comment directly above whose first word is the stage's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// `RUN`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Run {
    /// The command; in shell form without the bodies of its heredocs. See [`Run::invocation`].
    pub command: Command,
    /// The heredocs in the order of their bodies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub heredocs: Vec<Heredoc>,
    /// `--mount`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<MountFlag>,
    /// `--network`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// `--security`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security: Option<Security>,
    /// `--device`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceRequest>,
    /// The names of the flags used and their places, in order.
    #[serde(skip)]
    pub flags: Vec<Word>,
}

/// The network of a `RUN`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// The builder's usual network.
    Default,
    /// Only a loopback interface.
    None,
    /// The network of the machine that runs the step.
    Host,
}

/// The confinement of a `RUN`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// The usual one.
    Sandbox,
    /// None.
    Insecure,
}

/// A device that a `RUN` asks for (`--device`), by its CDI name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceRequest {
    /// The name, as it is.
    pub name: Word,
    /// Whether the step fails where the device is missing.
    pub required: bool,
}

/// `COPY`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CopyFiles {
    /// The sources in their order, at least one.
    pub sources: Vec<Source>,
    /// The destination.
    pub destination: Word,
    /// `--from`: a stage, its index, a named context or an image, as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Word>,
    /// What `ADD` has too.
    #[serde(flatten)]
    pub options: TransferOptions,
    /// `--parents`
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub parents: bool,
    /// Written as a JSON array.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub json: bool,
}

/// `ADD`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AddFiles {
    /// The sources in their order, at least one. See [`crate::source::classify`].
    pub sources: Vec<Source>,
    /// The destination.
    pub destination: Word,
    /// What `COPY` has too.
    #[serde(flatten)]
    pub options: TransferOptions,
    /// `--checksum`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksum: Option<Word>,
    /// `--keep-git-dir`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_git_dir: Option<bool>,
    /// `--unpack`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unpack: Option<bool>,
    /// Written as a JSON array.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub json: bool,
}

/// The flags that `COPY` and `ADD` share.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct TransferOptions {
    /// `--chown`. See [`crate::ownership::Ownership`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chown: Option<Word>,
    /// `--chmod`. See [`crate::chmod::ModeChange`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chmod: Option<Word>,
    /// `--link`
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub link: bool,
    /// `--exclude`, as they are: never expanded.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<Word>,
    /// The names of the flags used and their places, in order.
    #[serde(skip)]
    pub flags: Vec<Word>,
}

/// A source of `COPY` or `ADD`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A path or, for `ADD`, a URL.
    Path(Word),
    /// A file whose content stands in the Dockerfile and whose name is the delimiter.
    Heredoc(Heredoc),
}

/// `EXPOSE`. See [`crate::expose::parse`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Expose {
    /// The ports, at least one; the only words that are split after expansion.
    pub ports: Vec<Word>,
}

/// `HEALTHCHECK`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "UPPERCASE")]
pub enum Healthcheck {
    /// `NONE`: an inherited check is turned off.
    None,
    /// `CMD`
    Cmd(HealthcheckCommand),
}

/// A command that tells whether the workload is well. A time of zero is inherited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HealthcheckCommand {
    /// The command, not empty.
    pub command: Command,
    /// `--interval`, zero or at least a millisecond, like the other times.
    #[serde(rename = "interval_ns", serialize_with = "nanoseconds")]
    pub interval: Duration,
    /// `--timeout`
    #[serde(rename = "timeout_ns", serialize_with = "nanoseconds")]
    pub timeout: Duration,
    /// `--start-period`
    #[serde(rename = "start_period_ns", serialize_with = "nanoseconds")]
    pub start_period: Duration,
    /// `--start-interval`
    #[serde(rename = "start_interval_ns", serialize_with = "nanoseconds")]
    pub start_interval: Duration,
    /// `--retries`; 0 is inherited.
    pub retries: u32,
}

fn nanoseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

/// `MAINTAINER`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Maintainer {
    /// The author, as it is.
    pub author: Word,
}

/// `ONBUILD`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Onbuild {
    /// The instruction as it goes into the image's configuration, heredocs included.
    pub expression: String,
    /// The same, parsed: neither `ONBUILD` nor `FROM` nor `MAINTAINER`.
    pub inner: Box<Instruction>,
}

/// `SHELL`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shell {
    /// The program and its arguments, not empty, as they are.
    pub shell: Vec<String>,
}

/// `STOPSIGNAL`. See [`crate::signal::Signal`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StopSignal {
    /// The name or number.
    pub signal: Word,
}

/// `USER`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct User {
    /// `user`, `uid`, `user:group`, `uid:gid`.
    pub user: Word,
}

/// `VOLUME`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Volume {
    /// The paths, at least one, none of them empty.
    pub paths: Vec<Word>,
    /// Written as a JSON array.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub json: bool,
}

/// `WORKDIR`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Workdir {
    /// The directory, absolute or relative to the one in force.
    pub path: Word,
}

impl Source {
    /// The heredoc, if it is one.
    #[must_use]
    pub fn heredoc(&self) -> Option<&Heredoc> {
        match self {
            Self::Heredoc(heredoc) => Some(heredoc),
            Self::Path(_) => None,
        }
    }

    /// The path or URL, if it is one.
    #[must_use]
    pub fn path(&self) -> Option<&Word> {
        match self {
            Self::Path(path) => Some(path),
            Self::Heredoc(_) => None,
        }
    }
}
