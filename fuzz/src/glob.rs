//! A wildcard of any bytes is refused, or matches exactly the paths that a matcher which tries
//! everything matches.
//!
//! Input: the pattern, then paths, with a zero byte between them.

use std::collections::BTreeSet;

use firebuild_dockerfile::glob::{Pattern, has_wildcards, unescape};

use super::parts;

/// Beyond this many bytes, a matcher that tries everything takes too long.
const SMALL: usize = 128;

pub fn glob(data: &[u8]) {
    let mut parts = parts(data);
    let text = parts.next().unwrap_or_default();
    let pattern = Pattern::parse(text);
    for path in parts.chain([text]) {
        let Ok(pattern) = &pattern else {
            let wild = has_wildcards(text) || text.ends_with(b"\\");
            assert!(wild, "a plain path is always right");
            continue;
        };
        let matched = pattern.matches(path);
        let (Ok(text), Ok(name)) = (std::str::from_utf8(text), std::str::from_utf8(path)) else {
            continue;
        };
        if !has_wildcards(text.as_bytes()) {
            assert_eq!(
                matched,
                unescape(text.as_bytes()) == path,
                "{text:?} {name:?}"
            );
        }
        if text.len() <= SMALL && name.len() <= SMALL {
            let wanted: Vec<char> = text.chars().collect();
            let path: Vec<char> = name.chars().collect();
            assert_eq!(
                matched,
                matches(&wanted, &path, &mut BTreeSet::new()),
                "{text:?} {name:?}"
            );
        }
        if matched {
            let slashes = name.match_indices('/').map(|(at, _)| &name[..at]);
            for directory in slashes {
                assert!(directory.is_empty() || pattern.may_match_below(directory.as_bytes()));
            }
        }
    }
}

/// Go's `filepath.Match` in the most obvious way, which remembers what did not match.
fn matches(pattern: &[char], path: &[char], failed: &mut BTreeSet<(usize, usize)>) -> bool {
    let at = (pattern.len(), path.len());
    if failed.contains(&at) {
        return false;
    }
    let matched = step(pattern, path, failed);
    if !matched {
        failed.insert(at);
    }
    matched
}

fn step(pattern: &[char], path: &[char], failed: &mut BTreeSet<(usize, usize)>) -> bool {
    let Some((first, behind)) = pattern.split_first() else {
        return path.is_empty();
    };
    let next = path.first().copied();
    match (first, behind) {
        ('*', rest) => {
            let more = next.is_some_and(|c| c != '/') && matches(pattern, &path[1..], failed);
            more || matches(rest, path, failed)
        }
        ('?', rest) => next.is_some_and(|c| c != '/') && matches(rest, &path[1..], failed),
        ('[', rest) => next.is_some_and(|c| {
            let (inside, behind) = class(rest, c);
            inside && c != '/' && matches(behind, &path[1..], failed)
        }),
        ('\\', [literal, rest @ ..]) | (literal, rest) => {
            next == Some(*literal) && matches(rest, &path[1..], failed)
        }
    }
}

/// Whether a class, which is well formed, has a character; and what stands behind it.
fn class(pattern: &[char], wanted: char) -> (bool, &[char]) {
    let (negated, mut rest) = match pattern {
        ['^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut found = false;
    let mut first = true;
    while first || rest[0] != ']' {
        first = false;
        let low = bound(&mut rest);
        let mut high = low;
        if rest[0] == '-' {
            rest = &rest[1..];
            high = bound(&mut rest);
        }
        found |= (low..=high).contains(&wanted);
    }
    (found != negated, &rest[1..])
}

fn bound(rest: &mut &[char]) -> char {
    let skipped = usize::from(rest[0] == '\\');
    let character = rest[skipped];
    *rest = &rest[skipped + 1..];
    character
}
