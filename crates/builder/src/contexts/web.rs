//! The folder of a Dockerfile on a web server: single files, fetched when they are asked for.
//!
//! HTTP has no directories. What looks like one is refused, and so is a pattern.

use firebuild_core::tree::{Content, Kind, Metadata, Node, NodeId, components};
use url::Url;

use super::ContextError;
use crate::fetch::{Destination, FetchError, Fetcher, shown};
use crate::sources::Files;

/// A folder on a web server.
#[derive(Debug)]
pub(super) struct Folder(Url);

impl Folder {
    /// The folder in which the file at `url` is.
    pub(super) fn of(url: &str) -> Result<Self, FetchError> {
        let wrong = |error: url::ParseError| FetchError::Address {
            address: shown(url),
            reason: error.to_string(),
        };
        let file = Url::parse(url).map_err(wrong)?;
        Ok(Self(file.join(".").map_err(wrong)?))
    }

    /// These files, at their paths.
    pub(super) async fn files(
        &self,
        fetcher: &Fetcher,
        to: Destination<'_>,
        wanted: &[&str],
    ) -> Result<Files, ContextError> {
        let mut files = Files::default();
        for path in wanted {
            let parts = self.parts(path)?;
            let mut url = self.0.clone();
            if let Ok(mut segments) = url.path_segments_mut() {
                segments.pop_if_empty().extend(&parts);
            }
            let download = fetcher.http(to, url.as_str(), None).await?;
            let file = to.lease.store().blob(&download.blob.digest);
            let source = files.sources.add_file(file.map_err(FetchError::from)?);
            let mut metadata = Metadata::root_owned(0o644);
            metadata.mtime = download.last_modified.unwrap_or_default();
            let kind = Kind::File(Content::whole(source, 0, download.blob.size));
            self.put(&mut files, &parts, Node { metadata, kind })?;
        }
        Ok(files)
    }

    /// The parts of a file's path; going up ends at the folder.
    fn parts<'p>(&self, path: &'p str) -> Result<Vec<&'p str>, ContextError> {
        let mut parts = Vec::new();
        for part in components(path.as_bytes()) {
            match std::str::from_utf8(part) {
                Ok("..") => {
                    parts.pop();
                }
                Ok(part) => parts.push(part),
                Err(_) => return Err(self.refused(path)),
            }
        }
        let single = !parts.is_empty()
            && !path.ends_with(['/'])
            && !path.ends_with("/.")
            && !path.contains(['*', '?', '[', '\\']);
        match single {
            true => Ok(parts),
            false => Err(self.refused(path)),
        }
    }

    fn put(&self, files: &mut Files, parts: &[&str], node: Node) -> Result<(), ContextError> {
        let refused = |path: &str| self.refused(path);
        let Some((name, folders)) = parts.split_last() else {
            return Ok(());
        };
        let mut at: NodeId = files.tree.root();
        for folder in folders {
            at = match files.tree.child(at, folder.as_bytes()) {
                Some(found) => found,
                None => {
                    let directory = Node::directory(Metadata::root_owned(0o755));
                    let made = files.tree.insert(at, folder.as_bytes(), directory);
                    made.map_err(|_| refused(folder))?
                }
            };
        }
        let put = files.tree.insert(at, name.as_bytes(), node);
        put.map(|_| ()).map_err(|_| refused(name))
    }

    fn refused(&self, path: &str) -> ContextError {
        ContextError::NotSingle {
            folder: shown(self.0.as_str()),
            path: path.to_owned(),
        }
    }
}
