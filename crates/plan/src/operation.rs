//! The graph: stages, their bases, their operations.

use std::collections::BTreeMap;

use firebuild_core::{Digest, Platform, Reference};
use firebuild_dockerfile::chmod::ModeChange;
use firebuild_dockerfile::source::GitSource;
use firebuild_dockerfile::{Network, Security};
use serde::Serialize;

use crate::{Change, Mount};

/// The version of the printed form. It counts up when a field changes its meaning or goes away.
pub const VERSION: u32 = 2;

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
    /// Labels that are put on the image after everything else.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The time that everything made is said to be of, in seconds since 1970
    /// (`SOURCE_DATE_EPOCH`); the present if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
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
    /// The files of a named context, in one layer.
    Context(String),
}

/// One operation, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What is done.
    #[serde(flatten)]
    pub operation: Operation,
    /// Where it is written.
    pub origin: Origin,
    /// The image history's `created_by`; none where the history has no entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<String>,
}

/// Where something is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
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
    /// The name of the machine that it runs in, as it sees it.
    pub hostname: String,
    /// What it may reach.
    pub network: Network,
    /// What it may do to the kernel that it runs on.
    pub security: Security,
    /// Files that only this process sees.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<RunFile>,
    /// What is mounted while it runs, in this order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
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
    /// Where the items that are paths are.
    pub from: Source,
    /// What is copied, in order.
    pub items: Vec<Item>,
    /// An absolute path; a trailing `/` or `/.` says that it is a directory.
    pub destination: String,
    /// The new owner: `user`, `uid`, `user:group`, `:group`, …; none keeps what the source says,
    /// which for a context is root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The change of the permission bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<ModeChange>,
    /// Paths below each source that are left out: patterns of an ignore file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Whether the sources keep their paths below the destination.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub parents: bool,
    /// Whether the result depends on nothing that lies below it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub link: bool,
    /// What becomes of archives.
    pub unpack: Unpack,
}

/// What a copy does with archives. What is one is told by content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unpack {
    /// They are copied like any file.
    #[default]
    Never,
    /// Those that are paths are unpacked: ADD as it is.
    Local,
    /// Downloads too: `ADD --unpack`.
    Always,
}

/// Where files are that a step reads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The build context.
    Context,
    /// A named context that is a tree of files.
    Named(String),
    /// An earlier stage, by its position in [`Plan::stages`].
    Stage(usize),
    /// An image.
    Image(Reference),
    /// Nothing: `scratch`.
    Empty,
}

/// One thing to copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
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
    /// A file to download.
    Http {
        /// Its address.
        url: String,
        /// The name that it gets where the destination is a directory.
        file_name: String,
        /// The digest that its content must have.
        #[serde(skip_serializing_if = "Option::is_none")]
        checksum: Option<Digest>,
    },
    /// A repository to clone.
    Git {
        /// Where it is and what of it is wanted.
        source: GitSource,
        /// Its address as it was written.
        written: String,
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

impl Item {
    /// The path or pattern, if it is one.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::Path(path) => Some(path),
            Self::Inline { .. } | Self::Http { .. } | Self::Git { .. } => None,
        }
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
    /// Where it reads files.
    #[must_use]
    pub fn reads(&self) -> Vec<&Source> {
        match self {
            Self::Copy(copy) => vec![&copy.from],
            Self::Run(run) => run.mounts.iter().filter_map(crate::Mount::source).collect(),
            Self::Directory(_) | Self::Configure(_) => Vec::new(),
        }
    }
}
