//! Repositories, through the `git` program.
//!
//! * [`program`](mod@program): how git is started, so that it asks nobody, executes nothing of the
//!   repository's, and knows no other protocols.
//! * [`reference`](mod@reference): which commit is meant.
//! * [`checkout`](mod@checkout): the commit's files, from the remote to a directory.
//! * [`pack`](mod@pack): from a directory to an archive in the store.
//!
//! A commit that was fetched before is not fetched again: the archive of its files is kept as
//! downloads are, by remote and commit.

mod checkout;
mod failure;
mod pack;
mod program;
mod reference;
#[cfg(test)]
mod tests;

use firebuild_core::Digest;
use firebuild_core::layer::Limits;
use firebuild_core::tree::Tree;
use firebuild_oci::{LayerIndex, Sources};
use firebuild_plan::GitSource;
use firebuild_store::{Blob, DownloadRecord, Lease, Store};

use self::pack::Wish;
use self::program::Program;
use self::reference::Resolved;
use super::telling::{Destination, Telling};
use super::{FetchError, Fetcher, address, cell};
use crate::sources::Files;
use crate::time;

pub use failure::GitFailure;

/// The files of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    /// The commit's full hash.
    pub commit: String,
    /// When the commit was made, in seconds since 1970.
    pub time: u64,
    /// Its files, as an archive in the store.
    pub archive: Blob,
}

impl Checkout {
    /// The files as a tree, whose contents are added to `sources`.
    pub(crate) fn tree(&self, store: &Store, sources: &mut Sources) -> Result<Tree, FetchError> {
        let file = store.blob(&self.archive.digest)?;
        let number = sources.add_file(store.blob(&self.archive.digest)?);
        let index = LayerIndex::of_plain_file(&file, number, Limits::default());
        let unreadable = |error: firebuild_oci::Error| FetchError::Archive(Box::new(error));
        let index = index.map_err(|source| {
            let layer = format!("archive `{}`", self.archive.digest);
            unreadable(firebuild_oci::Error::Layer { layer, source })
        })?;
        let mut tree = Tree::default();
        firebuild_oci::apply(&mut tree, index).map_err(unreadable)?;
        Ok(tree)
    }

    /// The files as a tree with contents of its own.
    pub(crate) fn files(&self, store: &Store) -> Result<Files, FetchError> {
        let mut files = Files {
            archive: Some(Digest::of(
                format!("git {}", self.archive.digest).as_bytes(),
            )),
            ..Files::default()
        };
        files.tree = self.tree(store, &mut files.sources)?;
        Ok(files)
    }
}

impl Fetcher {
    /// Fetches the files of a repository at a commit into the store, unless they are there. `lease`
    /// keeps them there.
    ///
    /// # Errors
    /// [`FetchError`]; nothing of a failed transfer is left.
    pub async fn git(
        &self,
        to: impl Into<Destination<'_>>,
        source: &GitSource,
    ) -> Result<Checkout, FetchError> {
        let Destination { lease, progress } = to.into();
        let scratch = lease.store().temporary_directory()?;
        let telling = Telling::new(progress, &shown(source));
        let program = Program::new(self, source, scratch.path(), &telling)?;
        let key = Digest::of(format!("git {source:?}").as_bytes());
        let cell = cell(&self.checkouts, key);
        let checkout = cell.get_or_try_init(|| self.repository(lease, source, &program));
        Ok(checkout.await?.clone())
    }

    async fn repository(
        &self,
        lease: &Lease,
        source: &GitSource,
        program: &Program<'_>,
    ) -> Result<Checkout, FetchError> {
        program.telling().begin();
        let resolved = reference::resolve(program, source).await?;
        if let Resolved::Commit { commit, .. } = &resolved
            && let Some(known) = known(lease.store(), source, commit)?
        {
            reference::check(source, program.address(), &resolved)?;
            program.telling().end(None);
            return Ok(known);
        }
        let fetched = checkout::fetch(program, source, &resolved).await?;
        reference::check(source, program.address(), &fetched.resolved)?;
        // An abbreviated hash is only known now; its files may be here all the same.
        if let Some(known) = known(lease.store(), source, &fetched.commit)? {
            program.telling().end(None);
            return Ok(known);
        }
        checkout::check_out(program, source, &fetched, self.bounds.size).await?;
        let wish = Wish {
            directory: program.work(),
            subdirectory: source.subdirectory.clone().unwrap_or_default(),
            keep_git_dir: source.keep_git_dir == Some(true),
            time: match source.mtime.as_deref() {
                Some("commit") => fetched.time,
                _ => time::now(),
            },
            address: program.address().to_owned(),
            limit: self.bounds.size,
        };
        let (writer, address) = (lease.clone(), program.address().to_owned());
        let packed = self.threads.run(move || pack::pack(&writer, &wish)).await;
        let archive = packed?;
        let record = DownloadRecord {
            content: archive.digest,
            size: archive.size,
            address: format!("{address}#{}", fetched.commit),
            fetched: time::now(),
            etag: None,
            // A number of seconds here: git has it so.
            last_modified: Some(fetched.time.to_string()),
        };
        program.telling().end(Some(archive.size));
        let key = key(source, &fetched.commit);
        lease.store().downloads().put(&key, &record)?;
        Ok(of_record(&record, &fetched.commit))
    }
}

/// The files of a commit, if they were fetched before.
fn known(store: &Store, source: &GitSource, commit: &str) -> Result<Option<Checkout>, FetchError> {
    let record = store.downloads().get(&key(source, commit))?;
    Ok(record.map(|record| of_record(&record, commit)))
}

fn of_record(record: &DownloadRecord, commit: &str) -> Checkout {
    let time = record.last_modified.as_deref();
    Checkout {
        commit: commit.to_owned(),
        time: time.and_then(|time| time.parse().ok()).unwrap_or_default(),
        archive: Blob {
            digest: record.content,
            size: record.size,
        },
    }
}

/// What decides the files: where they come from, and everything that is done with them.
fn key(source: &GitSource, commit: &str) -> Digest {
    let text = format!(
        "git {:?} {commit} {:?} {:?} {:?} {:?}",
        source.remote,
        source.subdirectory,
        source.keep_git_dir.unwrap_or(false),
        source.submodules.unwrap_or(true),
        source.mtime.as_deref().unwrap_or("checkout"),
    );
    Digest::of(text.as_bytes())
}

/// A repository's address as messages show it.
fn shown(source: &GitSource) -> String {
    address::shown(&source.remote)
}
