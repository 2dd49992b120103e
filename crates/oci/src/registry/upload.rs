//! Blobs on their way to a registry: not at all where it has them, by one request, or in pieces.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use firebuild_core::Digest;
use firebuild_store::Blob;
use http_body::{Body, Frame, SizeHint};
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode};
use tokio::task::JoinHandle;
use url::Url;

use super::document::at;
use super::exchange::{Answer, Ask, Content, heard, location};
use super::host::{Host, Scope};
use super::{Patience, Registry, RegistryError, Repository};

/// Bytes that are read at once.
const READ: u64 = 256 << 10;
/// The pieces for a registry that finds a blob too large.
const SMALL_PIECE: u64 = 16 << 20;

/// How a blob got to a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It was there.
    There,
    /// The registry took it over from another of its repositories.
    Mounted,
    /// It was sent.
    Sent,
}

/// Is told how many of a blob's bytes have gone. After a failure they may be fewer than before.
pub type Told = Arc<dyn Fn(u64) + Send + Sync>;

/// A blob that is to be in a repository.
struct Push<'a> {
    registry: &'a Registry,
    host: Arc<Host>,
    scope: Scope,
    repository: &'a Repository,
    blob: Blob,
    file: &'a Arc<File>,
    told: Option<&'a Told>,
    what: String,
}

impl Registry {
    /// Sees that a repository has a blob, whose bytes are a file's. `from` is the path of another
    /// repository of the same registry, which may have it.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn push_blob(
        &self,
        repository: &Repository,
        blob: Blob,
        file: &Arc<File>,
        from: Option<&str>,
        told: Option<&Told>,
    ) -> Result<Pushed, RegistryError> {
        let push = Push {
            registry: self,
            host: self.host(repository)?,
            scope: Scope::push(repository, from),
            repository,
            blob,
            file,
            told,
            what: format!("blob `{}`", blob.digest),
        };
        if self
            .has_blob_for(repository, &blob.digest, &push.scope)
            .await?
        {
            return Ok(Pushed::There);
        }
        let patience = &self.options().patience;
        let (mut failures, mut piece) = (0, self.options().piece.max(1));
        loop {
            let error = match push.attempt(from, piece).await {
                Err(error) => error,
                pushed => return pushed,
            };
            let too_large = matches!(error, RegistryError::Status { status: 413, .. });
            if too_large && piece > SMALL_PIECE {
                piece = SMALL_PIECE;
                continue;
            }
            failures += 1;
            match error.again(patience.longest) {
                Some(wait) if failures < patience.attempts => patience.wait(failures, wait).await,
                _ => return Err(error),
            }
        }
    }
}

impl Push<'_> {
    async fn attempt(&self, from: Option<&str>, piece: u64) -> Result<Pushed, RegistryError> {
        let Some(mut place) = self.begin(from).await? else {
            return Ok(Pushed::Mounted);
        };
        let mut sent = 0;
        if self.blob.size > piece {
            while sent < self.blob.size {
                let end = self.blob.size.min(sent + piece);
                (place, sent) = self.piece(&place, sent..end).await?;
            }
        }
        self.finish(place, sent).await?;
        Ok(Pushed::Sent)
    }

    /// Asks where to send it; nowhere, if the registry takes it over from elsewhere.
    async fn begin(&self, from: Option<&str>) -> Result<Option<Url>, RegistryError> {
        let base = self.host.base(self.registry.options()).await?;
        let mut url = at(base, &format!("{}/blobs/uploads/", self.repository.path))?;
        if let Some(from) = from {
            url.query_pairs_mut()
                .append_pair("mount", &self.blob.digest.to_string())
                .append_pair("from", from);
        }
        let ask = self.ask(url, Method::POST);
        let answer = self.registry.exchange(&ask).await?;
        match answer.response.status() {
            StatusCode::CREATED => Ok(None),
            StatusCode::ACCEPTED => self.place(&answer).map(Some),
            _ => Err(self.refused(answer, &ask).await),
        }
    }

    /// Sends a piece; returns where to go on, and with which byte.
    async fn piece(&self, place: &Url, range: Range<u64>) -> Result<(Url, u64), RegistryError> {
        let patience = &self.registry.options().patience;
        let (start, mut failures) = (range.start, 0);
        let (mut place, mut range) = (place.clone(), range);
        loop {
            let ask = self
                .send(place.clone(), Method::PATCH, range.clone())
                .once();
            let error = match self.registry.exchange(&ask).await {
                Ok(answer) if answer.response.status() == StatusCode::ACCEPTED => {
                    return Ok((self.place(&answer)?, range.end));
                }
                Ok(answer) => self.refused(answer, &ask).await,
                Err(error) => error,
            };
            failures += 1;
            match error.again(patience.longest) {
                Some(wait) if failures < patience.attempts => patience.wait(failures, wait).await,
                _ => return Err(error),
            }
            let (next, there) = self.status(&place).await?;
            if !(start..=range.end).contains(&there) {
                return Err(error);
            }
            if there == range.end {
                return Ok((next, there));
            }
            (place, range.start) = (next, there);
        }
    }

    /// How many bytes the registry has of an upload, and where the rest goes.
    async fn status(&self, place: &Url) -> Result<(Url, u64), RegistryError> {
        let ask = self.ask(place.clone(), Method::GET);
        let answer = self.registry.exchange(&ask).await?;
        match answer.response.status() {
            StatusCode::NO_CONTENT | StatusCode::OK => {
                let there = received(&answer.response);
                let next = location(&answer.response, &answer.url);
                Ok((next.unwrap_or_else(|_| place.clone()), there))
            }
            _ => Err(self.refused(answer, &ask).await),
        }
    }

    /// Sends what is left, and says that this is all.
    async fn finish(&self, mut place: Url, sent: u64) -> Result<(), RegistryError> {
        place
            .query_pairs_mut()
            .append_pair("digest", &self.blob.digest.to_string());
        let ask = self.send(place, Method::PUT, sent..self.blob.size).once();
        let answer = self.registry.exchange(&ask).await?;
        match answer.response.status() {
            StatusCode::CREATED | StatusCode::NO_CONTENT => self.agreed(&answer.response),
            _ => Err(self.refused(answer, &ask).await),
        }
    }

    /// The registry must have understood the same bytes.
    fn agreed(&self, response: &Response) -> Result<(), RegistryError> {
        let told = response.headers().get("docker-content-digest");
        let told: Option<Digest> = told.and_then(|value| value.to_str().ok()?.parse().ok());
        match told {
            Some(actual) if actual != self.blob.digest => Err(RegistryError::WrongDigest {
                what: format!("{}, as the registry has it,", self.what),
                actual,
            }),
            _ => Ok(()),
        }
    }

    fn ask(&self, url: Url, method: Method) -> Ask<'_> {
        let empty = Content::Bytes(Bytes::new());
        Ask::new(&self.host, &self.scope, &self.what, url)
            .method(method.clone())
            .content(if method == Method::GET {
                Content::Nothing
            } else {
                empty
            })
    }

    fn send(&self, url: Url, method: Method, range: Range<u64>) -> Ask<'_> {
        let octets = HeaderValue::from_static("application/octet-stream");
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, octets)]);
        if method == Method::PATCH {
            let text = format!("{}-{}", range.start, range.end.saturating_sub(1));
            headers.extend(header(CONTENT_RANGE, &text));
        }
        let content = match range.is_empty() {
            true => Content::Bytes(Bytes::new()),
            false => Content::File(Arc::clone(self.file), range, self.told.cloned()),
        };
        self.ask(url, method).headers(headers).content(content)
    }

    fn place(&self, answer: &Answer) -> Result<Url, RegistryError> {
        location(&answer.response, &answer.url).map_err(|reason| RegistryError::Redirect {
            what: self.what.clone(),
            reason,
        })
    }

    async fn refused(&self, answer: Answer, ask: &Ask<'_>) -> RegistryError {
        answer.refused(ask, &self.registry.options().patience).await
    }
}

