//! One registry: where it is, how it is spoken to, and who it was told that the client is.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::HeaderValue;
use tokio::sync::OnceCell;
use url::Url;

use super::{
    DOCKER_HOST, DOCKER_IO, Login, Options, RegistryError, Repository, certificates, client,
    exchange, is_loopback,
};

/// How long a registry that may do without may take to show that it speaks https.
const PROBE: Duration = Duration::from_secs(5);

/// A registry that is asked.
#[derive(Debug)]
pub(super) struct Host {
    /// As references have it.
    pub(super) name: String,
    pub(super) client: reqwest::Client,
    /// `HOST[:PORT]`, where the registry really is.
    address: String,
    /// Whether it may be spoken to without encryption if it understands nothing else.
    insecure: bool,
    base: OnceCell<Url>,
    login: OnceCell<Option<Login>>,
    /// The values of `Authorization` that were good last.
    known: Mutex<HashMap<Scope, HeaderValue>>,
    /// Held while a new one is being got, so that several who need it ask once.
    pub(super) asking: tokio::sync::Mutex<()>,
}

/// What a client wants to do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Scope {
    /// The path of a repository.
    repository: String,
    push: bool,
    /// Another repository, whose blobs are to be taken over.
    from: Option<String>,
}

impl Scope {
    pub(super) fn pull(repository: &Repository) -> Self {
        Self {
            repository: repository.path.clone(),
            push: false,
            from: None,
        }
    }

    pub(super) fn push(repository: &Repository, from: Option<&str>) -> Self {
        Self {
            repository: repository.path.clone(),
            push: true,
            from: from.map(str::to_owned),
        }
    }

    /// In the words of token servers.
    pub(super) fn texts(&self) -> Vec<String> {
        let actions = if self.push { "pull,push" } else { "pull" };
        let own = format!("repository:{}:{actions}", self.repository);
        let from = self.from.as_ref();
        let from = from.map(|from| format!("repository:{from}:pull"));
        std::iter::once(own).chain(from).collect()
    }
}

impl Host {
    pub(super) fn new(
        name: &str,
        insecure: bool,
        options: &Options,
    ) -> Result<Self, RegistryError> {
        let (trust, identity) = certificates::of(name, options)?;
        let tls = trust.client(identity.as_ref())?;
        let address = if name == DOCKER_IO { DOCKER_HOST } else { name };
        Ok(Self {
            name: name.to_owned(),
            client: client(tls, &options.patience, is_loopback(name))?,
            address: address.to_owned(),
            insecure: insecure || is_loopback(name),
            base: OnceCell::new(),
            login: OnceCell::new(),
            known: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        })
    }

    /// The address of its API, which ends with a slash.
    pub(super) async fn base(&self, options: &Options) -> Result<&Url, RegistryError> {
        self.base.get_or_try_init(|| self.find(options)).await
    }

    async fn find(&self, options: &Options) -> Result<Url, RegistryError> {
        if options.plain_http.names(&self.name) {
            return self.url("http");
        }
        let encrypted = self.url("https")?;
        if !self.insecure {
            return Ok(encrypted);
        }
        let asked = self.client.get(encrypted.clone()).timeout(PROBE);
        match exchange::heard(asked.send(), &options.patience, &self.address).await {
            Err(RegistryError::Tls { .. }) | Ok(_) => Ok(encrypted),
            Err(_) => self.url("http"),
        }
    }

    fn url(&self, scheme: &str) -> Result<Url, RegistryError> {
        let url = format!("{scheme}://{}/v2/", self.address);
        Url::parse(&url).map_err(|error| RegistryError::NotARegistry {
            registry: self.name.clone(),
            reason: error.to_string(),
        })
    }

    /// Whether an address is the registry's own, so that it may see credentials.
    pub(super) fn is_own(&self, url: &Url) -> bool {
        self.base.get().is_some_and(|base| same_server(base, url))
    }

    /// Who the client is for this registry.
    pub(super) async fn login(&self, options: &Options) -> Result<Option<&Login>, RegistryError> {
        let ask = || async {
            let login = options.logins.login(&self.name).await;
            login.map_err(|source| RegistryError::Login {
                registry: self.name.clone(),
                source,
            })
        };
        Ok(self.login.get_or_try_init(ask).await?.as_ref())
    }

    /// The value of `Authorization` that was good last.
    pub(super) fn known(&self, scope: &Scope) -> Option<HeaderValue> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(scope).cloned()
    }

    pub(super) fn learn(&self, scope: &Scope, value: HeaderValue) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(scope.clone(), value);
    }
}

/// Whether scheme, host and port are the same.
pub(super) fn same_server(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host() == other.host()
        && one.port_or_known_default() == other.port_or_known_default()
}
