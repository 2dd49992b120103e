//! Why a registry did not give or take something.

use std::io;
use std::time::Duration;

use firebuild_core::{Digest, Platform};
use tokio_rustls::rustls;

use super::LoginError;
use crate::{Cause, TrustError};

/// Why a registry did not give or take something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The certificates to believe cannot be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A registry's own certificates cannot be read.
    #[error("cannot read a registry's certificates")]
    Certificates {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The client could not be made.
    #[error("cannot prepare a client for registries")]
    Client(#[source] Cause),
    /// The credentials could not be found out.
    #[error("cannot find out the credentials for registry `{registry}`")]
    Login {
        /// The registry.
        registry: String,
        /// Why.
        #[source]
        source: LoginError,
    },
    /// The rules for registries cannot be used.
    #[error(transparent)]
    Conf(#[from] super::ConfError),
    /// The host's rules let nobody have it.
    #[error("image `{image}` is blocked by the registries' configuration")]
    Blocked {
        /// The image.
        image: String,
    },
    /// The registry does not have it.
    #[error("the registry has no {what}")]
    NotFound {
        /// What was asked for.
        what: String,
    },
    /// The registry does not know who asks, or does not believe it.
    #[error("registry `{registry}` {} for {what}", wants(*.given))]
    Unauthorized {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
        /// Whether there were credentials.
        given: bool,
    },
    /// The registry knows who asks, and refuses.
    #[error("access to {what} is denied{}", told(.message))]
    Denied {
        /// What was asked for.
        what: String,
        /// What the registry says.
        message: String,
    },
    /// The registry has been asked too often.
    #[error("registry `{registry}` has been asked too often{}", later(.wait.as_ref()))]
    RateLimited {
        /// The registry.
        registry: String,
        /// How long it wants to be left alone.
        wait: Option<Duration>,
    },
    /// Another answer.
    #[error("the registry answers {status} when asked for {what}{}", told(.message))]
    Status {
        /// What was asked for.
        what: String,
        /// The answer's code.
        status: u16,
        /// What the registry says.
        message: String,
    },
    /// A host's name means nothing.
    #[error("the name of `{host}` is not known")]
    Name {
        /// The registry, or where it sent the client.
        host: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// The server could not be reached.
    #[error("no connection to `{host}`")]
    Connect {
        /// The registry, or where it sent the client.
        host: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// The server did not prove who it is.
    #[error("the certificate of `{host}` is not accepted, or it does not accept ours")]
    Tls {
        /// The registry, or where it sent the client.
        host: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// The server speaks without encryption.
    #[error("`{host}` does not speak https")]
    NotTls {
        /// The registry, or where it sent the client.
        host: String,
    },
    /// Nothing came any more.
    #[error("nothing was heard from `{host}` for {} s", .silence.as_secs())]
    Silent {
        /// The registry, or where it sent the client.
        host: String,
        /// For how long.
        silence: Duration,
    },
    /// The connection ended too early.
    #[error("the connection to `{host}` broke off")]
    Broken {
        /// The registry, or where it sent the client.
        host: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// The registry sends its client on, and on, or where it should not.
    #[error("{what} cannot be had: {reason}")]
    Redirect {
        /// What was asked for.
        what: String,
        /// What the registry did.
        reason: &'static str,
    },
    /// The registry names a token server that gets no credentials.
    #[error("registry `{registry}` wants a token from `{realm}`, {reason}")]
    Realm {
        /// The registry.
        registry: String,
        /// The token server.
        realm: String,
        /// What is wrong with that.
        reason: &'static str,
    },
    /// What answers is no registry.
    #[error("`{registry}` does not answer as a registry does: {reason}")]
    NotARegistry {
        /// Where it should be.
        registry: String,
        /// What it does.
        reason: String,
    },
    /// More than is taken.
    #[error("{what} has more than {limit} bytes, which is the most that is taken")]
    TooLarge {
        /// What was asked for.
        what: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// Another length than expected.
    #[error("{what} has {actual} bytes, but {expected} were expected")]
    WrongSize {
        /// What was asked for.
        what: String,
        /// The right number of bytes.
        expected: u64,
        /// How many came.
        actual: u64,
    },
    /// Other bytes than expected.
    #[error("{what} has the digest {actual}")]
    WrongDigest {
        /// What was asked for, with the right digest.
        what: String,
        /// The digest of the bytes that came.
        actual: Digest,
    },
    /// A document that cannot be understood.
    #[error("{what} is not valid")]
    Document {
        /// Which.
        what: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Something else than an image.
    #[error("{what} {reason}")]
    Invalid {
        /// What was looked at.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The image is not made for this platform.
    #[error("{what} has nothing for {platform}; it has {found}")]
    NoPlatform {
        /// The image.
        what: String,
        /// The platform.
        platform: Platform,
        /// Those that there are.
        found: String,
    },
}

impl RegistryError {
    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Unauthorized { given: true, .. } => {
                "see whether the credentials are right, and may do this".to_owned()
            }
            Self::Unauthorized { registry, .. } => format!(
                "give them with `--creds USER:PASSWORD`, or log in with `docker login {registry}` or `podman login {registry}`, whose files are read"
            ),
            Self::NotTls { host } => format!(
                "if `{host}` is meant to be spoken to without encryption, say `--plain-http` (for a cache: `registry.insecure=true`)"
            ),
            Self::Tls { host, .. } => format!(
                "if it has an authority of its own, put that into `/etc/containers/certs.d/{host}/ca.crt`, or name a directory with `--cert-dir`"
            ),
            Self::RateLimited { .. } => {
                "log in, because registries let known users ask more often".to_owned()
            }
            Self::NotFound { .. } => {
                "see that the name is right; some registries say the same of what one may not see"
                    .to_owned()
            }
            _ => return None,
        };
        Some(text)
    }

    /// Whether the registry could not be asked at all, or did not go on.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        self.is_passing() || matches!(self, Self::Name { .. } | Self::RateLimited { .. })
    }

    /// Whether a second try may help.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Broken { .. } | Self::Silent { .. } => true,
            Self::Status { status, .. } => is_passing(*status),
            _ => false,
        }
    }

    /// Whether it may be tried again, and how long the registry wants to be left alone before.
    pub(super) fn again(&self, longest: Duration) -> Option<Option<Duration>> {
        match self {
            Self::RateLimited { wait, .. } => {
                let fits = wait.is_none_or(|wait| wait <= longest);
                fits.then_some(*wait)
            }
            _ => self.is_passing().then_some(None),
        }
    }

    /// What an error of the HTTP library means.
    pub(super) fn of(error: reqwest::Error, host: &str) -> Self {
        let error = error.without_url();
        let host = host.to_owned();
        if let Some(tls) = Cause::find::<rustls::Error>(&error) {
            return match tls {
                rustls::Error::InvalidMessage(_) => Self::NotTls { host },
                _ => Self::Tls {
                    host,
                    source: Cause::of(error),
                },
            };
        }
        let (name, connect) = (error.is_dns(), error.is_connect());
        let source = Cause::of(error);
        match (name, connect) {
            (true, _) => Self::Name { host, source },
            (_, true) => Self::Connect { host, source },
            _ => Self::Broken { host, source },
        }
    }
}

/// Whether an answer of this code may be another one later.
pub(super) fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502..=504)
}

fn wants(given: bool) -> &'static str {
    if given {
        "does not accept the credentials"
    } else {
        "wants credentials"
    }
}

fn told(message: &str) -> String {
    match message {
        "" => String::new(),
        message => format!(": {message}"),
    }
}

fn later(wait: Option<&Duration>) -> String {
    wait.map_or_else(String::new, |wait| {
        format!("; it wants to be left alone for {} s", wait.as_secs())
    })
}
