//! Why something could not be fetched.

use std::time::Duration;

use firebuild_core::{ByteSize, Digest};
use firebuild_oci::{Cause, TrustError};
use tokio_rustls::rustls;

use super::GitFailure;

/// Why a file, a repository or a context could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// An address that is none.
    #[error("`{address}` is not an address that can be fetched: {reason}")]
    Address {
        /// As it was written, without a password.
        address: String,
        /// What is wrong.
        reason: String,
    },
    /// The certificates to believe cannot be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The client could not be made.
    #[error("cannot prepare downloads")]
    Client(#[source] Cause),
    /// The server does not have it, or does not say.
    #[error("`{address}` could not be fetched: the server answers {status}{}", reason(*.status))]
    Status {
        /// What was asked for.
        address: String,
        /// The answer's code.
        status: u16,
    },
    /// A host's name means nothing.
    #[error("`{address}` could not be fetched: its host's name is not known")]
    Name {
        /// What was asked for.
        address: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// The server could not be reached.
    #[error("`{address}` could not be fetched: no connection")]
    Connect {
        /// What was asked for.
        address: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// The server did not prove who it is.
    #[error("`{address}` could not be fetched: its server's certificate is not accepted")]
    Tls {
        /// What was asked for.
        address: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// The server sends people on, and on.
    #[error("`{address}` could not be fetched: {reason}")]
    Redirect {
        /// What was asked for.
        address: String,
        /// What the server did.
        reason: &'static str,
    },
    /// More than is taken.
    #[error("`{address}` has more than {limit}, which is the most that is fetched")]
    TooLarge {
        /// What was asked for.
        address: String,
        /// The most that is taken.
        limit: ByteSize,
    },
    /// Nothing came any more.
    #[error("`{address}` could not be fetched: nothing was heard for {} s", .silence.as_secs())]
    Silent {
        /// What was asked for.
        address: String,
        /// For how long.
        silence: Duration,
    },
    /// The connection ended too early.
    #[error("`{address}` could not be fetched: the transfer broke off")]
    Broken {
        /// What was asked for.
        address: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// It is not what was expected.
    #[error("`{address}` has the digest {actual}, but {expected} was expected")]
    Checksum {
        /// What was asked for.
        address: String,
        /// What was written in the Dockerfile.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// The program `git` is not there.
    #[error("the program `git`, which fetches repositories, is not installed")]
    NoGit,
    /// There is no such repository.
    #[error("there is no repository `{address}`")]
    NoRepository {
        /// What was asked for.
        address: String,
        /// What git says.
        #[source]
        source: GitFailure,
    },
    /// The repository is not for everybody.
    #[error("repository `{address}` is not there, or wants credentials")]
    Denied {
        /// What was asked for.
        address: String,
        /// What git says.
        #[source]
        source: GitFailure,
    },
    /// The user's ssh does not know the server.
    #[error("the server of repository `{address}` is not known to ssh")]
    HostKey {
        /// What was asked for.
        address: String,
        /// What ssh says.
        #[source]
        source: GitFailure,
    },
    /// Git failed in some other way.
    #[error("repository `{address}` could not be {doing}")]
    Git {
        /// What was asked for.
        address: String,
        /// What was being done: the end of a sentence.
        doing: &'static str,
        /// What git says.
        #[source]
        source: GitFailure,
    },
    /// The repository has no such branch, tag or commit.
    #[error("repository `{address}` has no branch, tag or commit `{reference}`{}", suggestion(.near.as_ref()))]
    NoReference {
        /// What was asked for.
        address: String,
        /// The reference.
        reference: String,
        /// The name there that is most like it.
        near: Option<String>,
    },
    /// The reference leads to another commit than expected.
    #[error("repository `{address}` is at commit {actual}, but {expected} was expected")]
    OtherCommit {
        /// What was asked for.
        address: String,
        /// What was written in the Dockerfile.
        expected: String,
        /// What is there.
        actual: String,
    },
    /// A directory that is not in the repository.
    #[error("repository `{address}` has no directory `{path}`")]
    Subdirectory {
        /// What was asked for.
        address: String,
        /// The directory.
        path: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// What came makes no file tree.
    #[error("the files of a repository cannot be kept")]
    Archive(#[source] Box<firebuild_oci::Error>),
    /// What was fetched could not be kept.
    #[error("what was fetched could not be kept")]
    Store(#[from] firebuild_store::Error),
}

impl FetchError {
    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Tls { .. } => {
                "if your network re-signs TLS, name its certificate authority with `--ca-certificates FILE`; \
                 if the host has no certificates at all, install its package `ca-certificates`"
            }
            Self::Status {
                status: 401 | 403, ..
            } => "give credentials as a secret: `--secret id=HTTP_AUTH_TOKEN_<host>,src=FILE`",
            Self::NoGit => "install it, as Debian does with `apt install git`",
            Self::Denied { .. } => {
                "give credentials as a secret: `--secret id=GIT_AUTH_TOKEN,src=FILE`; for ssh, see that your agent has the key"
            }
            Self::HostKey { .. } => "connect once with `ssh` to learn its key, and compare it",
            Self::Checksum { .. } => {
                "if the new content is right, change `--checksum`; else somebody changed what is there"
            }
            _ => return None,
        };
        Some(text.to_owned())
    }

    /// Whether a second try may help.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Broken { .. } => true,
            Self::Status { status, .. } => *status >= 500,
            _ => false,
        }
    }

    /// What an error of the client means, for an address.
    pub(super) fn of(error: reqwest::Error, address: &str, silence: Duration) -> Self {
        let error = error.without_url();
        let address = address.to_owned();
        if error.is_redirect() {
            let reason = Cause::find::<RedirectRefused>(&error).map_or(
                "it redirects to an address that cannot be fetched",
                |refused| refused.0,
            );
            return Self::Redirect { address, reason };
        }
        if Cause::find::<rustls::Error>(&error).is_some() {
            let source = Cause::of(error);
            return Self::Tls { address, source };
        }
        if error.is_timeout() && !error.is_connect() {
            return Self::Silent { address, silence };
        }
        let (name, connect) = (error.is_dns(), error.is_connect());
        let source = Cause::of(error);
        match (name, connect) {
            (true, _) => Self::Name { address, source },
            (_, true) => Self::Connect { address, source },
            _ => Self::Broken { address, source },
        }
    }
}

/// Why a redirection is not followed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct RedirectRefused(pub(super) &'static str);

fn suggestion(near: Option<&String>) -> String {
    near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

/// What the common codes of answers mean, as a sentence's end.
fn reason(status: u16) -> &'static str {
    match status {
        401 => " (it wants credentials)",
        403 => " (it is forbidden)",
        404 => " (it is not there)",
        410 => " (it is not there any more)",
        429 => " (too many requests)",
        500..=599 => " (the server has failed)",
        _ => "",
    }
}
