//! What a build's secrets say about servers.
//!
//! The names are BuildKit's: `HTTP_AUTH_HEADER_<host>` and `HTTP_AUTH_TOKEN_<host>` for downloads,
//! `GIT_AUTH_HEADER[.<host>]` and `GIT_AUTH_TOKEN[.<host>]` for repositories.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;

use super::address;

/// What the names of such secrets begin with.
const PREFIXES: [&str; 2] = ["HTTP_AUTH_", "GIT_AUTH_"];

/// Secrets for servers, by their names.
#[derive(Clone, Default)]
pub struct Credentials(BTreeMap<String, String>);

impl Credentials {
    /// Whether a secret of this name is one for a server.
    #[must_use]
    pub fn concerns(name: &str) -> bool {
        PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    }

    /// Takes those of a build's secrets that are for servers. A line's end after a secret, as
    /// editors leave one, is no part of it.
    pub fn new(secrets: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let relevant = secrets
            .into_iter()
            .filter(|(name, _)| Self::concerns(name))
            .filter_map(|(name, value)| Some((name, String::from_utf8(value).ok()?)));
        Self(
            relevant
                .map(|(name, value)| (name, value.trim_end_matches(['\r', '\n']).to_owned()))
                .collect(),
        )
    }

    /// The value of the header `Authorization` for a download.
    pub(super) fn http(&self, url: &Url) -> Option<String> {
        address::hosts(url).find_map(|host| {
            let header = self.0.get(&format!("HTTP_AUTH_HEADER_{host}")).cloned();
            let token = || self.0.get(&format!("HTTP_AUTH_TOKEN_{host}"));
            header.or_else(|| token().map(|token| format!("Bearer {token}")))
        })
    }

    /// The value of the header `Authorization` for a repository.
    pub(super) fn git(&self, url: &Url) -> Option<String> {
        let names = address::hosts(url).map(|host| format!(".{host}"));
        names.chain([String::new()]).find_map(|host| {
            let header = self.0.get(&format!("GIT_AUTH_HEADER{host}")).cloned();
            let token = || self.0.get(&format!("GIT_AUTH_TOKEN{host}"));
            header.or_else(|| token().map(|token| basic("x-access-token", token)))
        })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

/// The value of `Authorization` in the scheme of RFC 7617.
pub(super) fn basic(user: &str, password: &str) -> String {
    let text = format!("{user}:{password}");
    format!("Basic {}", STANDARD.encode(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(secrets: &[(&str, &str)]) -> Credentials {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), value.as_bytes().to_vec());
        Credentials::new(secrets.iter().map(owned))
    }

    #[test]
    fn the_host_decides() {
        let all = credentials(&[
            ("HTTP_AUTH_TOKEN_a.example", "one\n"),
            ("HTTP_AUTH_HEADER_a.example:81", "Custom two"),
            ("GIT_AUTH_TOKEN", "three"),
            ("GIT_AUTH_HEADER.b.example", "Basic four"),
            ("OTHER", "five"),
        ]);
        let http = |url: &str| all.http(&url.parse().unwrap());
        assert_eq!(http("https://a.example/x").as_deref(), Some("Bearer one"));
        assert_eq!(http("https://a.example:81/").as_deref(), Some("Custom two"));
        assert_eq!(http("https://a.example:82/").as_deref(), Some("Bearer one"));
        assert_eq!(http("https://c.example/"), None);
        let git = |url: &str| all.git(&url.parse().unwrap());
        assert_eq!(git("https://b.example/x").as_deref(), Some("Basic four"));
        let token = "Basic eC1hY2Nlc3MtdG9rZW46dGhyZWU=";
        assert_eq!(git("https://c.example/x").as_deref(), Some(token));
        let shown = format!("{all:?}");
        assert!(shown.contains("GIT_AUTH_TOKEN"), "{shown}");
        assert!(
            !shown.contains("three") && !shown.contains("OTHER"),
            "{shown}"
        );
    }
}
