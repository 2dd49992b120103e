//! What a source of `ADD` is: a path in the context, a file to download, a repository.
//!
//! Follows BuildKit's `frontend/dockerfile/dfgitutil` and `util/gitutil`.

use serde::Serialize;

use crate::directive::go_bool;

/// A source of `ADD`, or what `COPY` must not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum SourceKind {
    /// A path, perhaps with wildcards.
    Local {
        /// The path, as it was.
        path: String,
    },
    /// A file to download.
    Http {
        /// Its address, as it was.
        url: String,
        /// The last part of the address's path; `__unnamed__` if there is none.
        file_name: String,
    },
    /// A repository to clone.
    Git(GitSource),
}

/// A repository and what of it is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct GitSource {
    /// The repository's address, without query and fragment.
    pub remote: String,
    /// A branch, tag or commit; `None` is the remote's default branch.
    pub reference: Option<String>,
    /// A directory in it.
    pub subdirectory: Option<String>,
    /// The commit that the reference must lead to, perhaps only its beginning.
    pub checksum: Option<String>,
    /// Whether `.git` is kept.
    pub keep_git_dir: Option<bool>,
    /// Whether submodules are cloned.
    pub submodules: Option<bool>,
    /// The time that files get: `checkout` or `commit`.
    pub mtime: Option<String>,
    /// Whether the commit is asked for by its hash.
    pub fetch_by_commit: Option<bool>,
    /// The connection is not encrypted.
    pub unencrypted: bool,
}

/// A repository's address that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseSourceError {
    /// A query that is not known.
    #[error("unexpected query `{0}` in the address of a repository")]
    Query(String),
    /// A value that it cannot have.
    #[error("invalid value of query `{0}` in the address of a repository")]
    Value(String),
    /// Two that contradict each other.
    #[error("the address of a repository names {0} twice")]
    Conflict(&'static str),
}

/// Tells what an expanded source is.
///
/// # Errors
/// A repository's address with a query that is wrong.
pub fn classify(source: &str) -> Result<SourceKind, ParseSourceError> {
    let lower = source.to_ascii_lowercase();
    let scheme = lower.split_once("://").map(|(scheme, _)| scheme);
    match scheme {
        Some("http" | "https") => {
            let (address, _, _) = split(source);
            if address.ends_with(".git") {
                return git(source, scheme == Some("http")).map(SourceKind::Git);
            }
            // Go's parser, and so BuildKit, take these schemes in lower case only.
            if !source.starts_with("http") {
                return Ok(local(source));
            }
            Ok(SourceKind::Http {
                url: source.to_owned(),
                file_name: file_name(address),
            })
        }
        Some("git") => git(source, true).map(SourceKind::Git),
        Some("ssh") => git(source, false).map(SourceKind::Git),
        Some(_) => Ok(local(source)),
        None if is_scp_style(source) => git(source, false).map(SourceKind::Git),
        None => Ok(local(source)),
    }
}

fn local(source: &str) -> SourceKind {
    SourceKind::Local {
        path: source.to_owned(),
    }
}

/// `user@host:path`
fn is_scp_style(source: &str) -> bool {
    let Some((user, rest)) = source.split_once('@') else {
        return false;
    };
    let Some((host, _)) = rest.split_once(':') else {
        return false;
    };
    let named = |text: &str, more: &[u8]| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || more.contains(&byte);
        !text.is_empty() && text.bytes().all(known)
    };
    named(user, b"-_") && named(host, b"-.")
}

/// Address, query and fragment.
fn split(source: &str) -> (&str, &str, &str) {
    let (source, fragment) = source.split_once('#').unwrap_or((source, ""));
    let (address, query) = source.split_once('?').unwrap_or((source, ""));
    (address, query, fragment)
}

fn file_name(address: &str) -> String {
    let path = address.split_once("://").map_or(address, |(_, rest)| rest);
    let path = path.split_once('/').map_or("", |(_, path)| path);
    let name = path.trim_end_matches('/').rsplit('/').next();
    match name.map(unescape) {
        Some(name) if !name.is_empty() && name != "." && name != ".." && !name.contains('/') => {
            name
        }
        _ => "__unnamed__".to_owned(),
    }
}

/// Without `%XX`; as it is, where that is malformed.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        let digit = |at: usize| behind.get(at).and_then(|d| char::from(*d).to_digit(16));
        match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.extend(u8::try_from(high * 16 + low));
                rest = &behind[2..];
            }
            _ => {
                bytes.push(*byte);
                rest = behind;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

fn git(source: &str, unencrypted: bool) -> Result<GitSource, ParseSourceError> {
    let (address, query, fragment) = split(source);
    let mut git = GitSource {
        remote: address.to_owned(),
        unencrypted,
        ..GitSource::default()
    };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        set(&mut git, &unescape(name), &unescape(value))?;
    }
    let (reference, subdirectory) = fragment.split_once(':').unwrap_or((fragment, ""));
    once(&mut git.reference, reference, "a reference")?;
    once(&mut git.subdirectory, subdirectory, "a subdirectory")?;
    Ok(git)
}

