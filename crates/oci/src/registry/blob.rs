//! Blobs on their way here: verified while they come, and taken up again where they broke off.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use firebuild_core::Digest;
use firebuild_core::digest::Hasher;
use reqwest::header::{CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode};

use super::document::at;
use super::exchange::{Answer, Ask, address};
use super::host::{Host, Scope};
use super::{Registry, RegistryError, Repository};

/// As many bytes between two failures, and the first of them is forgotten.
const PROGRESS: u64 = 1 << 20;
/// The fewest bytes that a server must send in the time that it may say nothing.
const FEWEST: u64 = 16 << 10;

impl Registry {
    /// Whether a repository has a blob.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn has_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<bool, RegistryError> {
        self.has_blob_for(repository, digest, &Scope::pull(repository))
            .await
    }

    /// As [`Registry::has_blob`], of a repository that others may not read: asked as somebody who may
    /// write to it.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn has_own_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<bool, RegistryError> {
        self.has_blob_for(repository, digest, &Scope::push(repository, None))
            .await
    }

    pub(super) async fn has_blob_for(
        &self,
        repository: &Repository,
        digest: &Digest,
        scope: &Scope,
    ) -> Result<bool, RegistryError> {
        let (host, what) = (self.host(repository)?, format!("blob `{digest}`"));
        let base = host.base(self.options()).await?;
        let url = at(base, &format!("{}/blobs/{digest}", repository.path))?;
        let ask = Ask::new(&host, scope, &what, url).method(Method::HEAD);
        let answer = self.exchange(&ask).await?;
        match answer.response.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(answer.refused(&ask, &self.options().patience).await),
        }
    }

    /// A blob of a known size. Nothing is asked before the first [`BlobStream::next`].
    #[must_use]
    pub fn blob(&self, repository: &Repository, digest: Digest, size: u64) -> BlobStream {
        let hasher = Some(Hasher::new());
        BlobStream {
            hasher,
            ..self.blob_after(repository, (digest, size), 0)
        }
    }

    /// The rest of a blob, of which the first `count` bytes are here. Its length is verified; its
    /// digest is not, because whoever has the beginning must read that as well for it.
    #[must_use]
    pub fn blob_after(
        &self,
        repository: &Repository,
        (digest, size): (Digest, u64),
        count: u64,
    ) -> BlobStream {
        BlobStream {
            registry: self.clone(),
            repository: repository.clone(),
            digest,
            size,
            hasher: None,
            count,
            skip: 0,
            source: None,
            failures: 0,
            since_failure: 0,
        }
    }
}

/// A blob on its way here.
#[derive(Debug)]
pub struct BlobStream {
    registry: Registry,
    repository: Repository,
    digest: Digest,
    size: u64,
    /// None if the digest is verified elsewhere.
    hasher: Option<Hasher>,
    /// How many bytes are here.
    count: u64,
    /// How many of the bytes that come are here already.
    skip: u64,
    source: Option<Source>,
    failures: u32,
    /// Bytes since the last failure.
    since_failure: u64,
}

#[derive(Debug)]
struct Source {
    response: Response,
    address: String,
    /// Since when `bytes` came.
    since: Instant,
    bytes: u64,
}

