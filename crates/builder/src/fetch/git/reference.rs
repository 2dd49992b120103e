//! Which commit is meant: a branch, a tag, any other reference, a hash, or the default branch.

use firebuild_plan::GitSource;
use firebuild_plan::suggest::nearest;

use super::super::FetchError;
use super::program::Program;

/// Hexadecimal digits of a hash: SHA-1's and SHA-256's.
const FULL: [usize; 2] = [40, 64];

/// The fewest digits that git takes for the beginning of a hash.
const SHORTEST: usize = 4;

/// What a reference leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resolved {
    /// A commit.
    Commit {
        /// Its full hash.
        commit: String,
        /// The reference's full name at the remote; none if it was the hash itself.
        name: Option<String>,
        /// The hash of the tag's own object, if it has one.
        tag: Option<String>,
    },
    /// The beginning of some commit's hash.
    Abbreviated(String),
}

/// Asks the remote, unless a full hash needs no answer.
pub(super) async fn resolve(
    program: &Program<'_>,
    source: &GitSource,
) -> Result<Resolved, FetchError> {
    if let Some(commit) = source.checksum.as_deref()
        && !(is_hash(commit) && (SHORTEST..=64).contains(&commit.len()))
    {
        return Err(FetchError::Address {
            address: program.address().to_owned(),
            reason: format!("`{commit}` is not a commit's hash"),
        });
    }
    // A commit without a reference is what is meant, wherever the branches are by now.
    let by_commit = source.reference.is_none() || source.fetch_by_commit == Some(true);
    let wanted = match &source.checksum {
        Some(commit) if by_commit => Some(commit),
        _ => source.reference.as_ref(),
    };
    let Some(wanted) = wanted else {
        return default_branch(program).await;
    };
    if is_hash(wanted) && FULL.contains(&wanted.len()) {
        return Ok(Resolved::Commit {
            commit: wanted.to_ascii_lowercase(),
            name: None,
            tag: None,
        });
    }
    if !is_possible(wanted) {
        return Err(FetchError::Address {
            address: program.address().to_owned(),
            reason: format!("`{wanted}` cannot be a reference's name"),
        });
    }
    named(program, wanted).await
}

async fn default_branch(program: &Program<'_>) -> Result<Resolved, FetchError> {
    let advertised = advertised(program, &["HEAD"]).await?;
    let head = advertised.into_iter().find(|(_, name)| name == "HEAD");
    match head {
        Some((commit, _)) => Ok(Resolved::Commit {
            commit,
            name: Some("HEAD".to_owned()),
            tag: None,
        }),
        None => Err(FetchError::NoReference {
            address: program.address().to_owned(),
            reference: "HEAD".to_owned(),
            near: None,
        }),
    }
}

/// Branches before tags before anything else, as git has it.
async fn named(program: &Program<'_>, wanted: &str) -> Result<Resolved, FetchError> {
    let candidates = match wanted.starts_with("refs/") {
        true => vec![wanted.to_owned()],
        false => ["refs/heads/", "refs/tags/", "refs/"]
            .map(|prefix| format!("{prefix}{wanted}"))
            .to_vec(),
    };
    let peeled = |name: &str| format!("{name}^{{}}");
    let patterns: Vec<String> = candidates
        .iter()
        .flat_map(|name| [name.clone(), peeled(name)])
        .collect();
    let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
    let found = advertised(program, &patterns).await?;
    let hash_of = |name: &str| {
        let mut named = found.iter().filter(|(_, known)| known == name);
        named.next().map(|(hash, _)| hash.clone())
    };
    for name in candidates {
        let Some(hash) = hash_of(&name) else {
            continue;
        };
        let behind = hash_of(&peeled(&name));
        let tag = behind.is_some().then(|| hash.clone());
        return Ok(Resolved::Commit {
            commit: behind.unwrap_or(hash),
            name: Some(name),
            tag,
        });
    }
    if is_hash(wanted) && wanted.len() >= SHORTEST {
        return Ok(Resolved::Abbreviated(wanted.to_ascii_lowercase()));
    }
    Err(missing(program, wanted).await?)
}

/// The error for a reference that is not there, with the name that comes nearest.
pub(super) async fn missing(program: &Program<'_>, wanted: &str) -> Result<FetchError, FetchError> {
    let all = advertised(program, &["refs/heads/*", "refs/tags/*"]).await?;
    let names = all.iter().map(|(_, name)| short(name));
    let names = names.filter(|name| !name.ends_with("^{}"));
    let wanted = short(wanted);
    Ok(FetchError::NoReference {
        address: program.address().to_owned(),
        reference: wanted.to_owned(),
        near: nearest(wanted, names).map(str::to_owned),
    })
}

/// A branch's or tag's name as people write it.
fn short(name: &str) -> &str {
    let branch = name.strip_prefix("refs/heads/");
    let tag = || name.strip_prefix("refs/tags/");
    branch.or_else(tag).unwrap_or(name)
}

/// Hashes and names of what the remote has of these names.
async fn advertised(
    program: &Program<'_>,
    patterns: &[&str],
) -> Result<Vec<(String, String)>, FetchError> {
    let mut arguments = vec!["ls-remote", "--quiet", "--", program.remote()];
    arguments.extend(patterns);
    let output = program
        .output("asked for its references", &arguments)
        .await?;
    let text = String::from_utf8_lossy(&output);
    let pairs = text.lines().filter_map(|line| line.split_once('\t'));
    Ok(pairs
        .filter(|(hash, _)| is_hash(hash) && FULL.contains(&hash.len()))
        .map(|(hash, name)| (hash.to_owned(), name.to_owned()))
        .collect())
}

/// Checks the commit that was asked for, which may be only the beginning of its hash, or the hash
/// of the tag that leads to it.
pub(super) fn check(
    source: &GitSource,
    address: &str,
    resolved: &Resolved,
) -> Result<(), FetchError> {
    let (Some(expected), Resolved::Commit { commit, tag, .. }) = (&source.checksum, resolved)
    else {
        return Ok(());
    };
    let wanted = expected.to_ascii_lowercase();
    let fits = |hash: &String| hash.starts_with(&wanted);
    if fits(commit) || tag.as_ref().is_some_and(fits) {
        return Ok(());
    }
    Err(FetchError::OtherCommit {
        address: address.to_owned(),
        expected: expected.clone(),
        actual: commit.clone(),
    })
}

fn is_hash(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The rules of `git check-ref-format`, as far as they keep a name from meaning something else.
fn is_possible(name: &str) -> bool {
    let forbidden = |character: char| {
        character.is_control() || character.is_whitespace() || "~^:?*[\\".contains(character)
    };
    !name.is_empty()
        && name.len() <= 255
        && !name.starts_with(['-', '/', '+'])
        && !name.ends_with(['/', '.'])
        && !name.contains("..")
        && !name.contains("@{")
        && !name.contains("//")
        && !name.contains(forbidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_never_an_option_or_a_range() {
        for name in [
            "main",
            "feature/x",
            "v1.0",
            "refs/heads/a",
            "pull/42/head",
            "@x",
            "a-b",
        ] {
            assert!(is_possible(name), "{name}");
        }
        for name in [
            "",
            "-x",
            "--upload-pack=x",
            "+main",
            "a..b",
            "a:b",
            "a b",
            "a\nb",
            "a^",
            "a~1",
            "a*",
            "a[b]",
            "a\\b",
            "@{-1}",
            "/a",
            "a/",
            "a//b",
            "a.",
        ] {
            assert!(!is_possible(name), "{name}");
        }
    }
}