fn set(git: &mut GitSource, name: &str, value: &str) -> Result<(), ParseSourceError> {
    let wrong = || ParseSourceError::Value(name.to_owned());
    let flag = || match value {
        "" => Ok(Some(true)),
        _ => go_bool(value).map(Some).ok_or_else(wrong),
    };
    match name {
        "ref" => once(&mut git.reference, value, "a reference"),
        "tag" => once(
            &mut git.reference,
            &prefixed("refs/tags/", value),
            "a reference",
        ),
        "branch" => once(
            &mut git.reference,
            &prefixed("refs/heads/", value),
            "a reference",
        ),
        "subdir" => once(&mut git.subdirectory, value, "a subdirectory"),
        "checksum" | "commit" => once(&mut git.checksum, value, "a commit"),
        "keep-git-dir" => flag().map(|value| git.keep_git_dir = value),
        "submodules" => flag().map(|value| git.submodules = value),
        "fetch-by-commit" => flag().map(|value| git.fetch_by_commit = value),
        "mtime" if matches!(value, "checkout" | "commit") => {
            once(&mut git.mtime, value, "a modification time")
        }
        "mtime" => Err(wrong()),
        _ => Err(ParseSourceError::Query(name.chars().take(100).collect())),
    }
}

fn prefixed(prefix: &str, value: &str) -> String {
    match value {
        "" => String::new(),
        _ => format!("{prefix}{}", value.strip_prefix(prefix).unwrap_or(value)),
    }
}

/// Sets what must not be set to something else already; empty sets nothing.
fn once(
    place: &mut Option<String>,
    value: &str,
    what: &'static str,
) -> Result<(), ParseSourceError> {
    if value.is_empty() {
        return Ok(());
    }
    if place.as_deref().is_some_and(|old| old != value) {
        return Err(ParseSourceError::Conflict(what));
    }
    *place = Some(value.to_owned());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_paths_downloads_and_repositories_apart() {
        for (source, remote) in [
            (
                "https://host.example/a.git",
                Some("https://host.example/a.git"),
            ),
            ("git@host.example:a/b", Some("git@host.example:a/b")),
            ("ssh://git@host.example/a", Some("ssh://git@host.example/a")),
            ("git://host.example/a", Some("git://host.example/a")),
            (
                "https://host.example/a.git#main:sub",
                Some("https://host.example/a.git"),
            ),
            ("./git@host:a", None),
            ("a.git", None),
            ("github.com/a/b", None),
            ("dir/*.txt", None),
            ("ftp://host.example/a.git", None),
        ] {
            match (classify(source).unwrap(), remote) {
                (SourceKind::Git(git), Some(remote)) => assert_eq!(git.remote, remote),
                (SourceKind::Local { path }, None) => assert_eq!(path, source),
                (other, _) => panic!("{source}: {other:?}"),
            }
        }
    }

    #[test]
    fn names_downloads() {
        for (url, name) in [
            ("https://host.example/a/b.tar?x=1#y", "b.tar"),
            ("http://host.example/a/", "a"),
            ("http://host.example/a%20b", "a b"),
            ("http://host.example/a%2Fb", "__unnamed__"),
            ("http://host.example/..", "__unnamed__"),
            ("http://host.example/", "__unnamed__"),
            ("http://host.example", "__unnamed__"),
            ("http://host.example/%zz", "%zz"),
        ] {
            match classify(url).unwrap() {
                SourceKind::Http { file_name, .. } => assert_eq!(file_name, name, "{url}"),
                other => panic!("{url}: {other:?}"),
            }
        }
    }

    #[test]
    fn reads_what_is_wanted_of_a_repository() {
        let git = |query: &str| match classify(&format!("https://h.example/a.git{query}")) {
            Ok(SourceKind::Git(git)) => Ok(git),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        };
        let wanted = git("#v1:src").unwrap();
        assert_eq!(wanted.reference.as_deref(), Some("v1"));
        assert_eq!(wanted.subdirectory.as_deref(), Some("src"));
        let wanted =
            git("?tag=v1&commit=abc&subdir=x%2Fy&keep-git-dir&submodules=false&mtime=commit");
        let wanted = wanted.unwrap();
        assert_eq!(wanted.reference.as_deref(), Some("refs/tags/v1"));
        assert_eq!(wanted.checksum.as_deref(), Some("abc"));
        assert_eq!(wanted.subdirectory.as_deref(), Some("x/y"));
        assert_eq!(
            (wanted.keep_git_dir, wanted.submodules),
            (Some(true), Some(false))
        );
        assert_eq!(wanted.mtime.as_deref(), Some("commit"));
        assert_eq!(
            git("?depth=1"),
            Err(ParseSourceError::Query("depth".into()))
        );
        assert_eq!(
            git("?submodules=2"),
            Err(ParseSourceError::Value("submodules".into()))
        );
        assert_eq!(
            git("?mtime=now"),
            Err(ParseSourceError::Value("mtime".into()))
        );
        assert_eq!(
            git("?branch=a#b"),
            Err(ParseSourceError::Conflict("a reference"))
        );
    }
}
