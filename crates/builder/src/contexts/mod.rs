//! Where a build's files come from: the main context and the named ones.
//!
//! * [`Place`], [`NamedPlace`]: what people write.
//! * [`open`]: from there to a Dockerfile and [`Contexts`].
//! * [`Contexts`]: files, when a step asks for them. What no step reads is not read: no directory
//!   is scanned and no named repository fetched for nothing.
//! * [`resolve_named`]: which named contexts are images.
//!
//! Everything belongs to root, whatever an archive says, as in a context that is a directory.

mod dockerfile;
mod error;
mod named;
mod open;
mod place;
#[cfg(test)]
mod tests;
mod web;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use firebuild_core::Digest;
use firebuild_core::tree::Timestamp;
use firebuild_plan::ignore::Patterns;
use firebuild_plan::{Item, Source};
use firebuild_store::Lease;
use tokio::sync::OnceCell;

pub use dockerfile::DockerfileText;
pub use error::ContextError;
pub use named::resolve_named;
pub use open::{Opened, Opening, open};
pub use place::{LayoutImage, NamedPlace, Place};

use crate::archive::{self, Archive, Limits};
use crate::copy::Match;
use crate::fetch::{Checkout, Destination, Fetcher};
use crate::sources::Files;
use crate::threads::Threads;
use crate::{Error, context, fingerprint};

pub(crate) use crate::fetch::shown;

/// A build's contexts.
#[derive(Debug)]
pub struct Contexts {
    fetcher: Arc<Fetcher>,
    main: Context,
    named: BTreeMap<String, Context>,
}

/// One context, and its files once somebody asked for them.
#[derive(Debug)]
struct Context {
    origin: Origin,
    files: OnceCell<Arc<Files>>,
}

/// Where a context's files are.
enum Origin {
    /// Nowhere: there are none.
    Empty,
    /// In a directory, but for what is ignored.
    Directory(PathBuf, Patterns),
    /// They were read already.
    Files(Arc<Files>),
    /// On a web server, one by one.
    Web(web::Folder),
    /// Where they have to be fetched from.
    Place(Place),
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Directory(path, _) => f.debug_tuple("Directory").field(path).finish(),
            Self::Files(_) => f.write_str("Files"),
            Self::Web(folder) => folder.fmt(f),
            Self::Place(place) => place.fmt(f),
        }
    }
}

impl From<Origin> for Context {
    fn from(origin: Origin) -> Self {
        Self {
            origin,
            files: OnceCell::new(),
        }
    }
}

impl Contexts {
    /// A directory, and nothing else.
    #[must_use]
    pub fn directory(directory: &Path, ignore: Patterns) -> Self {
        Self {
            fetcher: Arc::default(),
            main: Origin::Directory(directory.to_owned(), ignore).into(),
            named: BTreeMap::new(),
        }
    }

    /// What the main context leaves out of its directory.
    #[must_use]
    pub fn ignored(&self) -> Patterns {
        match &self.main.origin {
            Origin::Directory(_, ignore) => ignore.clone(),
            _ => Patterns::default(),
        }
    }

    /// The digest of all files of the main context that a step could read: their names, attributes
    /// and contents without times. None for one that gives its files only by their names.
    ///
    /// # Errors
    /// Those of reading it.
    pub async fn digest(&self, lease: &Lease) -> Result<Option<Digest>, Error> {
        if matches!(self.main.origin, Origin::Web(_)) {
            return Ok(None);
        }
        let files = self.files(lease, &Source::Context, &[]).await?;
        let digest = move || {
            let all = Match {
                tree: Cow::Borrowed(&files.tree),
                name: Vec::new(),
                node: files.tree.root(),
                implied: BTreeSet::new(),
            };
            fingerprint::of(&[all], &files.sources)
        };
        self.fetcher
            .threads()
            .run(digest)
            .await
            .map(Some)
            .map_err(Error::Context)
    }

    /// What fetches for this build: the same for its contexts and for what its steps add.
    pub(crate) fn fetcher(&self) -> &Fetcher {
        &self.fetcher
    }

    /// The time of a named context, in seconds since 1970: of a repository's commit, of a file on a
    /// web server, or else of the newest file of an archive there. None if there is no such context
    /// with files; `Some(None)` if it has no time, as a directory.
    ///
    /// # Errors
    /// Those of fetching it.
    pub async fn time_of(
        &self,
        name: &str,
        to: Destination<'_>,
    ) -> Result<Option<Option<u64>>, Error> {
        let Some(context) = self.named.get(name) else {
            return Ok(None);
        };
        match &context.origin {
            Origin::Place(place) => named::time(place, &self.fetcher, to).await.map(Some),
            _ => Ok(Some(None)),
        }
    }

