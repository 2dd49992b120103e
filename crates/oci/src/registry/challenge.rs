//! `WWW-Authenticate`: what a registry wants to know (RFC 9110, 11.6.1; RFC 6750).

use std::collections::BTreeMap;

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// How a registry wants to be told who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// With a token from the server `realm`.
    Bearer {
        realm: String,
        service: Option<String>,
    },
    /// With a user name and a password.
    Basic,
}

impl Challenge {
    /// What an answer asks for: a token rather than a password, if it leaves the choice.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(WWW_AUTHENTICATE).iter();
        let texts = values.filter_map(|value| value.to_str().ok());
        let mut all: Vec<Self> = texts.flat_map(schemes).collect();
        all.sort_by_key(|challenge| *challenge == Self::Basic);
        all.into_iter().next()
    }
}

/// The challenges of one header.
fn schemes(text: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut current: Option<(String, BTreeMap<String, String>)> = None;
    for part in split(text) {
        let (first, rest) = part.split_once(' ').unwrap_or((part, ""));
        let parameter = if first.contains('=') {
            part
        } else {
            found.extend(current.take().and_then(finished));
            current = Some((first.to_ascii_lowercase(), BTreeMap::new()));
            rest.trim()
        };
        if let (Some((name, value)), Some((_, parameters))) =
            (parameter.split_once('='), &mut current)
        {
            parameters.insert(name.trim().to_ascii_lowercase(), unquoted(value.trim()));
        }
    }
    found.extend(current.and_then(finished));
    found
}

fn finished((scheme, mut parameters): (String, BTreeMap<String, String>)) -> Option<Challenge> {
    match scheme.as_str() {
        "bearer" => Some(Challenge::Bearer {
            realm: parameters.remove("realm")?,
            service: parameters.remove("service"),
        }),
        "basic" => Some(Challenge::Basic),
        _ => None,
    }
}

/// At commas that are in no quotes.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |character| {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' => return !quoted,
            _ => {}
        }
        false
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
}

fn unquoted(text: &str) -> String {
    let Some(inner) = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    else {
        return text.to_owned();
    };
    let mut escaped = false;
    let kept = inner.chars().filter(|character| {
        escaped = *character == '\\' && !escaped;
        !escaped
    });
    kept.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
        })
    }

    #[test]
    fn challenges() {
        for (texts, expected) in [
            (
                &[r#"Bearer realm="https://a/token",service="s,t",scope="repository:a:pull,push""#]
                    [..],
                bearer("https://a/token", Some("s,t")),
            ),
            (&["bearer realm=https://a"], bearer("https://a", None)),
            (&[r#"Bearer realm="a\"b\\c""#], bearer(r#"a"b\c"#, None)),
            (&[r#"Basic realm="x""#], Some(Challenge::Basic)),
            (&["Basic"], Some(Challenge::Basic)),
            (
                &[r#"Basic realm="x", Bearer realm="r", service="s""#],
                bearer("r", Some("s")),
            ),
            (&["Negotiate", "Basic realm=x"], Some(Challenge::Basic)),
            (&["Bearer"], None),
            (&["Digest realm=x, qop=y"], None),
            (&[""], None),
            (&["=,\",,"], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for text in texts {
                headers.append(WWW_AUTHENTICATE, text.parse().unwrap());
            }
            assert_eq!(Challenge::of(&headers), expected, "{texts:?}");
        }
    }
}
