//! The graph: stages, their bases, their operations.

use firebuild_core::{Platform, Reference};
use serde::Serialize;

use crate::Change;

/// The version of the printed form. It counts up when a field changes its meaning or goes away.
pub const VERSION: u32 = 1;

/// What will be done to make one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// [`VERSION`].
    pub version: u32,
    /// What the image is for.
    pub platform: Platform,
    /// The stages that the target needs, each after those that it depends on.
    pub stages: Vec<Stage>,
    /// The position in `stages` of the one that becomes the image.
    pub target: usize,
}

/// A base and what is done to it, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stage {
    /// What people call it: its name, or `stage-N` by its position in what they wrote.
    pub name: String,
    /// What it starts from.
    pub base: Base,
    /// Where it says so.
    pub origin: Origin,
    /// What is done to it.
    pub steps: Vec<Step>,
}

/// What a stage starts from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Base {
    /// Nothing: no files, and a configuration with only a `PATH`.
    Scratch,
    /// An image.
    Image(Reference),
    /// An earlier stage, by its position in [`Plan::stages`].
    Stage(usize),
}

/// One operation, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What is done.
    #[serde(flatten)]
    pub operation: Operation,
    /// Where it is written.
    pub origin: Origin,
    /// The image history's `created_by`.
    pub history: String,
}

/// Where something is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// The first line, from 1.
    pub line: u32,
    /// The last line.
    pub end_line: u32,
    /// The instruction's text, on one line.
    pub text: String,
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "operation", rename_all = "kebab-case")]
pub enum Operation {
    /// Execute a process in a microVM; what it changes is a layer.
    Run(Run),
    /// Copy files; what that adds is a layer.
    Copy(Copy),
    /// Make a directory if it is not there; what that adds is a layer.
    Directory(Directory),
    /// Change only the configuration.
    Configure(Configure),
}

/// Changes only the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Configure {
    /// In order.
    pub changes: Vec<Change>,
}

/// Executes a process in a microVM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Run {
    /// Program and arguments in exec form, or one text for the shell.
    pub command: Command,
    /// The shell in force: program and arguments before the text.
    pub shell: Vec<String>,
    /// The environment: names and values, each name once.
    pub environment: Vec<(String, String)>,
    /// Declared build arguments with their values, which the process sees as environment too.
    pub build_args: Vec<(String, String)>,
    /// The directory it starts in: absolute.
    pub workdir: String,
    /// `user`, `uid`, `user:group`, `uid:gid`; empty means root.
    pub user: String,
    /// Files that only this process sees.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<RunFile>,
}

/// What to execute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Command {
    /// Text for the shell.
    Shell(String),
    /// Program and arguments.
    Exec(Vec<String>),
}

/// A file that one process sees and no layer holds: a here-document with a `#!` line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunFile {
    /// Its absolute path.
    pub path: String,
    /// Its permission bits.
    pub mode: u16,
    /// Its text.
    pub content: String,
}

/// Copies files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Copy {
    /// Where the files are.
    pub from: CopySource,
    /// What of it, in order.
    pub items: Vec<Item>,
    /// An absolute path; a trailing `/` or `/.` says that it is a directory.
    pub destination: String,
    /// The new owner: `user`, `uid`, `user:group`, `:group`, …; none keeps what the source says,
    /// which for a context is root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// True for ADD, which unpacks archives.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unpack: bool,
}

/// Where a copy's files are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CopySource {
    /// The build context.
    Context,
    /// An earlier stage, by its position in [`Plan::stages`].
    Stage(usize),
    /// An image.
    Image(Reference),
}

/// One thing to copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Item {
    /// A path or pattern.
    Path(String),
    /// A file whose text is written in the plan: a here-document.
    Inline {
        /// The file's name.
        name: String,
        /// Its text.
        content: String,
    },
}

/// Makes a directory, with its parents, if it is not there: what WORKDIR does beside its change of
/// the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Directory {
    /// An absolute path.
    pub path: String,
    /// Who owns what is made: as [`Run::user`].
    pub user: String,
    /// The change of the configuration.
    pub changes: Vec<Change>,
}

impl Plan {
    /// The stage that becomes the image.
    #[must_use]
    pub fn target(&self) -> &Stage {
        &self.stages[self.target]
    }
}

impl Operation {
    /// What it changes of the configuration.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        match self {
            Self::Configure(configure) => &configure.changes,
            Self::Directory(directory) => &directory.changes,
            Self::Run(_) | Self::Copy(_) => &[],
        }
    }
}
