//! How a client proves who it is: by a password, or by a token that a token server gives for it
//! (the distribution project's "Token Authentication Specification").

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{RequestBuilder, Response};
use serde::Deserialize;
use url::Url;

use super::body::{bounded, parse, refusal};
use super::challenge::Challenge;
use super::exchange::{self, address};
use super::host::{Host, Scope, same_server};
use super::{Login, Registry, RegistryError, is_loopback};

/// The most bytes of a token server's answer.
const LARGEST_TOKEN: u64 = 1 << 20;
/// Who asks for tokens.
const CLIENT_ID: &str = "firebuild";

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Registry {
    /// The value of `Authorization` that a registry's challenge asks for. Waits for others who are
    /// getting it already; `tried` is the value that was not good enough.
    pub(super) async fn authorize(
        &self,
        host: &Host,
        scope: &Scope,
        what: &str,
        tried: Option<&HeaderValue>,
        answer: &Response,
    ) -> Result<HeaderValue, RegistryError> {
        let _asking = host.asking.lock().await;
        if let Some(known) = host.known(scope)
            && Some(&known) != tried
        {
            return Ok(known);
        }
        let login = host.login(self.options()).await?;
        let refused = || RegistryError::Unauthorized {
            registry: host.name.clone(),
            what: what.to_owned(),
            given: login.is_some(),
        };
        let value = match (Challenge::of(answer.headers()), login) {
            (Some(Challenge::Basic), Some(Login::Password { user, password })) => {
                basic(user, password)
            }
            (Some(Challenge::Bearer { realm, service }), login) => {
                let realm = self.realm(host, &realm).await?;
                let service = service.as_deref();
                let token = self.token(&realm, service, scope, login).await?;
                format!("Bearer {}", token.ok_or_else(refused)?)
            }
            _ => return Err(refused()),
        };
        let mut value = HeaderValue::from_str(&value).map_err(|_| refused())?;
        value.set_sensitive(true);
        host.learn(scope, value.clone());
        Ok(value)
    }

    /// The token server's address, if it may be told credentials: over an encrypted connection, on
    /// this host, or where the registry itself is.
    async fn realm(&self, host: &Host, text: &str) -> Result<Url, RegistryError> {
        let wrong = |reason| RegistryError::Realm {
            registry: host.name.clone(),
            realm: text.chars().filter(|c| !c.is_control()).take(200).collect(),
            reason,
        };
        let url = Url::parse(text).map_err(|_| wrong("which is no address"))?;
        let base = host.base(self.options()).await?;
        match (url.scheme(), url.host_str()) {
            ("https", Some(_)) => Ok(url),
            ("http", Some(_)) if base.scheme() == "https" => {
                Err(wrong("which would get the credentials unencrypted"))
            }
            ("http", Some(name)) if same_server(base, &url) || is_loopback(name) => Ok(url),
            ("http", Some(_)) => Err(wrong("an unencrypted server on another host")),
            _ => Err(wrong("which is not http or https")),
        }
    }

    /// A token; none if the server does not give one to this client.
    async fn token(
        &self,
        realm: &Url,
        service: Option<&str>,
        scope: &Scope,
        login: Option<&Login>,
    ) -> Result<Option<String>, RegistryError> {
        let (patience, scopes) = (&self.options().patience, scope.texts());
        let service = service.map(|service| ("service", service));
        let mut failures = 0;
        loop {
            let request = self.token_request(realm, service, &scopes, login)?;
            let heard = exchange::heard(request.send(), patience, &address(realm)).await;
            match heard {
                Ok(response) if super::error::is_passing(response.status().as_u16()) => {
                    failures += 1;
                    if failures >= patience.attempts {
                        return Err(refusal(response, "a token", realm, patience).await);
                    }
                }
                Ok(response) => return self.token_of(response, realm).await,
                Err(error) if error.is_passing() && failures + 1 < patience.attempts => {
                    failures += 1
                }
                Err(error) => return Err(error),
            }
            patience.wait(failures, None).await;
        }
    }

    fn token_request(
        &self,
        realm: &Url,
        service: Option<(&str, &str)>,
        scopes: &[String],
        login: Option<&Login>,
    ) -> Result<RequestBuilder, RegistryError> {
        let client = self.elsewhere()?;
        if let Some(Login::IdentityToken(token)) = login {
            let scope = scopes.join(" ");
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.append_pair("grant_type", "refresh_token")
                .append_pair("client_id", CLIENT_ID)
                .append_pair("refresh_token", token)
                .append_pair("scope", &scope)
                .extend_pairs(service);
            let request = client.post(realm.clone()).body(form.finish());
            return Ok(request.header("Content-Type", "application/x-www-form-urlencoded"));
        }
        let mut url = realm.clone();
        url.query_pairs_mut()
            .extend_pairs(service)
            .extend_pairs(scopes.iter().map(|scope| ("scope", scope)));
        let mut request = client.get(url);
        if let Some(Login::Password { user, password }) = login {
            request = request.header(AUTHORIZATION, basic(user, password));
        }
        Ok(request)
    }

    async fn token_of(
        &self,
        response: Response,
        realm: &Url,
    ) -> Result<Option<String>, RegistryError> {
        let patience = &self.options().patience;
        match response.status().as_u16() {
            200 => {}
            401 | 403 => return Ok(None),
            _ => return Err(refusal(response, "a token", realm, patience).await),
        }
        let bytes = bounded(response, LARGEST_TOKEN, "the token", realm, patience).await?;
        let token: Token = parse(&bytes, &format!("the token of `{}`", address(realm)))?;
        Ok(token.token.or(token.access_token))
    }
}

/// The value of `Authorization` in the scheme of RFC 7617.
fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}
