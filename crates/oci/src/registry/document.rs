//! Documents: manifests, indexes, configurations. Each is read whole, within bounds.

use std::collections::BTreeSet;

use firebuild_core::{Digest, Platform, Reference, printable};
use firebuild_store::layout::{DOCKER_INDEX, DOCKER_MANIFEST, Descriptor, INDEX, Index, MANIFEST};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use url::Url;

use super::body::{LONGEST_MESSAGE, bounded, parse};
use super::exchange::{Answer, Ask, Content, address};
use super::host::{Host, Scope};
use super::{Patience, Registry, RegistryError, Repository};

/// The most bytes of a manifest or index: what the specification wants registries to take.
const LARGEST_MANIFEST: u64 = 4 << 20;
/// How deep indexes may lie in indexes.
const DEEPEST: usize = 4;
/// Everything that is understood.
const ACCEPTED: [&str; 4] = [INDEX, MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST];
/// What a registry says of a manifest's digest.
const CONTENT_DIGEST: &str = "docker-content-digest";

/// A manifest or an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The digest of its bytes.
    pub digest: Digest,
    /// What it is.
    pub media_type: String,
    /// As the registry gave them.
    pub bytes: bytes::Bytes,
}

impl Document {
    /// What refers to it.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(&self.media_type, self.digest, self.bytes.len() as u64)
    }

    /// What it says.
    ///
    /// # Errors
    /// [`RegistryError::Document`].
    pub fn parse<T: for<'de> Deserialize<'de>>(&self) -> Result<T, RegistryError> {
        parse(&self.bytes, &format!("manifest `{}`", self.digest))
    }
}

