//! Why a build has no context, or no Dockerfile.

use std::io;
use std::path::PathBuf;

use firebuild_plan::ParseSourceError;
use firebuild_plan::ignore::IgnoreError;

use crate::archive::ArchiveError;
use crate::fetch::FetchError;

/// Why a context cannot be had, or a Dockerfile is not in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    /// A repository's address that cannot be understood.
    #[error("`{address}` is not the address of a repository")]
    Address {
        /// As it was written, without a password.
        address: String,
        /// Why.
        #[source]
        source: ParseSourceError,
    },
    /// An address that should be a repository's, and does not look like one.
    #[error("`{0}` is not the address of a repository: its path does not end in `.git`")]
    NoRepository(String),
    /// An address that should name a Dockerfile.
    #[error("`{0}` names no file in its repository")]
    NoFile(String),
    /// A named context that cannot be understood.
    #[error("`{value}` cannot be a named context: {reason}")]
    Named {
        /// As it was written.
        value: String,
        /// What is wrong.
        reason: String,
    },
    /// There is no such directory.
    #[error("there is no directory `{}`", .0.display())]
    NoDirectory(PathBuf),
    /// A file where a directory should be.
    #[error("`{}` is a file, and the context has to be a directory", .0.display())]
    File(PathBuf),
    /// There is no Dockerfile.
    #[error("there is no Dockerfile `{0}`")]
    NoDockerfile(String),
    /// There is no Dockerfile in a context from elsewhere.
    #[error("there is no Dockerfile `{file}` in {place}")]
    NoDockerfileInside {
        /// The context.
        place: String,
        /// The path that was looked for.
        file: String,
    },
    /// A file on the way to the build could not be read.
    #[error("cannot read {what}")]
    Read {
        /// What it is.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An ignore file is wrong.
    #[error("cannot use `{}`", path.display())]
    Ignore {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: IgnoreError,
    },
    /// Two things were to come from standard input.
    #[error("context and Dockerfile cannot both come from standard input")]
    BothFromInput,
    /// A Dockerfile was named within something that has no files.
    #[error("{place} is a single Dockerfile, so `{file}` cannot be in it")]
    NotInside {
        /// What it is.
        place: String,
        /// The file that was named.
        file: String,
    },
    /// What should be an archive is none.
    #[error("{0} is not an archive")]
    NotArchive(String),
    /// What is no archive is no text either.
    #[error("{0} is neither a whole archive nor a Dockerfile")]
    Neither(String),
    /// What a server shows to people.
    #[error("`{0}` is a web page, neither an archive nor a Dockerfile")]
    Page(String),
    /// An archive that cannot be used.
    #[error("{place} cannot be used as context")]
    Archive {
        /// What it is.
        place: String,
        /// Why.
        #[source]
        source: ArchiveError,
    },
    /// A web server's folder was to give more than one file.
    #[error(
        "`{path}` cannot be copied from `{folder}`: from a folder on a web server only single files can be taken"
    )]
    NotSingle {
        /// The folder.
        folder: String,
        /// What was to be copied.
        path: String,
    },
    /// There is no context of that name.
    #[error("there is no context `{0}`")]
    NoContext(String),
    /// Something could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// There is no store to keep what is fetched.
    #[error("what comes from elsewhere cannot be kept")]
    Store(#[source] firebuild_plan::lower::BoxError),
}

impl ContextError {
    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::File(_) | Self::NoDockerfile(_) => {
                "name the Dockerfile with `-f FILE`; the last argument is the directory whose files it may copy"
            }
            Self::NoDockerfileInside { .. } => {
                "name the Dockerfile with `-f FILE`, a path in the context"
            }
            Self::NotSingle { .. } => {
                "build from the repository or from an archive: `firebuild build https://host/repo.git`"
            }
            Self::Page(_) => {
                "a repository's address ends in `.git`, and a file's is that of the file itself"
            }
            Self::Address { .. } => {
                "the form is `https://host/repo.git#REFERENCE:DIRECTORY`, or queries: tag, branch, ref, commit, subdir, keep-git-dir, submodules"
            }
            Self::Fetch(error) => return error.hint(),
            _ => return None,
        };
        Some(text.to_owned())
    }

    pub(crate) fn read(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Read { what, source }
    }
}
