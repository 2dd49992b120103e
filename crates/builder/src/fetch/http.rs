//! Files by HTTP.
//!
//! A file that was fetched before is asked for with what its server said of it then, so an
//! unchanged one moves no bytes; one whose digest is given and known is not asked for at all.

use firebuild_core::Digest;
use firebuild_core::tree::Timestamp;
use firebuild_store::{Blob, DownloadRecord, Lease};
use reqwest::header::{AUTHORIZATION, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::{Action, Attempt, Policy};
use reqwest::{Response, StatusCode};
use url::Url;

use super::body::Body;
use super::error::RedirectRefused;
use super::telling::{Destination, Telling};
use super::{Cause, FetchError, Fetcher, address, cell};
use crate::time;

/// How often a server may send the client elsewhere.
const MOST_REDIRECTS: usize = 10;

/// A file that was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// Its content, in the store.
    pub blob: Blob,
    /// When it last changed, if its server said so.
    pub last_modified: Option<Timestamp>,
}

/// One file to fetch.
struct Wanted<'a> {
    url: Url,
    /// The address for people.
    shown: String,
    key: Digest,
    checksum: Option<&'a Digest>,
    lease: &'a Lease,
    telling: Telling<'a>,
}

impl Fetcher {
    /// Fetches a file into the store, unless it is there. With a checksum that is the only content
    /// it may have.
    ///
    /// # Errors
    /// [`FetchError`]; nothing of a failed transfer is left.
    pub async fn http(
        &self,
        to: impl Into<Destination<'_>>,
        url: &str,
        checksum: Option<&Digest>,
    ) -> Result<Download, FetchError> {
        let Destination { lease, progress } = to.into();
        let url = address::parse(url)?;
        let shown = address::shown(url.as_str());
        let wanted = Wanted {
            telling: Telling::new(progress, &shown),
            shown,
            key: Digest::of(format!("http {url}").as_bytes()),
            url,
            checksum,
            lease,
        };
        if let Some(known) = wanted.known()? {
            return Ok(known);
        }
        let cell = cell(&self.downloads, wanted.key);
        let download = cell.get_or_try_init(|| self.fetch(&wanted)).await?;
        wanted.check(&download.blob.digest)?;
        Ok(download.clone())
    }

    async fn fetch(&self, wanted: &Wanted<'_>) -> Result<Download, FetchError> {
        let record = wanted.lease.store().downloads().get(&wanted.key)?;
        wanted.telling.begin();
        match self.attempt(wanted, record.as_ref()).await {
            Err(error) if error.is_passing() => {
                tokio::time::sleep(self.bounds.pause).await;
                self.attempt(wanted, record.as_ref()).await
            }
            other => other,
        }
    }

    async fn attempt(
        &self,
        wanted: &Wanted<'_>,
        record: Option<&DownloadRecord>,
    ) -> Result<Download, FetchError> {
        let silence = self.bounds.silence;
        let mut request = self.client()?.get(wanted.url.clone());
        request = request.headers(conditions(record));
        if let Some(value) = self.credentials.http(&wanted.url) {
            request = request.header(AUTHORIZATION, secret(&value, &wanted.shown)?);
        }
        let response = request
            .send()
            .await
            .map_err(|error| FetchError::of(error, &wanted.shown, silence))?;
        log::debug!("GET {}: {}", wanted.shown, response.status());
        match (response.status(), record) {
            (StatusCode::NOT_MODIFIED, Some(record)) => wanted.unchanged(record),
            (StatusCode::OK, _) => self.take(wanted, response).await,
            (status, _) => Err(FetchError::Status {
                address: wanted.shown.clone(),
                status: status.as_u16(),
            }),
        }
    }

