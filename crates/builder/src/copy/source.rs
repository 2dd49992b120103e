//! Finding what a copy's words name in the tree that is copied from.

use std::borrow::Cow;
use std::collections::BTreeSet;

use firebuild_core::tree::{self, NodeId, Tree, TreeError, shown};
use firebuild_plan::ignore::Patterns;
use firebuild_plan::{pattern, suggest};

use super::CopyError;
use super::prune::{Exclude, prune};

/// A file or directory that a word of COPY or ADD named.
#[derive(Debug, Clone)]
pub struct Match<'a> {
    /// The tree that it is in; one of its own if not all of a directory is copied.
    pub tree: Cow<'a, Tree>,
    /// The name that it keeps when it is copied into a directory.
    pub name: Vec<u8>,
    /// What it is, with a link that was named followed.
    pub node: NodeId,
    /// Directories that are only there for what is in them.
    pub implied: BTreeSet<NodeId>,
}

/// What `word` names in `from`: a path, or a pattern matched part by part in the order of names. A
/// pattern may match nothing. `..` stops at the root. Links are followed before the first wildcard,
/// and where they are the match itself.
///
/// `exclude` is held against paths below a directory that was named, and against the names of files
/// that a wildcard found.
///
/// # Errors
/// [`CopyError::NotFound`] for a path that is not there, or a link that leads nowhere;
/// [`CopyError::Pattern`].
pub fn matches<'a>(
    from: &'a Tree,
    word: &[u8],
    exclude: &Exclude,
) -> Result<Vec<Match<'a>>, CopyError> {
    let parts = clamped(word);
    let wild = parts.iter().position(|part| pattern::has_wildcards(part));
    let Some(wild) = wild else {
        return Ok(vec![named(from, &literal(from, parts), word, exclude)?]);
    };
    let base = parts[..wild].join(&b'/');
    let start = resolve(from, &base, word)?;
    let mut found = Vec::new();
    let at = &mut parts[..wild].to_vec();
    expand(from, &parts[wild..], start, at, &mut found)?;
    let mut matches = Vec::new();
    for path in found {
        let found = named(from, &path, &path.join(&b'/'), exclude)?;
        if from.node(found.node).is_directory() || !exclude.excludes(&found.name) {
            matches.push(found);
        }
    }
    Ok(matches)
}

/// What `word` names when its path is kept (`--parents`): one directory, from which all that does
/// not match was taken away. It is the root, or what stands before `/./`. The pattern is one of an
/// ignore file: `**` matches any number of parts, and what is in a matched directory matches.
///
/// # Errors
/// As [`matches`].
pub fn matches_with_parents<'a>(
    from: &'a Tree,
    word: &[u8],
    exclude: &Exclude,
) -> Result<Vec<Match<'a>>, CopyError> {
    let pivot = word.windows(3).position(|part| part == b"/./");
    let (base, kept) = match pivot {
        Some(at) => (&word[..at], &word[at + 3..]),
        None => (&b""[..], word),
    };
    let kept = clamped(kept);
    // Links are copied, and not followed: what is behind one is nothing that could be kept.
    let has = |root: NodeId| {
        let mut parts = kept.iter();
        let found = parts.try_fold(root, |at, part| from.child(at, part));
        found.is_some() || kept.iter().any(|part| pattern::has_wildcards(part))
    };
    let named = [&clamped(base)[..], &kept].concat().join(&b'/');
    let kept = kept.join(&b'/');
    // Everything, if nothing stands behind the pivot.
    let include = if kept.is_empty() {
        b"**".to_vec()
    } else {
        kept
    };
    let include =
        Patterns::from_list([&include]).map_err(|_| CopyError::Pattern(shown(&include)))?;
    let mut matches = Vec::new();
    for root in self::matches(from, base, &Exclude::default())? {
        if !has(root.node) {
            return Err(CopyError::NotFound {
                word: shown(word),
                near: near(from, &named),
            });
        }
        if !from.node(root.node).is_directory() {
            return Err(CopyError::Tree(TreeError::NotDirectory(shown(base))));
        }
        let pruned = prune(from, root.node, Some(&include), exclude)?;
        matches.push(Match {
            tree: pruned.tree,
            name: root.name,
            node: pruned.root,
            implied: pruned.implied,
        });
    }
    Ok(matches)
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

/// A path without wildcards as it is, or without its backslashes if only that is there.
fn literal(from: &Tree, parts: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    if from.resolve(&parts.join(&b'/'), true).is_ok() {
        return parts;
    }
    parts.iter().map(|part| pattern::unescape(part)).collect()
}

fn resolve(from: &Tree, path: &[u8], word: &[u8]) -> Result<NodeId, CopyError> {
    from.resolve(path, true).map_err(|error| match error {
        TreeError::NotFound(_) | TreeError::NotDirectory(_) => CopyError::NotFound {
            word: shown(word),
            near: near(from, path),
        },
        other => CopyError::Tree(other),
    })
}

fn named<'a>(
    from: &'a Tree,
    parts: &[Vec<u8>],
    word: &[u8],
    exclude: &Exclude,
) -> Result<Match<'a>, CopyError> {
    let node = resolve(from, &parts.join(&b'/'), word)?;
    let name = parts.last().cloned().unwrap_or_default();
    if !from.node(node).is_directory() {
        return Ok(Match {
            tree: Cow::Borrowed(from),
            name,
            node,
            implied: BTreeSet::new(),
        });
    }
    let pruned = prune(from, node, None, exclude)?;
    Ok(Match {
        tree: pruned.tree,
        name,
        node: pruned.root,
        implied: pruned.implied,
    })
}

/// All paths that match, in the order of their names. Links on the way are not followed.
fn expand(
    from: &Tree,
    parts: &[Vec<u8>],
    here: NodeId,
    at: &mut Vec<Vec<u8>>,
    found: &mut Vec<Vec<Vec<u8>>>,
) -> Result<(), CopyError> {
    let Some((part, rest)) = parts.split_first() else {
        found.push(at.clone());
        return Ok(());
    };
    let pattern = pattern::Pattern::parse(part).map_err(|_| CopyError::Pattern(shown(part)))?;
    for (name, child) in from.entries(here) {
        if pattern.matches(name.as_bytes()) {
            at.push(name.as_bytes().to_vec());
            expand(from, rest, child, at, found)?;
            at.pop();
        }
    }
    Ok(())
}

/// What a person may have meant: names like the first part that is not there, and the same name
/// elsewhere.
fn near(from: &Tree, path: &[u8]) -> Vec<String> {
    let parts: Vec<&[u8]> = tree::components(path).collect();
    let exists = |count: usize| from.resolve(&parts[..count].join(&b'/'), true);
    let Some(there) = (0..parts.len()).rev().find(|count| exists(*count).is_ok()) else {
        return Vec::new();
    };
    let Ok(directory) = exists(there) else {
        return Vec::new();
    };
    let missing = String::from_utf8_lossy(parts[there]);
    let names: Vec<&str> = from
        .entries(directory)
        .filter_map(|(name, _)| std::str::from_utf8(name.as_bytes()).ok())
        .filter(|name| *name != missing)
        .collect();
    let above = String::from_utf8_lossy(&parts[..there].join(&b'/')).into_owned();
    let similar = suggest::nearest(&missing, names).map(|name| match above.as_str() {
        "" => name.to_owned(),
        above => format!("{above}/{name}"),
    });
    similar.into_iter().collect()
}