impl BlobStream {
    /// The next bytes. Only when there are no more, which is said once the digest of all of them
    /// was found right (see [`Registry::blob_after`]), do they count. A transfer that breaks off is taken up again; after an
    /// error there is no more to come.
    ///
    /// # Errors
    /// [`RegistryError`]; [`RegistryError::WrongSize`] and [`RegistryError::WrongDigest`] for
    /// another blob than was asked for.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            if self.source.is_none() {
                if self.count == self.size && self.count > 0 {
                    return self.verified();
                }
                self.source = Some(self.open().await?);
            }
            match self.piece().await {
                Ok(Some(bytes)) => {
                    if let Some(bytes) = self.take(bytes)? {
                        return Ok(Some(bytes));
                    }
                }
                Ok(None) if self.count == self.size => return self.verified(),
                Ok(None) => self.failed(self.wrong_size(self.count)).await?,
                Err(error) => self.failed(error).await?,
            }
        }
    }

    /// How many bytes are here.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn what(&self) -> String {
        format!("blob `{}`", self.digest)
    }

    fn wrong_size(&self, actual: u64) -> RegistryError {
        RegistryError::WrongSize {
            what: self.what(),
            expected: self.size,
            actual,
        }
    }

    fn verified(&self) -> Result<Option<Bytes>, RegistryError> {
        match self.hasher.clone().map(Hasher::finish) {
            Some(actual) if actual != self.digest => Err(RegistryError::WrongDigest {
                what: self.what(),
                actual,
            }),
            _ => Ok(None),
        }
    }

    /// Asks for what is not here yet.
    async fn open(&mut self) -> Result<Source, RegistryError> {
        let host: Arc<Host> = self.registry.host(&self.repository)?;
        let base = host.base(self.registry.options()).await?;
        let (what, scope) = (self.what(), Scope::pull(&self.repository));
        let url = at(
            base,
            &format!("{}/blobs/{}", self.repository.path, self.digest),
        )?;
        let mut ask = Ask::new(&host, &scope, &what, url);
        if self.count > 0 {
            let range = HeaderValue::from_str(&format!("bytes={}-", self.count));
            ask = ask.headers(range.map(|range| (RANGE, range)).into_iter().collect());
        }
        let answer = self.registry.exchange(&ask).await?;
        let length = answer.response.content_length();
        let (skip, left) = match answer.response.status() {
            StatusCode::OK => (self.count, self.size),
            StatusCode::PARTIAL_CONTENT if begins_at(answer.response.headers(), self.count) => {
                (0, self.size - self.count)
            }
            _ => {
                let patience = &self.registry.options().patience;
                return Err(answer.refused(&ask, patience).await);
            }
        };
        if let Some(length) = length.filter(|length| *length != left) {
            return Err(self.wrong_size(self.size - left + length));
        }
        self.skip = skip;
        let Answer { response, url } = answer;
        Ok(Source {
            response,
            address: address(&url),
            since: Instant::now(),
            bytes: 0,
        })
    }

    /// What the server sends next.
    async fn piece(&mut self) -> Result<Option<Bytes>, RegistryError> {
        let silence = self.registry.options().patience.silence;
        let Some(source) = &mut self.source else {
            return Ok(None);
        };
        let silent = |host: &str| RegistryError::Silent {
            host: host.to_owned(),
            silence,
        };
        let piece = tokio::time::timeout(silence, source.response.chunk()).await;
        let piece = piece.map_err(|_| silent(&source.address))?;
        let piece = piece.map_err(|error| RegistryError::of(error, &source.address))?;
        source.bytes += piece.as_ref().map_or(0, |piece| piece.len() as u64);
        if piece.is_some() && source.since.elapsed() >= silence {
            if source.bytes < FEWEST {
                return Err(silent(&source.address));
            }
            (source.since, source.bytes) = (Instant::now(), 0);
        }
        Ok(piece)
    }

    /// Counts bytes, without those that are here already.
    fn take(&mut self, mut bytes: Bytes) -> Result<Option<Bytes>, RegistryError> {
        let known = usize::try_from(self.skip).map_or(bytes.len(), |skip| skip.min(bytes.len()));
        let _ = bytes.split_to(known);
        self.skip -= known as u64;
        if bytes.is_empty() {
            return Ok(None);
        }
        let after = self.count + bytes.len() as u64;
        if after > self.size {
            return Err(self.wrong_size(after));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&bytes);
        }
        self.count = after;
        self.since_failure += bytes.len() as u64;
        Ok(Some(bytes))
    }

    /// Prepares for another try, if there may be one.
    async fn failed(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        self.source = None;
        if self.since_failure >= PROGRESS {
            self.failures = 0;
        }
        self.since_failure = 0;
        self.failures += 1;
        let patience = &self.registry.options().patience;
        let again = error.is_passing() || matches!(error, RegistryError::WrongSize { .. });
        if !again || self.failures >= patience.attempts {
            return Err(error);
        }
        patience.wait(self.failures, None).await;
        Ok(())
    }
}

/// Whether a part of a blob is the part that was asked for.
fn begins_at(headers: &HeaderMap, count: u64) -> bool {
    let text = headers
        .get(CONTENT_RANGE)
        .and_then(|value| value.to_str().ok());
    let first = text.and_then(|text| text.strip_prefix("bytes ")?.split('-').next());
    first.and_then(|first| first.trim().parse().ok()) == Some(count)
}