impl Registry {
    /// The manifest or index that a reference names. With a digest and a tag, the digest counts.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn manifest(&self, reference: &Reference) -> Result<Document, RegistryError> {
        let what = format!("image `{}`", reference.familiar());
        self.named(
            &reference.into(),
            &name(reference),
            &what,
            reference.digest(),
        )
        .await
    }

    /// The digest of what a reference names, without reading it; none if the registry does not
    /// tell, as older ones do not.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn digest(&self, reference: &Reference) -> Result<Option<Digest>, RegistryError> {
        if let Some(digest) = reference.digest() {
            return Ok(Some(*digest));
        }
        let (repository, what) = (
            reference.into(),
            format!("image `{}`", reference.familiar()),
        );
        let place = Place::new(self, &repository, &name(reference)).await?;
        let ask = place.ask(&what).method(Method::HEAD);
        let answer = self.exchange(&ask).await?;
        match answer.response.status() {
            StatusCode::OK => Ok(told_digest(answer.response.headers())),
            _ => Err(answer.refused(&ask, &self.options().patience).await),
        }
    }

    /// The manifest that a reference names for a platform: from an index, the one that fits. Its
    /// digest is what the index says.
    ///
    /// # Errors
    /// [`RegistryError`]; [`RegistryError::NoPlatform`].
    pub async fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Document, RegistryError> {
        let document = self.manifest(reference).await?;
        self.choose(reference, document, platform).await
    }

    /// As [`Registry::resolve`], of what the reference names, which was read already.
    ///
    /// # Errors
    /// [`RegistryError`]; [`RegistryError::NoPlatform`].
    pub async fn choose(
        &self,
        reference: &Reference,
        mut document: Document,
        platform: &Platform,
    ) -> Result<Document, RegistryError> {
        let what = format!("image `{}`", reference.familiar());
        for _ in 0..DEEPEST {
            match document.media_type.as_str() {
                MANIFEST | DOCKER_MANIFEST => return Ok(document),
                INDEX | DOCKER_INDEX => {}
                _ => break,
            }
            let entry = select(document.parse()?, platform, &what)?;
            let (repository, name) = (reference.into(), entry.digest.to_string());
            document = self
                .named(&repository, &name, &what, Some(&entry.digest))
                .await?;
        }
        let media_type = printable(&document.media_type, 200);
        Err(RegistryError::Invalid {
            what,
            reason: format!("is a `{media_type}`, which is no image"),
        })
    }

    /// Stores a manifest or index under a name: a tag or its digest.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn push_manifest(
        &self,
        reference: &Reference,
        media_type: &str,
        bytes: bytes::Bytes,
    ) -> Result<Digest, RegistryError> {
        let (repository, what) = (
            reference.into(),
            format!("image `{}`", reference.familiar()),
        );
        let digest = Digest::of(&bytes);
        let name = reference
            .tag()
            .map_or_else(|| digest.to_string(), str::to_owned);
        let mut place = Place::new(self, &repository, &name).await?;
        place.scope = Scope::push(&repository, None);
        let kind = HeaderValue::from_str(media_type).map_err(|_| RegistryError::Invalid {
            what: what.clone(),
            reason: "has a media type that is none".to_owned(),
        })?;
        let ask = place
            .ask(&what)
            .method(Method::PUT)
            .headers(HeaderMap::from_iter([(CONTENT_TYPE, kind)]))
            .content(Content::Bytes(bytes));
        let answer = self.exchange(&ask).await?;
        match answer.response.status() {
            StatusCode::CREATED | StatusCode::OK | StatusCode::ACCEPTED => Ok(digest),
            _ => Err(answer.refused(&ask, &self.options().patience).await),
        }
    }

    /// A small blob, verified: a configuration.
    ///
    /// # Errors
    /// [`RegistryError`]; [`RegistryError::TooLarge`] for more than `limit` bytes.
    pub async fn small_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        limit: u64,
    ) -> Result<Vec<u8>, RegistryError> {
        if descriptor.size > limit {
            return Err(RegistryError::TooLarge {
                what: format!("blob `{}`", descriptor.digest),
                limit,
            });
        }
        let mut stream = self.blob(repository, descriptor.digest, descriptor.size);
        let reading = async {
            let mut bytes = Vec::new();
            while let Some(piece) = stream.next().await? {
                bytes.extend_from_slice(&piece);
            }
            Ok(bytes)
        };
        let patience = &self.options().patience;
        let time = patience.document.saturating_mul(patience.attempts);
        let silent = |_| RegistryError::Silent {
            host: repository.registry.clone(),
            silence: time,
        };
        tokio::time::timeout(time, reading).await.map_err(silent)?
    }

    /// A manifest by its name in a repository.
    async fn named(
        &self,
        repository: &Repository,
        name: &str,
        what: &str,
        expected: Option<&Digest>,
    ) -> Result<Document, RegistryError> {
        let place = Place::new(self, repository, name).await?;
        let ask = place.ask(what);
        let patience = &self.options().patience;
        let mut failures = 0;
        loop {
            let answer = self.exchange(&ask).await?;
            if answer.response.status() != StatusCode::OK {
                return Err(answer.refused(&ask, patience).await);
            }
            failures += 1;
            match read(answer, what, expected, patience).await {
                Err(error) if error.is_passing() && failures < patience.attempts => {
                    patience.wait(failures, None).await;
                }
                other => return other,
            }
        }
    }
}

/// What a reference's manifest is asked for by.
fn name(reference: &Reference) -> String {
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or("latest").to_owned(),
    }
}

/// Where a manifest is.
struct Place {
    host: std::sync::Arc<Host>,
    scope: Scope,
    url: Url,
}

impl Place {
    async fn new(
        registry: &Registry,
        repository: &Repository,
        name: &str,
    ) -> Result<Self, RegistryError> {
        let host = registry.host(repository)?;
        let base = host.base(registry.options()).await?;
        let url = at(base, &format!("{}/manifests/{name}", repository.path))?;
        Ok(Self {
            scope: Scope::pull(repository),
            host,
            url,
        })
    }

