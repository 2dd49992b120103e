//! The build context: a directory as a file tree, without what `.dockerignore` names.
//!
//! Everything belongs to root, as BuildKit has it. Files are not read here: the tree refers to them
//! by their number in [`Files::sources`].

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use firebuild_core::tree::{Content, Device, Kind, Metadata, Node, NodeId, Timestamp};
use firebuild_plan::ignore::Patterns;

use crate::Error;
use crate::sources::Files;

/// The extended attributes of a context's files that are copied: those that mean the same in an
/// image. Others, such as a host's access lists and labels, are the host's own business.
const KEPT_ATTRIBUTES: [&[u8]; 2] = [b"user.", b"security.capability"];

/// Scans a directory. What `ignore` excludes is not there, and not walked where nothing below can
/// be included again.
pub(crate) fn scan(directory: &Path, ignore: &Patterns) -> Result<Files, Error> {
    let mut scan = Scan {
        directory,
        ignore,
        files: Files::default(),
        links: HashMap::new(),
    };
    let root = scan.files.tree.root();
    scan.directory(root, Path::new(""))
        .map_err(Error::Context)?;
    Ok(scan.files)
}

struct Scan<'a> {
    directory: &'a Path,
    ignore: &'a Patterns,
    files: Files,
    /// Files with several names, by device and inode.
    links: HashMap<(u64, u64), NodeId>,
}

impl Scan<'_> {
    fn directory(&mut self, into: NodeId, path: &Path) -> std::io::Result<()> {
        let entries = fs_err::read_dir(self.directory.join(path))?;
        let mut names = entries
            .map(|entry| Ok(entry?.file_name()))
            .collect::<std::io::Result<Vec<_>>>()?;
        names.sort_unstable();
        for name in names {
            self.entry(into, &path.join(&name), &name)?;
        }
        Ok(())
    }

    fn entry(&mut self, into: NodeId, path: &Path, name: &OsStr) -> std::io::Result<()> {
        let file = self.directory.join(path);
        let status = fs_err::symlink_metadata(&file)?;
        let excluded = self.ignore.excluded(path.as_os_str().as_bytes());
        if excluded
            && !(status.is_dir()
                && self
                    .ignore
                    .could_reinclude_below(path.as_os_str().as_bytes()))
        {
            return Ok(());
        }
        let several = !status.is_dir() && status.nlink() > 1;
        let identity = (status.dev(), status.ino());
        if let Some(first) = self.links.get(&identity).filter(|_| several) {
            return self
                .files
                .tree
                .link(into, name.as_bytes(), *first)
                .map_err(std::io::Error::other);
        }
        let Some(kind) = self.kind(&file, &status)? else {
            return Ok(());
        };
        let node = Node {
            metadata: metadata(&file, &status)?,
            kind,
        };
        let id = self
            .files
            .tree
            .insert(into, name.as_bytes(), node)
            .map_err(std::io::Error::other)?;
        if several {
            self.links.insert(identity, id);
        }
        if !status.is_dir() {
            return Ok(());
        }
        self.directory(id, path)?;
        // An excluded directory is only there for what is included below it.
        if excluded && self.files.tree.entries(id).next().is_none() {
            self.files.tree.remove(into, name.as_bytes());
        }
        Ok(())
    }

    fn kind(&mut self, file: &Path, status: &std::fs::Metadata) -> std::io::Result<Option<Kind>> {
        let device = Device {
            major: rustix::fs::major(status.rdev()),
            minor: rustix::fs::minor(status.rdev()),
        };
        let kind = status.file_type();
        Ok(Some(if kind.is_dir() {
            Kind::Directory(BTreeMap::new())
        } else if kind.is_symlink() {
            Kind::Symlink(fs_err::read_link(file)?.into_os_string().into_vec().into())
        } else if kind.is_file() {
            let source = self.files.sources.add_path(file.to_owned());
            Kind::File(Content::whole(source, 0, status.len()))
        } else if kind.is_fifo() {
            Kind::Fifo
        } else if kind.is_char_device() {
            Kind::CharacterDevice(device)
        } else if kind.is_block_device() {
            Kind::BlockDevice(device)
        } else {
            // A socket is nothing without the process that listens on it.
            return Ok(None);
        }))
    }
}

fn metadata(file: &Path, status: &std::fs::Metadata) -> std::io::Result<Metadata> {
    let mut metadata = Metadata::root_owned((status.mode() & 0o7777) as u16);
    let nanoseconds = u32::try_from(status.mtime_nsec()).unwrap_or_default();
    metadata.mtime = Timestamp {
        seconds: status.mtime(),
        nanoseconds,
    };
    if !(status.is_file() || status.is_dir()) {
        return Ok(metadata);
    }
    for name in xattr::list(file).into_iter().flatten() {
        let kept = KEPT_ATTRIBUTES
            .iter()
            .any(|prefix| name.as_bytes().starts_with(prefix));
        if let Some(value) = kept.then(|| xattr::get(file, &name)).transpose()?.flatten() {
            metadata.xattrs.insert(name.as_bytes().into(), value.into());
        }
    }
    Ok(metadata)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{copy, fingerprint};

    #[test]
    fn a_file_that_changes_between_scan_and_copy_is_named() {
        type Change = fn(&Path);
        let changes: [(Change, &str); 4] = [
            (
                |file| fs_err::write(file, "longer").unwrap(),
                "changed while it was read",
            ),
            (|file| fs_err::remove_file(file).unwrap(), "No such file"),
            (
                |file| {
                    fs_err::remove_file(file).unwrap();
                    fs_err::create_dir(file).unwrap();
                },
                "is not a regular file",
            ),
            (
                |file| {
                    fs_err::remove_file(file).unwrap();
                    std::os::unix::fs::symlink("/etc/passwd", file).unwrap();
                },
                "symbolic links",
            ),
        ];
        for (change, expected) in changes {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("file");
            fs_err::write(&file, "text").unwrap();
            let files = scan(directory.path(), &Patterns::default()).unwrap();
            let found = copy::matches(&files.tree, b"file", &copy::Exclude::default()).unwrap();
            assert!(fingerprint::of(&found, &files.sources).is_ok());
            change(&file);
            let error = fingerprint::of(&found, &files.sources)
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{error}");
            assert!(error.contains(&*file.to_string_lossy()), "{error}");
        }
    }
}
