//! The build context: a directory as a file tree, without what `.dockerignore` names.
//!
//! Everything belongs to root, as BuildKit has it. Files are not read here: the tree refers to them
//! by their number in [`Files::sources`]. Their digests are known from earlier builds where they
//! are as they were then.

mod known;
mod walk;

use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use firebuild_core::Digest;
use firebuild_core::tree::{self, Content, Node, NodeId};
use firebuild_oci::HostFile;
use firebuild_plan::ignore::Patterns;
use firebuild_store::{Remembered, Store};

use crate::Error;
use crate::sources::Files;
use known::Known;
use walk::{Found, Kind, Walked};

/// Scans a directory. What `ignore` excludes is not there, and not walked where nothing below can
/// be included again.
pub(crate) fn scan(store: &Store, directory: &Path, ignore: &Patterns) -> Result<Files, Error> {
    let scanned = now();
    let top = fs_err::canonicalize(directory).map_err(Error::Context)?;
    let walked = walk::walk(&top, ignore).map_err(Error::Context)?;
    let key = Digest::of(top.as_os_str().as_bytes());
    // Without them, files are read once more.
    let bytes = store.remembered(Remembered::Context, &key).ok().flatten();
    let known = known::decode(&bytes.unwrap_or_default());
    let mut scan = Scan {
        walked,
        known: &known,
        files: Files::default(),
        links: HashMap::new(),
        hosts: Vec::new(),
        remembered: 0,
        path: top.clone().into_os_string().into_vec(),
        below: top.as_os_str().len() + 1,
    };
    let root = scan.files.tree.root();
    scan.directory(root, 0).map_err(Error::Context)?;
    let digests = Digests {
        store: store.clone(),
        key,
        top,
        scanned,
        unchanged: scan.remembered == known.len(),
        remembered: scan.remembered,
        files: scan.hosts,
    };
    let mut files = scan.files;
    files.digests = Some(Arc::new(digests));
    Ok(files)
}

/// The digests of a context's files, which are kept when nobody has the context any more.
#[derive(Debug)]
pub(crate) struct Digests {
    store: Store,
    key: Digest,
    top: PathBuf,
    /// When the scan began, in nanoseconds since 1970.
    scanned: i128,
    /// Whether all that was known still holds.
    unchanged: bool,
    /// How many digests were known already.
    remembered: usize,
    files: Vec<Arc<HostFile>>,
}

impl Digests {
    /// Whether there is something at a path below the context, seen or not.
    pub(crate) fn exists(&self, path: &str) -> bool {
        let parts = tree::components(path.as_bytes()).filter(|part| *part != b"..");
        let below: PathBuf = parts.map(std::ffi::OsStr::from_bytes).collect();
        fs_err::symlink_metadata(self.top.join(below)).is_ok()
    }
}

impl Drop for Digests {
    fn drop(&mut self) {
        let kept: Vec<_> = self
            .files
            .iter()
            .filter(|file| known::is_settled(file.identity(), self.scanned))
            .filter_map(|file| {
                let path = file.path().strip_prefix(&self.top).ok()?;
                let digest = file.known_digest()?;
                Some((path.as_os_str().as_bytes(), file.identity(), digest))
            })
            .collect();
        if self.unchanged && kept.len() == self.remembered {
            return;
        }
        let bytes = known::encode(kept.into_iter());
        // What cannot be kept is found out once more.
        let _ = self.store.remember(Remembered::Context, &self.key, &bytes);
    }
}

/// Nanoseconds since 1970.
fn now() -> i128 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| i128::try_from(since.as_nanos()).unwrap_or(0))
}

/// Makes a tree of what was found.
struct Scan<'a> {
    walked: Walked,
    known: &'a Known,
    files: Files,
    /// Files with several names, by device and inode.
    links: HashMap<(u64, u64), NodeId>,
    hosts: Vec<Arc<HostFile>>,
    remembered: usize,
    /// The path of the entry in hand.
    path: Vec<u8>,
    /// Where in `path` that part begins which is below the context.
    below: usize,
}

impl Scan<'_> {
    fn directory(&mut self, into: NodeId, number: usize) -> std::io::Result<()> {
        for found in std::mem::take(&mut self.walked[number]) {
            let length = self.path.len();
            self.path.push(b'/');
            self.path.extend_from_slice(&found.name);
            self.entry(into, found)?;
            self.path.truncate(length);
        }
        Ok(())
    }

    fn entry(&mut self, into: NodeId, found: Found) -> std::io::Result<()> {
        let identity = (found.identity.device, found.identity.inode);
        if let Some(first) = self.links.get(&identity).filter(|_| found.several) {
            let linked = self.files.tree.link(into, &found.name, *first);
            return linked.map_err(std::io::Error::other);
        }
        let kind = self.kind(&found);
        let Found { name, metadata, .. } = found;
        let node = Node { metadata, kind };
        let id = self.files.tree.insert(into, &name, node);
        let id = id.map_err(std::io::Error::other)?;
        if found.several {
            self.links.insert(identity, id);
        }
        if let Kind::Directory { number, excluded } = found.kind {
            self.directory(id, number)?;
            // An excluded directory is only there for what is included below it.
            if excluded && self.files.tree.entries(id).next().is_none() {
                self.files.tree.remove(into, &name);
            }
        }
        Ok(())
    }

    fn kind(&mut self, found: &Found) -> tree::Kind {
        match &found.kind {
            Kind::Directory { .. } => tree::Kind::Directory(BTreeMap::new()),
            Kind::File => self.file(found),
            Kind::Symlink(target) => tree::Kind::Symlink(target.as_slice().into()),
            Kind::CharacterDevice(device) => tree::Kind::CharacterDevice(*device),
            Kind::BlockDevice(device) => tree::Kind::BlockDevice(*device),
            Kind::Fifo => tree::Kind::Fifo,
            Kind::Socket => tree::Kind::Socket,
        }
    }

    fn file(&mut self, found: &Found) -> tree::Kind {
        let path = PathBuf::from(std::ffi::OsString::from_vec(self.path.clone()));
        let host = Arc::new(HostFile::new(path, found.identity));
        if let Some((identity, digest)) = self.known.get(&self.path[self.below..])
            && *identity == found.identity
        {
            host.set_digest(*digest);
            self.remembered += 1;
        }
        let source = self.files.sources.add_host_file(Arc::clone(&host));
        self.hosts.push(host);
        tree::Kind::File(Content::whole(source, 0, found.identity.size))
    }
}

#[cfg(test)]
mod tests;
