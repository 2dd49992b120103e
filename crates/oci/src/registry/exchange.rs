//! One question and its answer, with whatever comes between: redirections, proof of who asks, and
//! tries that fail.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Method, Response, StatusCode};
use url::Url;

use super::body::refusal;
use super::error::is_passing;
use super::host::{Host, Scope};
use super::retry::retry_after;
use super::upload::{FileBody, Told};
use super::{Patience, Registry, RegistryError};

/// How often a registry may send the client elsewhere.
const MOST_REDIRECTS: usize = 10;

/// How often a server is called that does not pick up: it will hardly do so some seconds later.
const MOST_CONNECTS: u32 = 3;

/// A question.
pub(super) struct Ask<'a> {
    pub(super) host: &'a Host,
    pub(super) scope: &'a Scope,
    /// What it is about, for messages.
    pub(super) what: &'a str,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) content: Content,
    /// Whether it may be asked again when the answer does not come.
    pub(super) again: bool,
}

/// What is sent with a question.
#[derive(Clone)]
pub(super) enum Content {
    Nothing,
    Bytes(bytes::Bytes),
    /// A part of a file, and who is told how much of it has gone.
    File(Arc<File>, Range<u64>, Option<Told>),
}

/// An answer, and who gave it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: Response,
    pub(super) url: Url,
}

impl<'a> Ask<'a> {
    /// A question that may be asked again, without anything beside it.
    pub(super) fn new(host: &'a Host, scope: &'a Scope, what: &'a str, url: Url) -> Self {
        Self {
            host,
            scope,
            what,
            method: Method::GET,
            url,
            headers: HeaderMap::new(),
            content: Content::Nothing,
            again: true,
        }
    }

    pub(super) fn method(self, method: Method) -> Self {
        Self { method, ..self }
    }

    pub(super) fn headers(self, headers: HeaderMap) -> Self {
        Self { headers, ..self }
    }

    pub(super) fn content(self, content: Content) -> Self {
        Self { content, ..self }
    }

    /// As it stands, a question that is asked once.
    pub(super) fn once(self) -> Self {
        let again = false;
        Self { again, ..self }
    }
}

impl Registry {
    /// Asks until there is an answer that will not be another one when asked again.
    pub(super) async fn exchange(&self, ask: &Ask<'_>) -> Result<Answer, RegistryError> {
        let patience = &self.options().patience;
        let attempts = if ask.again { patience.attempts } else { 1 };
        let mut failures = 0;
        loop {
            let answer = self.attempt(ask).await;
            failures += 1;
            let asked = match &answer {
                Ok(answer) if is_passing(answer.response.status().as_u16()) => {
                    retry_after(answer.response.headers(), Timestamp::now())
                }
                Err(error) if error.is_passing() => None,
                _ => return answer,
            };
            let attempts = match &answer {
                Err(RegistryError::Connect { .. }) => attempts.min(MOST_CONNECTS),
                _ => attempts,
            };
            let too_long = asked.is_some_and(|asked| asked > patience.longest);
            if failures >= attempts || too_long {
                return match answer {
                    Ok(answer) if answer.response.status() == StatusCode::TOO_MANY_REQUESTS => {
                        Err(RegistryError::RateLimited {
                            registry: ask.host.name.clone(),
                            wait: asked,
                        })
                    }
                    answer => answer,
                };
            }
            patience.wait(failures, asked).await;
        }
    }

    /// Asks once, and goes where the registry leads.
    async fn attempt(&self, ask: &Ask<'_>) -> Result<Answer, RegistryError> {
        let mut url = ask.url.clone();
        let mut hops = 0;
        let mut proved = false;
        loop {
            let own = ask.host.is_own(&url);
            let proof = own.then(|| ask.host.known(ask.scope)).flatten();
            let response = self.send(ask, &url, proof.as_ref()).await?;
            let status = response.status();
            // Where a registry leads, the query may be a secret.
            log::debug!("{} {}{}: {status}", ask.method, address(&url), url.path());
            if status == StatusCode::UNAUTHORIZED && own && !proved {
                let (host, scope) = (ask.host, ask.scope);
                self.authorize(host, scope, ask.what, proof.as_ref(), &response)
                    .await?;
                proved = true;
                continue;
            }
            match target(ask, status, &response, &url)? {
                None => return Ok(Answer { response, url }),
                Some(next) => url = next,
            }
            hops += 1;
            if hops > MOST_REDIRECTS {
                return Err(ask.led("the registry redirects more than 10 times"));
            }
        }
    }