    fn ask<'a>(&'a self, what: &'a str) -> Ask<'a> {
        let mut headers = HeaderMap::new();
        for media_type in ACCEPTED {
            headers.append(ACCEPT, HeaderValue::from_static(media_type));
        }
        Ask::new(&self.host, &self.scope, what, self.url.clone()).headers(headers)
    }
}

/// A path of the API.
pub(super) fn at(base: &Url, path: &str) -> Result<Url, RegistryError> {
    base.join(path)
        .map_err(|error| RegistryError::NotARegistry {
            registry: address(base),
            reason: error.to_string(),
        })
}

/// Reads and verifies a manifest.
async fn read(
    answer: Answer,
    what: &str,
    expected: Option<&Digest>,
    patience: &Patience,
) -> Result<Document, RegistryError> {
    let headers = answer.response.headers();
    let told = told_digest(headers);
    let named = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let named = named.unwrap_or_default();
    let named = named
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_owned();
    let bytes = bounded(
        answer.response,
        LARGEST_MANIFEST,
        what,
        &answer.url,
        patience,
    )
    .await?;
    let actual = Digest::of(&bytes);
    if let Some(expected) = expected.or(told.as_ref())
        && *expected != actual
    {
        let what = format!("{what}, which should have the digest {expected},");
        return Err(RegistryError::WrongDigest { what, actual });
    }
    Ok(Document {
        digest: actual,
        media_type: media_type(&bytes, named, what, &answer.url)?,
        bytes: bytes.into(),
    })
}

fn told_digest(headers: &HeaderMap) -> Option<Digest> {
    headers.get(CONTENT_DIGEST)?.to_str().ok()?.parse().ok()
}

/// What a manifest says of itself, or what the registry says of it.
fn media_type(bytes: &[u8], named: String, what: &str, url: &Url) -> Result<String, RegistryError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Kind {
        schema_version: Option<u64>,
        media_type: Option<String>,
    }
    if named == "text/html" {
        return Err(RegistryError::NotARegistry {
            registry: address(url),
            reason: "it sends a web page".to_owned(),
        });
    }
    let kind: Kind = parse(bytes, &format!("the manifest of {what}"))?;
    match (kind.schema_version, kind.media_type) {
        (Some(1), _) => Err(RegistryError::Invalid {
            what: what.to_owned(),
            reason: "is in Docker's first form (schema 1), which nobody makes any more".to_owned(),
        }),
        (_, Some(media_type)) => Ok(media_type),
        (_, None) => Ok(named),
    }
}

/// The entry of an index that fits a platform: with the same variant, if there is one.
fn select(index: Index, platform: &Platform, what: &str) -> Result<Descriptor, RegistryError> {
    let fits = |entry: &&Descriptor| {
        entry.platform.as_ref().is_some_and(|found| {
            let variant = platform.variant.is_none() || found.variant == platform.variant;
            found.os == platform.os && found.architecture == platform.architecture && variant
        })
    };
    let entries = &index.manifests;
    let same = |entry: &&Descriptor| entry.platform.as_ref() == Some(platform);
    let found = entries.iter().find(same);
    let found = found.or_else(|| entries.iter().find(fits));
    // An index of one image need not say for what that is.
    let found = found.or_else(|| match &entries[..] {
        [only] if only.platform.is_none() => Some(only),
        _ => None,
    });
    found.cloned().ok_or_else(|| {
        let platforms = entries.iter().filter_map(|entry| entry.platform.as_ref());
        let names: BTreeSet<String> = platforms.map(ToString::to_string).collect();
        let names: Vec<String> = names
            .into_iter()
            .filter(|name| !name.starts_with("unknown/"))
            .collect();
        let found = printable(&names.join(", "), LONGEST_MESSAGE);
        RegistryError::NoPlatform {
            what: what.to_owned(),
            platform: platform.clone(),
            found: if found.is_empty() {
                "nothing".to_owned()
            } else {
                found
            },
        }
    })
}
