//! Names of images, normalised as Docker does.
//!
//! The grammar is that of the `distribution/reference` specification: an optional registry, a
//! repository path, then `:tag`, `@digest` or both. `debian` means
//! `docker.io/library/debian:latest`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Digest, printable};

const DEFAULT_REGISTRY: &str = "docker.io";
const LONGEST_REPOSITORY: usize = 255;
const LONGEST_TAG: usize = 128;

/// A normalised image name: registry, repository, and a tag, a digest, or both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A text that names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` does not name an image: {reason}")]
pub struct ParseReferenceError {
    text: String,
    reason: &'static str,
}

impl Reference {
    /// The registry's host and optional port, `docker.io` if none was written.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path in the registry, such as `library/debian`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `latest` where neither tag nor digest was written.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, where one was written.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The short form that people type: without `docker.io/` and `library/`.
    #[must_use]
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        match full.strip_prefix("docker.io/") {
            Some(rest) => rest.strip_prefix("library/").unwrap_or(rest).to_owned(),
            None => full,
        }
    }
}

impl fmt::Display for Reference {
    /// The full form: `docker.io/library/debian:bookworm`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map_err(|reason| ParseReferenceError {
            text: printable(text, 300),
            reason,
        })
    }
}

impl TryFrom<String> for Reference {
    type Error = ParseReferenceError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

fn parse(text: &str) -> Result<Reference, &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => {
            let digest = digest
                .parse()
                .map_err(|_| "what follows `@` is not a sha256 digest")?;
            (rest, Some(digest))
        }
        None => (text, None),
    };
    let (registry, path) = split_registry(rest);
    let (path, tag) = match path.rsplit_once(':') {
        Some((path, tag)) => (path, Some(tag.to_owned())),
        None => (path, None),
    };
    if let Some(tag) = &tag {
        check_tag(tag)?;
    }
    check_registry(registry)?;
    check_repository(path)?;
    let repository = if registry == DEFAULT_REGISTRY && !path.contains('/') {
        format!("library/{path}")
    } else {
        path.to_owned()
    };
    if repository.len() > LONGEST_REPOSITORY {
        return Err("its repository is longer than 255 characters");
    }
    let tag = if tag.is_none() && digest.is_none() {
        Some("latest".to_owned())
    } else {
        tag
    };
    Ok(Reference {
        registry: registry.to_owned(),
        repository,
        tag,
        digest,
    })
}

/// The first component is a registry if it could not be a repository of Docker's own: it has a
/// dot, a colon or an upper-case letter, or is `localhost`.
fn split_registry(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some((first, rest))
            if first == "localhost"
                || first.contains(['.', ':'])
                || first.contains(|c: char| c.is_ascii_uppercase()) =>
        {
            let registry = if first == "index.docker.io" {
                DEFAULT_REGISTRY
            } else {
                first
            };
            (registry, rest)
        }
        _ => (DEFAULT_REGISTRY, text),
    }
}

fn check_registry(registry: &str) -> Result<(), &'static str> {
    let (host, port) = match registry.strip_prefix('[') {
        Some(v6) => v6
            .split_once(']')
            .ok_or("its registry's address lacks `]`")?,
        None => match registry.find(':') {
            Some(at) => registry.split_at(at),
            None => (registry, ""),
        },
    };
    let v6 = registry.starts_with('[');
    let host_fits = !host.is_empty()
        && if v6 {
            host.bytes()
                .all(|b| b.is_ascii_hexdigit() || b == b':' || b == b'.')
        } else {
            host.split('.').all(|label| {
                !label.is_empty()
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            })
        };
    if !host_fits {
        return Err("its registry is not a host name");
    }
    match port.strip_prefix(':') {
        Some(port) if port.parse::<u16>().is_err() => Err("its registry's port is not a number"),
        None if !port.is_empty() => Err("its registry is not a host name"),
        _ => Ok(()),
    }
}

fn check_repository(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err("its repository is empty");
    }
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("repository names are lower-case");
    }
    if path.split('/').all(component_fits) {
        Ok(())
    } else {
        Err("its parts must be lower-case letters and digits, separated by `.`, `_`, `__` or `-`")
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn component_fits(component: &str) -> bool {
    let bytes = component.as_bytes();
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = bytes.first().is_some_and(alphanumeric) && bytes.last().is_some_and(alphanumeric);
    ends && component
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|separator| {
            matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
        })
}

/// `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`
fn check_tag(tag: &str) -> Result<(), &'static str> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let first = tag.bytes().next().is_some_and(word);
    let rest = tag.bytes().all(|b| word(b) || b == b'.' || b == b'-');
    if first && rest && tag.len() <= LONGEST_TAG {
        Ok(())
    } else {
        Err(
            "a tag is up to 128 letters, digits, `_`, `.` and `-`, and starts with none of the last two",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises_as_docker_does() {
        let zeros = "0".repeat(64);
        let cases = [
            ("debian", "docker.io/library/debian:latest", "debian:latest"),
            (
                "debian:bookworm-slim",
                "docker.io/library/debian:bookworm-slim",
                "debian:bookworm-slim",
            ),
            ("org/app:1.0", "docker.io/org/app:1.0", "org/app:1.0"),
            (
                "docker.io/debian",
                "docker.io/library/debian:latest",
                "debian:latest",
            ),
            (
                "index.docker.io/debian",
                "docker.io/library/debian:latest",
                "debian:latest",
            ),
            ("localhost/a", "localhost/a:latest", "localhost/a:latest"),
            (
                "localhost:5000/a/b:x",
                "localhost:5000/a/b:x",
                "localhost:5000/a/b:x",
            ),
            ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
            (
                "ghcr.io/a/b_c/d--e",
                "ghcr.io/a/b_c/d--e:latest",
                "ghcr.io/a/b_c/d--e:latest",
            ),
        ];
        for (text, full, familiar) in cases {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(
                (
                    reference.to_string().as_str(),
                    reference.familiar().as_str()
                ),
                (full, familiar)
            );
            assert_eq!(full.parse::<Reference>().unwrap(), reference);
        }
        let pinned: Reference = format!("debian@sha256:{zeros}").parse().unwrap();
        assert_eq!(
            pinned.to_string(),
            format!("docker.io/library/debian@sha256:{zeros}")
        );
        assert_eq!(pinned.tag(), None);
    }

    #[test]
    fn refuses() {
        let long = "a".repeat(256);
        for text in [
            "",
            "/",
            "Debian",
            "a//b",
            "a:",
            "a:.x",
            "a@sha256:12",
            "-a",
            "a/",
            "a..b",
            "a___b",
            "ho_st.x/a",
            "localhost:port/a",
            "a b",
            &long,
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