    async fn send(
        &self,
        ask: &Ask<'_>,
        url: &Url,
        proof: Option<&HeaderValue>,
    ) -> Result<Response, RegistryError> {
        let client = if ask.host.is_own(url) {
            &ask.host.client
        } else {
            self.elsewhere()?
        };
        let mut request = client
            .request(ask.method.clone(), url.clone())
            .headers(ask.headers.clone());
        if let Some(proof) = proof {
            request = request.header(AUTHORIZATION, proof.clone());
        }
        let (patience, address) = (&self.options().patience, address(url));
        match &ask.content {
            Content::Nothing => heard(request.send(), patience, &address).await,
            Content::Bytes(bytes) => {
                let request = request.body(bytes.clone());
                heard(request.send(), patience, &address).await
            }
            Content::File(file, range, told) => {
                let (file, range) = (Arc::clone(file), range.clone());
                let (body, watch) = FileBody::new(file, range, told.clone());
                let request = request.body(reqwest::Body::wrap(body));
                watch.heard(request.send(), patience, &address).await
            }
        }
    }
}

impl Ask<'_> {
    fn led(&self, reason: &'static str) -> RegistryError {
        RegistryError::Redirect {
            what: self.what.to_owned(),
            reason,
        }
    }
}

/// Where an answer leads, if it leads elsewhere.
fn target(
    ask: &Ask<'_>,
    status: StatusCode,
    response: &Response,
    url: &Url,
) -> Result<Option<Url>, RegistryError> {
    let reading = matches!(ask.method, Method::GET | Method::HEAD);
    match status.as_u16() {
        301..=303 if reading => {}
        307 | 308 => {}
        _ => return Ok(None),
    }
    location(response, url)
        .map(Some)
        .map_err(|reason| ask.led(reason))
}

/// The address that an answer names.
pub(super) fn location(response: &Response, url: &Url) -> Result<Url, &'static str> {
    let text = response.headers().get(LOCATION);
    let text = text.and_then(|value| value.to_str().ok());
    let next = text.and_then(|text| url.join(text).ok());
    let next = next.ok_or("the registry redirects without saying where to")?;
    match (url.scheme(), next.scheme()) {
        (_, "https") | ("http", "http") => Ok(next),
        ("https", "http") => Err("the registry redirects from https to an unencrypted address"),
        _ => Err("the registry redirects to an address that is not http or https"),
    }
}

/// Waits for an answer's beginning.
pub(super) async fn heard(
    answer: impl Future<Output = reqwest::Result<Response>>,
    patience: &Patience,
    host: &str,
) -> Result<Response, RegistryError> {
    let silence = patience.silence;
    match tokio::time::timeout(patience.connect + silence, answer).await {
        Ok(answer) => answer.map_err(|error| RegistryError::of(error, host)),
        Err(_) => Err(RegistryError::Silent {
            host: host.to_owned(),
            silence,
        }),
    }
}

/// `HOST[:PORT]` of an address, for messages.
pub(super) fn address(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

impl Answer {
    /// The error that an unexpected answer is.
    pub(super) async fn refused(self, ask: &Ask<'_>, patience: &Patience) -> RegistryError {
        let what = ask.what.to_owned();
        match self.response.status().as_u16() {
            401 if ask.host.is_own(&self.url) => RegistryError::Unauthorized {
                registry: ask.host.name.clone(),
                what,
                given: true,
            },
            404 => RegistryError::NotFound { what },
            _ => refusal(self.response, ask.what, &self.url, patience).await,
        }
    }
}
