//! What git's complaints mean.

use super::super::FetchError;

/// How many lines of a complaint are kept.
const LINES: usize = 5;

/// Bytes of a line that are kept.
const LONGEST_LINE: usize = 300;

/// What git says of a failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("git says: {}", .0.join(" | "))]
pub struct GitFailure(Vec<String>);

/// Sentences of git, ssh and curl, and what they mean. The first that is found counts.
const MEANINGS: [(&str, Meaning); 18] = [
    ("could not resolve host", Meaning::Name),
    ("name or service not known", Meaning::Name),
    ("certificate", Meaning::Tls),
    ("could not read username", Meaning::Denied),
    ("could not read password", Meaning::Denied),
    ("authentication failed", Meaning::Denied),
    ("permission denied", Meaning::Denied),
    ("host key verification failed", Meaning::HostKey),
    ("returned error: 401", Meaning::Denied),
    ("returned error: 403", Meaning::Denied),
    ("not found", Meaning::Missing),
    ("does not appear to be a git repository", Meaning::Missing),
    ("does not exist", Meaning::Missing),
    ("access denied or repository not exported", Meaning::Missing),
    ("failed to connect", Meaning::Connect),
    ("unable to connect", Meaning::Connect),
    ("connection refused", Meaning::Connect),
    ("timed out", Meaning::Connect),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Name,
    Tls,
    Denied,
    HostKey,
    Missing,
    Connect,
}

/// The error for what git wrote when it failed while it did `doing`.
pub(super) fn of(address: &str, doing: &'static str, complaint: &[u8]) -> FetchError {
    let text = String::from_utf8_lossy(complaint);
    let lower = text.to_ascii_lowercase();
    let meaning = MEANINGS
        .iter()
        .find(|(sentence, _)| lower.contains(sentence))
        .map(|(_, meaning)| *meaning);
    let address = address.to_owned();
    let source = GitFailure(lines(&text));
    match meaning {
        Some(Meaning::Missing) => FetchError::NoRepository { address, source },
        Some(Meaning::Denied) => FetchError::Denied { address, source },
        Some(Meaning::HostKey) => FetchError::HostKey { address, source },
        Some(Meaning::Name) => FetchError::Name {
            address,
            source: super::super::Cause::of(source),
        },
        Some(Meaning::Tls) => FetchError::Tls {
            address,
            source: super::super::Cause::of(source),
        },
        Some(Meaning::Connect) => FetchError::Connect {
            address,
            source: super::super::Cause::of(source),
        },
        None => FetchError::Git {
            address,
            doing,
            source,
        },
    }
}

/// Whether a server refuses to give a commit by its hash.
pub(super) fn is_not_offered(error: &FetchError) -> bool {
    let FetchError::Git { source, .. } = error else {
        return false;
    };
    source.0.iter().any(|line| {
        let line = line.to_ascii_lowercase();
        [
            "not our ref",
            "unadvertised object",
            "couldn't find remote ref",
            "did not send all necessary objects",
            "no such remote ref",
        ]
        .iter()
        .any(|sentence| line.contains(sentence))
    })
}

/// The last lines that say something, without what would move a terminal's cursor.
fn lines(text: &str) -> Vec<String> {
    let said = text.lines().map(|line| {
        let plain = line.chars().filter(|character| !character.is_control());
        plain
            .take(LONGEST_LINE)
            .collect::<String>()
            .trim()
            .to_owned()
    });
    let said: Vec<String> = said.filter(|line| !line.is_empty()).collect();
    said[said.len().saturating_sub(LINES)..].to_vec()
}
