//! Finding what a copy's words name in the tree that is copied from.

use firebuild_core::tree::{self, NodeId, Tree, TreeError, shown};
use firebuild_plan::pattern;

use super::CopyError;

/// A file or directory that a word of COPY or ADD named.
#[derive(Debug, Clone)]
pub struct Match<'a> {
    /// The tree that it is in.
    pub tree: &'a Tree,
    /// The name that it keeps when it is copied into a directory.
    pub name: Vec<u8>,
    /// What it is, with a link that was named followed.
    pub node: NodeId,
}

/// What `word` names in `from`: a path, or a pattern matched part by part in the order of names. A
/// pattern may match nothing. `..` stops at the root.
///
/// # Errors
/// [`CopyError::NotFound`] for a path that is not there, or a link that leads nowhere;
/// [`CopyError::Pattern`].
pub fn matches<'a>(from: &'a Tree, word: &[u8]) -> Result<Vec<Match<'a>>, CopyError> {
    let parts = clamped(word);
    if !parts.iter().any(|part| pattern::has_wildcards(part)) {
        let parts: Vec<Vec<u8>> = parts.iter().map(|part| pattern::unescape(part)).collect();
        return Ok(vec![named(from, &parts, word)?]);
    }
    let mut found = Vec::new();
    expand(from, &parts, &mut Vec::new(), &mut found)?;
    found
        .iter()
        .map(|path| named(from, path, &path.join(&b'/')))
        .collect()
}

/// The parts of a path with `..` taken out, which cannot leave the root.
fn clamped(word: &[u8]) -> Vec<Vec<u8>> {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for part in tree::components(word) {
        if part == b".." {
            parts.pop();
        } else {
            parts.push(part.to_vec());
        }
    }
    parts
}

fn named<'a>(from: &'a Tree, parts: &[Vec<u8>], word: &[u8]) -> Result<Match<'a>, CopyError> {
    let path = parts.join(&b'/');
    let node = from.resolve(&path, true).map_err(|error| match error {
        TreeError::NotFound(_) | TreeError::NotDirectory(_) => CopyError::NotFound(shown(word)),
        other => CopyError::Tree(other),
    })?;
    Ok(Match {
        tree: from,
        name: parts.last().cloned().unwrap_or_default(),
        node,
    })
}

/// All paths that match, in the order of their names.
fn expand(
    from: &Tree,
    parts: &[Vec<u8>],
    at: &mut Vec<Vec<u8>>,
    found: &mut Vec<Vec<Vec<u8>>>,
) -> Result<(), CopyError> {
    let Some((part, rest)) = parts.split_first() else {
        found.push(at.clone());
        return Ok(());
    };
    let Ok(here) = from.resolve(&at.join(&b'/'), true) else {
        return Ok(());
    };
    let pattern = pattern::Pattern::parse(part).map_err(|_| CopyError::Pattern(shown(part)))?;
    for (name, _) in from.entries(here) {
        if pattern.matches(name.as_bytes()) {
            at.push(name.as_bytes().to_vec());
            expand(from, rest, at, found)?;
            at.pop();
        }
    }
    Ok(())
}
