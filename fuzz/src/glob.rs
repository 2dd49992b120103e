//! A wildcard of any bytes is refused, or matches exactly the paths that a matcher which tries
//! everything matches.
//!
//! Input: the pattern, then paths, with a zero byte between them.

use firebuild_dockerfile::glob::{Pattern, has_wildcards, unescape};

use super::parts;

/// Beyond this many bytes of pattern, a matcher that tries everything takes too long.
const SMALL: usize = 48;

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
            assert_eq!(matched, matches(&wanted, &path), "{text:?} {name:?}");
        }
        if matched {
            let slashes = name.match_indices('/').map(|(at, _)| &name[..at]);
            for directory in slashes {
                assert!(directory.is_empty() || pattern.may_match_below(directory.as_bytes()));
            }
        }
    }
}

/// Go's `filepath.Match` in the most obvious way.
fn matches(pattern: &[char], path: &[char]) -> bool {
    match pattern {
        [] => path.is_empty(),
        ['*', rest @ ..] => {
            let end = path.iter().position(|c| *c == '/').unwrap_or(path.len());
            // Stars in a row are one.
            rest.first() == Some(&'*') && matches(rest, path)
                || rest.first() != Some(&'*') && (0..=end).any(|at| matches(rest, &path[at..]))
        }
        ['?', rest @ ..] => path.first().is_some_and(|c| *c != '/') && matches(rest, &path[1..]),
        ['\\', literal, rest @ ..] => path.first() == Some(literal) && matches(rest, &path[1..]),
        ['[', rest @ ..] => {
            let Some(first) = path.first() else {
                return false;
            };
            let (inside, behind) = class(rest, *first);
            inside && *first != '/' && matches(behind, &path[1..])
        }
        [literal, rest @ ..] => path.first() == Some(literal) && matches(rest, &path[1..]),
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
