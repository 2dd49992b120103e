//! A client of registries: the OCI distribution specification 1.1, and Docker's registry v2 API,
//! which it describes.
//!
//! * [`Registry`]: asks registries; clones are the same client, with its connections and tokens.
//! * [`Options`]: whom it believes, as whom it speaks, how patient it is.
//! * [`BlobStream`]: a blob on its way here, verified while it comes.
//! * [`Logins`]: where user names and passwords come from.
//!
//! What must hold:
//!
//! * Everything that a registry says is bounded: documents in bytes and in time, redirections in
//!   number, blobs by the size that was expected of them, waiting by [`Patience`].
//! * No byte counts before its digest was found right.
//! * A credential goes to the registry that it is for, or to the token server that this registry
//!   names, and to nobody else: not where a redirection or an upload's address leads.
//! * What was encrypted stays so: https never leads to http.
//!
//! Why not the crate `oci-client` (0.18), which docs and habit prefer: it reads answers of any
//! length into memory, does not retry, knows no ranges when a transfer breaks off, does not honour
//! `Retry-After`, and leaves redirections to its HTTP library. What is left of it, tokens and
//! uploads, is the smaller part (docs/adr/0005).

mod blob;
mod body;
mod certificates;
mod challenge;
mod conf;
mod document;
mod error;
mod exchange;
mod host;
mod login;
mod retry;
mod rules;
mod save;
mod token;
mod upload;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use firebuild_core::Reference;

pub use blob::BlobStream;
pub use conf::ConfError;
pub use document::Document;
pub use error::RegistryError;
pub use login::{BoxFuture, FixedLogin, Login, LoginError, Logins, NoLogins};
pub use retry::Patience;
pub use rules::{AskedFor, Prefix, Rule, RuleMirror, Rules};
pub use upload::{Pushed, Told};

use crate::Trust;
use host::Host;

/// Where Docker's own images are, which are named without a registry.
const DOCKER_IO: &str = "docker.io";
/// The server that has them.
const DOCKER_HOST: &str = "registry-1.docker.io";

/// How a [`Registry`] behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// The authorities whose certificates are believed.
    pub trust: Trust,
    /// Directories in which a folder named like a registry holds its own authorities (`*.crt`) and
    /// a client's certificate with its key (`*.cert`, `*.key`), as Docker and Podman have them.
    pub certificates: Vec<PathBuf>,
    /// A directory of such files for every registry that is asked.
    pub certificate_directory: Option<PathBuf>,
    /// Which registries may be spoken to without encryption.
    pub plain_http: PlainHttp,
    /// User names and passwords.
    pub logins: Arc<dyn Logins>,
    /// How long and how often things are tried.
    pub patience: Patience,
    /// Who is asked before a registry for what is pulled from it, in this order.
    pub mirrors: Vec<Mirror>,
    /// Where images really are. Their mirrors are asked after those above.
    pub rules: Rules,
    /// Blobs that are larger are uploaded in pieces of this many bytes.
    pub piece: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            trust: Trust::host(),
            certificates: ["/etc/containers/certs.d", "/etc/docker/certs.d"]
                .map(PathBuf::from)
                .into(),
            certificate_directory: None,
            plain_http: PlainHttp::default(),
            logins: Arc::new(NoLogins),
            patience: Patience::default(),
            mirrors: Vec::new(),
            rules: Rules::default(),
            piece: 256 << 20,
        }
    }
}

/// Which registries are spoken to without encryption.
///
/// Those of this host (`localhost`, 127.0.0.0/8, `::1`) are in any case asked with encryption first,
/// and without it if they do not understand that, as Docker does: what is said to them passes no
/// cable.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PlainHttp {
    /// Those of this host only, where they want it so.
    #[default]
    Loopback,
    /// These, written as in references: `HOST[:PORT]`.
    Hosts(BTreeSet<String>),
    /// Every registry.
    All,
}

impl PlainHttp {
    fn names(&self, registry: &str) -> bool {
        match self {
            Self::Loopback => false,
            Self::Hosts(hosts) => hosts.contains(registry),
            Self::All => true,
        }
    }
}

/// Whether `HOST[:PORT]` is this host.
fn is_loopback(registry: &str) -> bool {
    let host = match registry.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => registry.split(':').next().unwrap_or_default(),
    };
    let address: Option<std::net::IpAddr> = host.parse().ok();
    host == "localhost" || address.is_some_and(|address| address.is_loopback())
}