    async fn take(&self, wanted: &Wanted<'_>, response: Response) -> Result<Download, FetchError> {
        let text = |name: HeaderName| {
            let value = response.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        let (etag, last_modified) = (text(ETAG), text(LAST_MODIFIED));
        let body = Body {
            address: &wanted.shown,
            limit: self.bounds.size,
            silence: self.bounds.silence,
            telling: &wanted.telling,
            threads: &self.threads,
        };
        let staged = body.receive(wanted.lease, response).await?;
        wanted.check(&staged.blob().digest)?;
        wanted.telling.end(Some(staged.blob().size));
        wanted.keep(staged.commit()?, etag, last_modified)
    }

    fn client(&self) -> Result<&reqwest::Client, FetchError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(self.trust.client(None)?)
            .user_agent(concat!("firebuild/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(self.bounds.connect)
            .read_timeout(self.bounds.silence)
            .redirect(Policy::custom(redirect))
            .referer(false)
            // A connection that is kept belongs to one runtime; a command has several.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|error| FetchError::Client(Cause::of(error)))?;
        Ok(self.client.get_or_init(|| client))
    }
}

impl Wanted<'_> {
    /// The file without asking anybody: its digest is given, and its content is here.
    fn known(&self) -> Result<Option<Download>, FetchError> {
        let store = self.lease.store();
        let Some(digest) = self.checksum else {
            return Ok(None);
        };
        if let Some(record) = store.downloads().get(&self.key)?
            && record.content == *digest
        {
            return Ok(Some(of_record(&record)));
        }
        if !store.has_blob(digest)? {
            return Ok(None);
        }
        let size = store
            .blob(digest)?
            .metadata()
            .map_err(|source| firebuild_store::Error::Io {
                doing: format!("look at the blob `{digest}`"),
                source,
            })?
            .len();
        let blob = Blob {
            digest: *digest,
            size,
        };
        self.keep(blob, None, None).map(Some)
    }

    fn check(&self, actual: &Digest) -> Result<(), FetchError> {
        match self.checksum {
            Some(expected) if expected != actual => Err(FetchError::Checksum {
                address: self.shown.clone(),
                expected: *expected,
                actual: *actual,
            }),
            _ => Ok(()),
        }
    }

    fn unchanged(&self, record: &DownloadRecord) -> Result<Download, FetchError> {
        self.check(&record.content)?;
        self.telling.end(None);
        let record = DownloadRecord {
            fetched: time::now(),
            ..record.clone()
        };
        self.lease.store().downloads().put(&self.key, &record)?;
        Ok(of_record(&record))
    }

    fn keep(
        &self,
        blob: Blob,
        etag: Option<String>,
        last_modified: Option<String>,
    ) -> Result<Download, FetchError> {
        let record = DownloadRecord {
            content: blob.digest,
            size: blob.size,
            address: self.shown.clone(),
            fetched: time::now(),
            etag,
            last_modified,
        };
        self.lease.store().downloads().put(&self.key, &record)?;
        Ok(of_record(&record))
    }
}

fn of_record(record: &DownloadRecord) -> Download {
    Download {
        blob: Blob {
            digest: record.content,
            size: record.size,
        },
        last_modified: record.last_modified.as_deref().and_then(http_date),
    }
}

/// What makes a server answer only if the file is another than the recorded one.
fn conditions(record: Option<&DownloadRecord>) -> HeaderMap {
    let Some(record) = record else {
        return HeaderMap::new();
    };
    let named = [
        (IF_NONE_MATCH, record.etag.as_deref()),
        (IF_MODIFIED_SINCE, record.last_modified.as_deref()),
    ];
    let header = |(name, value): (HeaderName, Option<&str>)| {
        Some((name, HeaderValue::from_str(value?).ok()?))
    };
    named.into_iter().filter_map(header).collect()
}

fn secret(value: &str, address: &str) -> Result<HeaderValue, FetchError> {
    let mut value = HeaderValue::from_str(value).map_err(|_| FetchError::Address {
        address: address.to_owned(),
        reason: "the secret for its host has characters that no header may have".to_owned(),
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Follows where a server sends the client, but not from an encrypted connection to a plain one.
fn redirect(attempt: Attempt<'_>) -> Action {
    let encrypted = attempt
        .previous()
        .iter()
        .any(|previous| previous.scheme() == "https");
    if attempt.previous().len() > MOST_REDIRECTS {
        attempt.error(RedirectRefused("it redirects more than 10 times"))
    } else if !matches!(attempt.url().scheme(), "http" | "https") {
        attempt.error(RedirectRefused(
            "it redirects to an address that is not http or https",
        ))
    } else if encrypted && attempt.url().scheme() != "https" {
        attempt.error(RedirectRefused(
            "it redirects from https to an unencrypted address",
        ))
    } else {
        attempt.follow()
    }
}

/// The time of a header, in the form that RFC 9110 prescribes.
fn http_date(text: &str) -> Option<Timestamp> {
    let moment = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(Timestamp {
        seconds: moment.as_second(),
        nanoseconds: 0,
    })
}
