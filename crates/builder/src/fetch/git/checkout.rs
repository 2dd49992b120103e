//! The commit's files, from the remote to a directory.
//!
//! Only the one commit is fetched where the server allows it. Before anything is written out it is
//! counted what it would be: a few objects can stand for billions of files.

use firebuild_core::ByteSize;
use firebuild_core::layer::Limits;
use firebuild_plan::GitSource;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::super::{Cause, FetchError};
use super::failure;
use super::program::Program;
use super::reference::{self, Resolved};

/// A commit whose objects are here.
#[derive(Debug)]
pub(super) struct Fetched {
    /// Its full hash.
    pub(super) commit: String,
    /// When it was made, in seconds since 1970.
    pub(super) time: u64,
    /// What was asked for, as it turned out.
    pub(super) resolved: Resolved,
}

/// Branches and tags with all that led to them.
const EVERYTHING: [&str; 2] = [
    "+refs/heads/*:refs/remotes/origin/*",
    "+refs/tags/*:refs/tags/*",
];

/// Fetches the objects of a commit.
pub(super) async fn fetch(
    program: &Program<'_>,
    source: &GitSource,
    resolved: &Resolved,
) -> Result<Fetched, FetchError> {
    init(program, resolved).await?;
    let commit = match resolved {
        Resolved::Commit {
            name: Some(name), ..
        } => by_name(program, name).await?,
        Resolved::Commit { commit, .. } => by_hash(program, commit).await?,
        Resolved::Abbreviated(beginning) => by_history(program, beginning).await?,
    };
    let tag = match resolved {
        Resolved::Commit { tag, .. } => tag.clone(),
        Resolved::Abbreviated(_) => None,
    };
    let time = program
        .output(
            "asked for its commit's time",
            &["show", "--no-patch", "--format=%ct", &commit],
        )
        .await?;
    let time = String::from_utf8_lossy(&time).trim().parse();
    Ok(Fetched {
        time: time.unwrap_or_default(),
        resolved: Resolved::Commit {
            commit: commit.clone(),
            name: source.reference.clone(),
            tag,
        },
        commit,
    })
}

async fn init(program: &Program<'_>, resolved: &Resolved) -> Result<(), FetchError> {
    let sha256 = matches!(resolved, Resolved::Commit { commit, .. } if commit.len() == 64);
    let format = if sha256 {
        "--object-format=sha256"
    } else {
        "--object-format=sha1"
    };
    let work = program.work();
    let work = work.to_string_lossy();
    program
        .output(
            "made",
            &["init", "--quiet", "--template=", format, "--", &work],
        )
        .await?;
    // Submodules may be named relative to it.
    program
        .output("made", &["remote", "add", "--", "origin", program.remote()])
        .await?;
    Ok(())
}

async fn by_name(program: &Program<'_>, name: &str) -> Result<String, FetchError> {
    // A tag keeps its name, for those who keep `.git` and ask which version this is.
    let wanted = match name.starts_with("refs/tags/") {
        true => format!("+{name}:{name}"),
        false => name.to_owned(),
    };
    shallow(program, &wanted).await?;
    commit_of(program, "FETCH_HEAD").await
}

async fn by_hash(program: &Program<'_>, commit: &str) -> Result<String, FetchError> {
    match shallow(program, commit).await {
        Ok(()) => commit_of(program, "FETCH_HEAD").await,
        Err(error) if failure::is_not_offered(&error) => by_history(program, commit).await,
        Err(error) => Err(error),
    }
}

/// Finds a commit by (the beginning of) its hash in all that branches and tags lead to.
async fn by_history(program: &Program<'_>, beginning: &str) -> Result<String, FetchError> {
    let mut arguments = vec![
        "fetch",
        "--quiet",
        "--no-recurse-submodules",
        "--",
        "origin",
    ];
    arguments.extend(EVERYTHING);
    program.output("fetched", &arguments).await?;
    let commit = format!("{beginning}^{{commit}}");
    let found = program
        .try_output(&[
            "rev-parse",
            "--quiet",
            "--verify",
            "--end-of-options",
            &commit,
        ])
        .await?;
    match found {
        Some(hash) => Ok(String::from_utf8_lossy(&hash).trim().to_owned()),
        None => Err(reference::missing(program, beginning).await?),
    }
}

async fn shallow(program: &Program<'_>, wanted: &str) -> Result<(), FetchError> {
    program
        .output(
            "fetched",
            &[
                "fetch",
                "--quiet",
                "--depth=1",
                "--no-tags",
                "--no-recurse-submodules",
                "--",
                "origin",
                wanted,
            ],
        )
        .await
        .map(|_| ())
}

async fn commit_of(program: &Program<'_>, name: &str) -> Result<String, FetchError> {
    let commit = format!("{name}^{{commit}}");
    let hash = program
        .output(
            "asked for its commit",
            &["rev-parse", "--verify", "--end-of-options", &commit],
        )
        .await?;
    Ok(String::from_utf8_lossy(&hash).trim().to_owned())
}

/// Writes the commit's files out, with those of its submodules.
pub(super) async fn check_out(
    program: &Program<'_>,
    source: &GitSource,
    fetched: &Fetched,
    limit: ByteSize,
) -> Result<(), FetchError> {
    count(program, &fetched.commit, limit).await?;
    program
        .output(
            "checked out",
            &[
                "checkout",
                "--quiet",
                "--force",
                "--detach",
                &fetched.commit,
            ],
        )
        .await?;
    let modules = program.work().join(".gitmodules");
    if source.submodules == Some(false) || !modules.is_file() {
        return Ok(());
    }
    program
        .output(
            "completed with its submodules",
            &[
                "submodule",
                "--quiet",
                "update",
                "--init",
                "--recursive",
                "--depth=1",
            ],
        )
        .await
        .map(|_| ())
}

/// Counts files and bytes of a commit, and stops where there are too many.
async fn count(program: &Program<'_>, commit: &str, limit: ByteSize) -> Result<(), FetchError> {
    let failed = |error: std::io::Error| FetchError::Client(Cause::of(error));
    let arguments = [
        "ls-tree",
        "-r",
        "-t",
        "-z",
        "--format=%(objectsize)",
        commit,
    ];
    let mut child = program.command(&arguments).spawn().map_err(failed)?;
    let Some(output) = child.stdout.take() else {
        return Ok(());
    };
    let most = Limits::default().entries;
    let (mut entries, mut bytes) = (0, 0_u64);
    let mut sizes = BufReader::new(output).split(0);
    while let Some(size) = sizes.next_segment().await.map_err(failed)? {
        // Directories and submodules have none.
        let size = std::str::from_utf8(&size)
            .ok()
            .and_then(|text| text.parse().ok());
        bytes = bytes.saturating_add(size.unwrap_or(0_u64));
        entries += 1;
        if entries > most || bytes > limit.0 {
            return Err(FetchError::TooLarge {
                address: program.address().to_owned(),
                limit,
            });
        }
    }
    child.wait().await.map_err(failed)?;
    Ok(())
}
