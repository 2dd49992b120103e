//! Addresses: read, and shown without what they may say of passwords.

use url::Url;

use super::FetchError;

/// The most bytes of an address that a message shows.
const LONGEST_SHOWN: usize = 300;

/// Reads the address of a file on a web server. A fragment means nothing to servers and is dropped.
pub(super) fn parse(text: &str) -> Result<Url, FetchError> {
    let wrong = |reason: String| FetchError::Address {
        address: shown(text),
        reason,
    };
    let mut url = Url::parse(text).map_err(|error| wrong(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong(format!("`{}` is not http or https", url.scheme())));
    }
    url.set_fragment(None);
    Ok(url)
}

/// An address for people: without a password, and no longer than one wants to read. It need not be
/// a valid one.
pub(crate) fn shown(address: &str) -> String {
    let hidden = match address.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let (authority, path) = rest.split_at(end);
            match authority.rsplit_once('@') {
                Some((user, host)) => {
                    let user = user.split_once(':').map_or(user, |(user, _)| user);
                    format!("{scheme}://{user}@{host}{path}")
                }
                None => address.to_owned(),
            }
        }
        None => address.to_owned(),
    };
    hidden
        .chars()
        .filter(|character| !character.is_control())
        .take(LONGEST_SHOWN)
        .collect()
}

/// The host as secrets' names have it: first with its port, if one is written, then without.
pub(super) fn hosts(url: &Url) -> impl Iterator<Item = String> {
    let host = url.host_str().unwrap_or_default().to_owned();
    let with_port = url.port().map(|port| format!("{host}:{port}"));
    with_port.into_iter().chain([host])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        for (address, expected) in [
            ("https://host.example/a?b#c", "https://host.example/a?b#c"),
            (
                "https://me:word@host.example/a",
                "https://me@host.example/a",
            ),
            ("https://me:w@rd@host.example", "https://me@host.example"),
            (
                "ssh://git@host.example/a:b@c",
                "ssh://git@host.example/a:b@c",
            ),
            ("git@host.example:a/b", "git@host.example:a/b"),
            ("http://a:b@\n", "http://a@"),
        ] {
            assert_eq!(shown(address), expected);
        }
    }

    #[test]
    fn only_web_addresses_are_taken() {
        for (address, reason) in [
            ("ftp://host.example/a", "`ftp` is not http or https"),
            ("http://", "empty host"),
            ("nonsense", "relative URL without a base"),
        ] {
            match parse(address).unwrap_err() {
                FetchError::Address { reason: found, .. } => assert_eq!(found, reason),
                other => panic!("{other:?}"),
            }
        }
        let url = parse("http://host.example:81/a#b").unwrap();
        assert_eq!(url.as_str(), "http://host.example:81/a");
        let hosts: Vec<String> = hosts(&url).collect();
        assert_eq!(hosts, ["host.example:81", "host.example"]);
    }
}