    /// The time of what a step adds from elsewhere, as [`Contexts::time_of`]; none of what is not
    /// from elsewhere.
    ///
    /// # Errors
    /// Those of fetching it.
    pub async fn time_of_item(
        &self,
        item: &Item,
        to: Destination<'_>,
    ) -> Result<Option<u64>, Error> {
        match item {
            Item::Http { url, checksum, .. } => {
                let download = self.fetcher.http(to, url, checksum.as_ref()).await?;
                let time = download.last_modified;
                Ok(time.and_then(|time| u64::try_from(time.seconds).ok()))
            }
            Item::Git { source, .. } => Ok(Some(self.fetcher.git(to, source).await?.time)),
            Item::Path(_) | Item::Inline { .. } => Ok(None),
        }
    }

    /// The files of a context of which a step reads the paths `wanted`. A context that is no tree
    /// may give only these.
    pub(crate) async fn files(
        &self,
        to: impl Into<Destination<'_>>,
        source: &Source,
        wanted: &[&str],
    ) -> Result<Arc<Files>, Error> {
        let to = to.into();
        let context = match source {
            Source::Context => &self.main,
            Source::Named(name) => self
                .named
                .get(name)
                .ok_or_else(|| ContextError::NoContext(name.clone()))?,
            Source::Stage(_) | Source::Image(_) | Source::Empty => return Ok(Arc::default()),
        };
        if let Origin::Web(folder) = &context.origin {
            let files = folder.files(&self.fetcher, to, wanted).await?;
            return Ok(Arc::new(files));
        }
        let load = || load(&context.origin, &self.fetcher, to);
        context.files.get_or_try_init(load).await.cloned()
    }
}

/// Reads a context for the first time.
async fn load(
    origin: &Origin,
    fetcher: &Fetcher,
    to: Destination<'_>,
) -> Result<Arc<Files>, Error> {
    Ok(match origin {
        Origin::Empty | Origin::Web(_) => Arc::default(),
        Origin::Files(files) => Arc::clone(files),
        Origin::Directory(directory, ignore) => {
            let (directory, ignore) = (directory.clone(), ignore.clone());
            let store = to.lease.store().clone();
            let scan = move || context::scan(&store, &directory, &ignore).map(Arc::new);
            fetcher.threads().run(scan).await?
        }
        Origin::Place(place) => Arc::new(named::files(place, fetcher, to).await?),
    })
}

/// Reads an archive that is in the store. None if it is something else.
async fn archive_of(
    threads: &Threads,
    lease: &Lease,
    blob: &firebuild_core::Digest,
    place: &str,
) -> Result<Option<(Files, Option<Timestamp>)>, ContextError> {
    let (store, blob) = (lease.store().clone(), *blob);
    let file = store.blob(&blob).map_err(crate::fetch::FetchError::from)?;
    let wrong = wrong_archive(place);
    let read = move || {
        let archive = archive::open(&store, file, &Limits::default())?;
        let read = archive.map(of_archive).transpose()?;
        Ok(read.map(|(mut files, newest)| {
            files.archive = Some(Digest::of(format!("tar {blob}").as_bytes()));
            (files, newest)
        }))
    };
    threads.run(read).await.map_err(wrong)
}

fn wrong_archive(place: &str) -> impl FnOnce(archive::ArchiveError) -> ContextError {
    let place = place.to_owned();
    move |source| ContextError::Archive { place, source }
}

/// An archive's files, and when the newest of them changed.
fn of_archive(archive: Archive) -> Result<(Files, Option<Timestamp>), archive::ArchiveError> {
    let mut files = Files {
        tree: archive.tree(0)?,
        ..Files::default()
    };
    files.sources.add_file(archive.file);
    let mut all = Vec::new();
    files.tree.walk(&mut |_, id| all.push(id));
    let mut newest = None;
    for id in all {
        let metadata = files.tree.metadata_mut(id);
        (metadata.uid, metadata.gid) = (0, 0);
        if id != files.tree.root() {
            newest = newest.max(Some(files.tree.node(id).metadata.mtime));
        }
    }
    Ok((files, newest))
}

async fn of_checkout(
    threads: &Threads,
    lease: &Lease,
    checkout: Checkout,
) -> Result<Files, ContextError> {
    let store = lease.store().clone();
    Ok(threads.run(move || checkout.files(&store)).await?)
}
