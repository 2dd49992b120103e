//! The instructions of a Dockerfile, as written: nothing is expanded, nothing looked up.
//!
//! A [`Word`] may hold variables and quotes unless its documentation says "as it is"; whoever uses
//! it expands it first, in the environment of that point of the build.

mod kinds;

use serde::{Serialize, Serializer};

use crate::directive::{CheckOptions, Directives};
use crate::{Heredoc, Span, Warning, Word};

pub use kinds::*;

/// A parsed Dockerfile.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Dockerfile {
    /// The parser directives at the top.
    pub directives: Directives,
    /// The instructions in the order of the file; at least one.
    pub instructions: Vec<Instruction>,
    /// What is legal and probably not meant, as far as the text alone tells; nothing is turned off
    /// yet. See [`Dockerfile::asked_for`].
    pub warnings: Vec<Warning>,
}

/// One instruction.
#[derive(Debug, Clone, PartialEq)]
pub struct Instruction {
    /// What it says.
    pub kind: InstructionKind,
    /// From its first character to the end of its last line, heredocs included.
    pub span: Span,
    /// The instruction's first word, in its original case.
    pub keyword: Word,
    /// The line as history shows it: continuations joined, comments inside them removed, original
    /// case; without the bodies of heredocs.
    pub original: String,
    /// The comments in the lines directly above, without `#`, none of them a directive.
    pub comments: Vec<String>,
    /// What a `# check=` comment directly above says of this instruction.
    pub check: Option<CheckOptions>,
}

/// What an instruction says.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "instruction", rename_all = "UPPERCASE")]
pub enum InstructionKind {
    /// `ADD`
    Add(AddFiles),
    /// `ARG`
    Arg(Arguments),
    /// `CMD`
    Cmd(CommandLine),
    /// `COPY`
    Copy(CopyFiles),
    /// `ENTRYPOINT`
    Entrypoint(CommandLine),
    /// `ENV`
    Env(Assignments),
    /// `EXPOSE`
    Expose(Expose),
    /// `FROM`
    From(FromImage),
    /// `HEALTHCHECK`
    Healthcheck(Healthcheck),
    /// `LABEL`
    Label(Assignments),
    /// `MAINTAINER`
    Maintainer(Maintainer),
    /// `ONBUILD`
    Onbuild(Onbuild),
    /// `RUN`
    Run(Run),
    /// `SHELL`
    Shell(Shell),
    /// `STOPSIGNAL`
    StopSignal(StopSignal),
    /// `USER`
    User(User),
    /// `VOLUME`
    Volume(Volume),
    /// `WORKDIR`
    Workdir(Workdir),
}

impl InstructionKind {
    /// The instruction's name in upper case.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Add(_) => "ADD",
            Self::Arg(_) => "ARG",
            Self::Cmd(_) => "CMD",
            Self::Copy(_) => "COPY",
            Self::Entrypoint(_) => "ENTRYPOINT",
            Self::Env(_) => "ENV",
            Self::Expose(_) => "EXPOSE",
            Self::From(_) => "FROM",
            Self::Healthcheck(_) => "HEALTHCHECK",
            Self::Label(_) => "LABEL",
            Self::Maintainer(_) => "MAINTAINER",
            Self::Onbuild(_) => "ONBUILD",
            Self::Run(_) => "RUN",
            Self::Shell(_) => "SHELL",
            Self::StopSignal(_) => "STOPSIGNAL",
            Self::User(_) => "USER",
            Self::Volume(_) => "VOLUME",
            Self::Workdir(_) => "WORKDIR",
        }
    }

    /// The heredocs of this instruction, or of the one inside an `ONBUILD`.
    pub fn heredocs(&self) -> Vec<&Heredoc> {
        match self {
            Self::Run(run) => run.heredocs.iter().collect(),
            Self::Copy(copy) => copy.sources.iter().filter_map(Source::heredoc).collect(),
            Self::Add(add) => add.sources.iter().filter_map(Source::heredoc).collect(),
            Self::Onbuild(onbuild) => onbuild.inner.kind.heredocs(),
            _ => Vec::new(),
        }
    }
}

impl Serialize for Instruction {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown<'a> {
            line: u32,
            end_line: u32,
            #[serde(flatten)]
            kind: &'a InstructionKind,
            original: &'a str,
            #[serde(skip_serializing_if = "<[String]>::is_empty")]
            comments: &'a [String],
            #[serde(skip_serializing_if = "Option::is_none")]
            check: Option<&'a CheckOptions>,
        }
        Shown {
            line: self.span.start.line,
            end_line: self.span.end.line,
            kind: &self.kind,
            original: &self.original,
            comments: &self.comments,
            check: self.check.as_ref(),
        }
        .serialize(serializer)
    }
}
