//! From the directory of a checkout to an archive in the store.
//!
//! Everything in it belongs to root, files have mode 644 or 755 and one time, so that the same
//! commit gives the same archive.

use std::ffi::OsStr;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use firebuild_core::ByteSize;
use firebuild_core::tree::{Content, Kind, Metadata, Node, NodeId, Timestamp, Tree};
use firebuild_oci::Changes;
use firebuild_store::{Blob, Lease};
use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::super::{Cause, FetchError};
use crate::sources::Files;

/// What becomes of a checkout.
#[derive(Debug)]
pub(super) struct Wish {
    /// Where it is.
    pub(super) directory: PathBuf,
    /// What of it is wanted; empty for all.
    pub(super) subdirectory: String,
    /// Whether `.git` is kept, in the whole.
    pub(super) keep_git_dir: bool,
    /// The time of everything, in seconds since 1970.
    pub(super) time: u64,
    /// The repository, for messages.
    pub(super) address: String,
    /// The most bytes of its files.
    pub(super) limit: ByteSize,
}

/// Makes the archive.
pub(super) fn pack(lease: &Lease, wish: &Wish) -> Result<Blob, FetchError> {
    let root = wanted_directory(wish)?;
    let mut packing = Packing {
        wish,
        files: Files::default(),
        bytes: 0,
    };
    let top = packing.files.tree.root();
    *packing.files.tree.metadata_mut(top) = packing.metadata(0o755);
    packing.directory(top, &root)?;
    let Files { tree, sources, .. } = packing.files;
    let archive = |error: firebuild_oci::Error| FetchError::Archive(Box::new(error));
    let writer = Changes::whole(tree)
        .plain()
        .write(&sources, lease.blob_writer()?);
    Ok(writer.map_err(archive)?.commit(None)?)
}

/// The directory that is wanted; links in its path may lead about, but not out of the checkout.
fn wanted_directory(wish: &Wish) -> Result<PathBuf, FetchError> {
    let path = wish.subdirectory.trim_matches('/');
    if path.is_empty() {
        return Ok(wish.directory.clone());
    }
    let refused = |source: std::io::Error| FetchError::Subdirectory {
        address: wish.address.clone(),
        path: wish.subdirectory.clone(),
        source: match rustix::io::Errno::from_io_error(&source) {
            Some(rustix::io::Errno::XDEV) => {
                Cause::of(std::io::Error::other("it leads out of the repository"))
            }
            _ => Cause::of(source),
        },
    };
    let open = || {
        let root = fs_err::File::open(&wish.directory)?;
        let found = rustix::fs::openat2(
            root.file(),
            path,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
        )?;
        fs_err::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))
    };
    open().map_err(refused)
}

struct Packing<'a> {
    wish: &'a Wish,
    files: Files,
    bytes: u64,
}

impl Packing<'_> {
    fn directory(&mut self, into: NodeId, path: &Path) -> Result<(), FetchError> {
        for entry in fs_err::read_dir(path).map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name();
            if name == OsStr::new(".git") && !self.keeps_git() {
                continue;
            }
            let path = path.join(&name);
            let status = fs_err::symlink_metadata(&path).map_err(unreadable)?;
            let Some((mode, kind)) = self.kind(&path, &status)? else {
                continue;
            };
            let node = Node {
                metadata: self.metadata(mode),
                kind,
            };
            let tree: &mut Tree = &mut self.files.tree;
            let id = tree
                .insert(into, name.as_bytes(), node)
                .map_err(|error| unreadable(std::io::Error::other(error)))?;
            if status.is_dir() {
                self.directory(id, &path)?;
            }
        }
        Ok(())
    }

    /// `.git` means something only beside the whole of a checkout.
    fn keeps_git(&self) -> bool {
        self.wish.keep_git_dir && self.wish.subdirectory.trim_matches('/').is_empty()
    }

    /// Git knows files, links and directories.
    fn kind(
        &mut self,
        path: &Path,
        status: &std::fs::Metadata,
    ) -> Result<Option<(u16, Kind)>, FetchError> {
        Ok(if status.is_dir() {
            Some((0o755, Kind::Directory(std::collections::BTreeMap::new())))
        } else if status.is_symlink() {
            let target = fs_err::read_link(path).map_err(unreadable)?;
            Some((
                0o777,
                Kind::Symlink(target.into_os_string().into_vec().into()),
            ))
        } else if status.is_file() {
            self.bytes = self.bytes.saturating_add(status.len());
            if self.bytes > self.wish.limit.0 {
                return Err(FetchError::TooLarge {
                    address: self.wish.address.clone(),
                    limit: self.wish.limit,
                });
            }
            let source = self.files.sources.add_path(path.to_owned());
            let mode = if status.mode() & 0o100 == 0 {
                0o644
            } else {
                0o755
            };
            Some((mode, Kind::File(Content::whole(source, 0, status.len()))))
        } else {
            None
        })
    }

    fn metadata(&self, mode: u16) -> Metadata {
        let mut metadata = Metadata::root_owned(mode);
        metadata.mtime = Timestamp {
            seconds: i64::try_from(self.wish.time).unwrap_or_default(),
            nanoseconds: 0,
        };
        metadata
    }
}

fn unreadable(source: std::io::Error) -> FetchError {
    FetchError::Store(firebuild_store::Error::Io {
        doing: "read a repository's files".to_owned(),
        source,
    })
}