fn header(name: HeaderName, text: &str) -> Option<(HeaderName, HeaderValue)> {
    Some((name, HeaderValue::from_str(text).ok()?))
}

/// What `Range: 0-N` says: N + 1 bytes.
fn received(response: &Response) -> u64 {
    let text = response.headers().get(RANGE);
    let text = text.and_then(|value| value.to_str().ok()).unwrap_or("");
    let last = text
        .rsplit('-')
        .next()
        .and_then(|last| last.parse::<u64>().ok());
    match text {
        // No bytes and one byte are told alike; one that is sent twice is worse.
        "0-0" => 0,
        _ => last.map_or(0, |last| last.saturating_add(1)),
    }
}

/// A part of a file as the body of a request, read as far as the network takes it.
pub(super) struct FileBody {
    file: Arc<File>,
    left: Range<u64>,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    told: Option<Told>,
    progress: Arc<AtomicU64>,
}

/// Tells whether a request's body goes on.
pub(super) struct Watch(Arc<AtomicU64>);

impl FileBody {
    pub(super) fn new(file: Arc<File>, range: Range<u64>, told: Option<Told>) -> (Self, Watch) {
        let progress = Arc::<AtomicU64>::default();
        let watch = Watch(Arc::clone(&progress));
        let body = Self {
            file,
            left: range,
            reading: None,
            told,
            progress,
        };
        (body, watch)
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        let length = (self.left.end - self.left.start).min(READ);
        let (file, at) = (Arc::clone(&self.file), self.left.start);
        let reading = self
            .reading
            .get_or_insert_with(|| tokio::task::spawn_blocking(move || read(&file, at, length)));
        let read = ready!(Pin::new(reading).poll(context));
        self.reading = None;
        let bytes = match read.map_err(io::Error::other).flatten() {
            Ok(bytes) => bytes,
            Err(error) => return Poll::Ready(Some(Err(error))),
        };
        self.left.start += length;
        self.progress.fetch_add(1, Ordering::Relaxed);
        if let Some(told) = &self.told {
            told(self.left.start);
        }
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.end - self.left.start)
    }
}

fn read(file: &File, at: u64, length: u64) -> io::Result<Bytes> {
    // Not more than `READ`.
    let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes.into())
}

impl Watch {
    /// Waits for an answer's beginning, as long as the body goes on.
    pub(super) async fn heard(
        &self,
        answer: impl Future<Output = reqwest::Result<Response>>,
        patience: &Patience,
        host: &str,
    ) -> Result<Response, RegistryError> {
        let mut answer = std::pin::pin!(answer);
        loop {
            let before = self.0.load(Ordering::Relaxed);
            match heard(&mut answer, patience, host).await {
                Err(RegistryError::Silent { .. }) if self.0.load(Ordering::Relaxed) != before => {}
                other => return other,
            }
        }
    }
}
