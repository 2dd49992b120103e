//! What a copy takes that is in no tree of files: here-documents, downloads, repositories.

use std::borrow::Cow;
use std::collections::BTreeSet;

use firebuild_core::tree::{Content, Kind, Metadata, Node, NodeId, Timestamp, Tree};
use firebuild_oci::Sources;
use firebuild_plan::Item;
use firebuild_store::Store;
use futures::future::try_join_all;

use crate::copy::{self, CopyError, Exclude, Match};
use crate::current::Current;
use crate::error::StepError;
use crate::fetch::{Checkout, Download, FetchError};
use crate::sources;

/// The mode of a file that was downloaded: nobody said who may read it.
const DOWNLOADED: u16 = 0o600;

/// What an item that comes from elsewhere is, in the store.
#[derive(Debug)]
pub(super) enum Fetched {
    File(Download),
    Repository(Checkout),
}

/// A file, or a directory, with a tree of its own.
#[derive(Debug)]
pub(super) struct Apart {
    tree: Tree,
    name: Vec<u8>,
    node: NodeId,
}

impl Current<'_> {
    /// Fetches the items that come from elsewhere, all at once. The result is in their order.
    pub(super) async fn fetch(&self, items: &[Item]) -> Result<Vec<Fetched>, StepError> {
        let (fetcher, to) = (
            self.build.request.contexts.fetcher(),
            self.build.destination(),
        );
        let fetch = async |item: &Item| match item {
            Item::Http { url, checksum, .. } => {
                let download = fetcher.http(to, url, checksum.as_ref()).await?;
                Ok::<_, FetchError>(Some(Fetched::File(download)))
            }
            Item::Git { source, .. } => {
                let checkout = fetcher.git(to, source).await?;
                Ok(Some(Fetched::Repository(checkout)))
            }
            Item::Path(_) | Item::Inline { .. } => Ok(None),
        };
        let fetched = try_join_all(items.iter().map(fetch)).await?;
        Ok(fetched.into_iter().flatten().collect())
    }

    /// The time of a download whose server does not say one.
    pub(super) fn undated(&self) -> Timestamp {
        let epoch = self.build.plan.epoch.unwrap_or_default();
        Timestamp {
            seconds: i64::try_from(epoch).unwrap_or_default(),
            nanoseconds: 0,
        }
    }
}

/// Makes trees of the items that are not paths. With what was fetched for them comes the time of
/// downloads that have none. Their bytes are added to `sources`.
pub(super) fn load(
    store: &Store,
    items: &[Item],
    (fetched, undated): (Vec<Fetched>, Timestamp),
    sources: &mut Sources,
) -> Result<Vec<Apart>, StepError> {
    let mut fetched = fetched.into_iter();
    let mut apart = Vec::new();
    for item in items {
        let made = match item {
            Item::Path(_) => None,
            Item::Inline { name, content } => {
                let text = sources::text(content).map_err(StepError::Read)?;
                let content = Content::whole(sources.add_file(text), 0, content.len() as u64);
                Some(file(name, Metadata::root_owned(0o644), content)?)
            }
            Item::Http { file_name, .. } => match fetched.next() {
                Some(Fetched::File(download)) => {
                    let source = sources.add_file(store.blob(&download.blob.digest)?);
                    let mut metadata = Metadata::root_owned(DOWNLOADED);
                    metadata.mtime = download.last_modified.unwrap_or(undated);
                    let content = Content::whole(source, 0, download.blob.size);
                    Some(file(file_name, metadata, content)?)
                }
                _ => None,
            },
            Item::Git { .. } => match fetched.next() {
                Some(Fetched::Repository(checkout)) => {
                    let tree = checkout.tree(store, sources)?;
                    let (name, node) = (Vec::new(), tree.root());
                    Some(Apart { tree, name, node })
                }
                _ => None,
            },
        };
        apart.extend(made);
    }
    Ok(apart)
}

fn file(name: &str, metadata: Metadata, content: Content) -> Result<Apart, StepError> {
    let mut tree = Tree::default();
    let kind = Kind::File(content);
    let root = tree.root();
    let node = tree.insert(root, name.as_bytes(), Node { metadata, kind })?;
    let name = name.as_bytes().to_vec();
    Ok(Apart { tree, name, node })
}

impl Apart {
    /// What is to be copied: the file, or what a repository holds without what is excluded.
    pub(super) fn found(&self, exclude: &Exclude) -> Result<Vec<Match<'_>>, CopyError> {
        if self.tree.node(self.node).is_directory() {
            return copy::matches(&self.tree, b"/", exclude);
        }
        Ok(vec![Match {
            tree: Cow::Borrowed(&self.tree),
            name: self.name.clone(),
            node: self.node,
            implied: BTreeSet::new(),
        }])
    }
}