/// A registry that has what another one has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// The other one, as references have it: `HOST[:PORT]`.
    pub of: String,
    /// Where its repositories are: `HOST[:PORT][/PATH]`.
    pub place: String,
}

impl Mirror {
    /// What an image of the other registry is called here.
    fn name(&self, reference: &Reference) -> Option<Reference> {
        if self.of != reference.registry() {
            return None;
        }
        let mut name = format!("{}/{}", self.place, reference.repository());
        if let Some(tag) = reference.tag() {
            name.push_str(&format!(":{tag}"));
        }
        if let Some(digest) = reference.digest() {
            name.push_str(&format!("@{digest}"));
        }
        name.parse().ok()
    }
}

/// What is asked for: a repository of a registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    /// As it is written in references: `HOST[:PORT]`.
    registry: String,
    /// Its path there.
    path: String,
}

impl From<&Reference> for Repository {
    fn from(reference: &Reference) -> Self {
        Self {
            registry: reference.registry().to_owned(),
            path: reference.repository().to_owned(),
        }
    }
}

impl std::fmt::Display for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.registry, self.path)
    }
}

/// Asks registries. Use one in one asynchronous runtime.
#[derive(Debug, Clone)]
pub struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: Options,
    /// By their names, and whether they may be spoken to without encryption.
    hosts: Mutex<HashMap<(String, bool), Arc<Host>>>,
    /// For where registries send their clients: without any registry's own certificates.
    elsewhere: OnceLock<reqwest::Client>,
}

impl Registry {
    /// A client that has asked nobody yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self(Arc::new(Inner {
            options,
            hosts: Mutex::default(),
            elsewhere: OnceLock::new(),
        }))
    }

    fn options(&self) -> &Options {
        &self.0.options
    }

    /// Where an image may be pulled from: mirrors first, then its own registry.
    ///
    /// # Errors
    /// As [`Registry::place`].
    pub fn places(&self, reference: &Reference) -> Result<Vec<Reference>, RegistryError> {
        let place = self.place(reference)?;
        let mirrors = self.options().mirrors.iter();
        let mut places: Vec<Reference> = mirrors
            .filter_map(|mirror| mirror.name(reference))
            .collect();
        places.extend(self.options().rules.mirrors(reference));
        places.push(place);
        Ok(places)
    }

    /// Where an image is: what is pushed goes there.
    ///
    /// # Errors
    /// [`RegistryError::Blocked`]; [`RegistryError::NotARegistry`] if no image can be there.
    pub fn place(&self, reference: &Reference) -> Result<Reference, RegistryError> {
        self.options().rules.place(reference)
    }

    fn host(&self, repository: &Repository) -> Result<Arc<Host>, RegistryError> {
        let insecure = self.options().rules.is_insecure(repository);
        let key = (repository.registry.clone(), insecure);
        let mut hosts = self.0.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = hosts.get(&key) {
            return Ok(Arc::clone(host));
        }
        let host = Arc::new(Host::new(&key.0, insecure, self.options())?);
        hosts.insert(key, Arc::clone(&host));
        Ok(host)
    }

    /// The client for servers that are no registry by themselves.
    fn elsewhere(&self) -> Result<&reqwest::Client, RegistryError> {
        if let Some(client) = self.0.elsewhere.get() {
            return Ok(client);
        }
        let tls = self.options().trust.client(None)?;
        let client = client(tls, &self.options().patience, false)?;
        Ok(self.0.elsewhere.get_or_init(|| client))
    }
}

/// An HTTP client that follows nothing by itself. For this host it takes no proxy, whatever the
/// environment says: a proxy's loopback is another one.
fn client(
    tls: tokio_rustls::rustls::ClientConfig,
    patience: &Patience,
    loopback: bool,
) -> Result<reqwest::Client, RegistryError> {
    let mut builder = reqwest::Client::builder();
    if loopback {
        builder = builder.no_proxy();
    }
    builder
        .tls_backend_preconfigured(tls)
        .user_agent(concat!("firebuild/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(patience.connect)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .pool_idle_timeout(Duration::from_secs(15))
        .build()
        .map_err(|error| RegistryError::Client(crate::Cause::of(error)))
}
