//! A directory of the host's as a read-only disk.
//!
//! The directory may be in others' hands while it is read: nothing is ever followed that could lead out
//! of it, and what changes meanwhile is an error, or is as it was or as it is.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use firebuild_core::tree::{
    Content, Device, Kind, Metadata, Node, NodeId, Segment, Tree, TreeError, Xattrs,
};
use firebuild_disk::{ContentSource, ext4};
use firebuild_protocol::files::attributes;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, SeekFrom, Stat, fgetxattr, flistxattr,
    fstat, major, minor, openat, openat2, readlinkat, seek, statat,
};
use rustix::io::Errno;

use crate::Error;

/// How deep directories may lie in each other: each is open while those in it are read.
const DEEPEST: usize = 200;

/// How many names there may be.
const MOST: usize = 4_000_000;

/// Writes a file system to the empty file `disk`, in which the directory `name` is as `directory` is.
///
/// # Errors
/// [`Error::NoDirectory`]; [`Error::Io`] if something cannot be read; [`Error::VolumeDisk`].
pub(crate) fn write(directory: &Path, name: &str, disk: &File) -> Result<(), Error> {
    let doing = || format!("read `{}`", directory.display());
    let root = open_directory(directory)?;
    let mut scan = Scan::new(name, root.as_fd()).map_err(|source| Error::io(doing(), source))?;
    scan.directory(&root, scan.at, &mut Vec::new())
        .map_err(|source| Error::io(doing(), source))?;
    let content = Files {
        root,
        paths: scan.files,
        last: RefCell::new(None),
    };
    let options = ext4::Options {
        identity: directory.as_os_str().as_encoded_bytes().to_vec(),
        label: "snapshot".to_owned(),
        ..ext4::Options::default()
    };
    let written = ext4::write(&scan.tree, &content, disk, &options);
    written.map(drop).map_err(|source| Error::VolumeDisk {
        what: format!("the snapshot of `{}`", directory.display()),
        source,
    })
}

/// Opens a directory of the host's, whose path was made canonical before: a link anywhere in it came
/// later.
///
/// # Errors
/// [`Error::NoDirectory`] says what is there instead.
pub(crate) fn open_directory(directory: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = openat2(
        CWD,
        directory,
        flags,
        Mode::empty(),
        ResolveFlags::NO_SYMLINKS,
    );
    opened.map_err(|error| Error::NoDirectory {
        path: directory.to_owned(),
        source: error.into(),
    })
}

struct Scan {
    tree: Tree,
    /// The directory that stands for the one that is read.
    at: NodeId,
    /// Files by the numbers that they have as sources: their paths in the directory, and who they are.
    files: Vec<(Vec<u8>, (u64, u64))>,
    /// Those with several names, by device and inode.
    links: HashMap<(u64, u64), NodeId>,
    count: usize,
}

impl Scan {
    fn new(name: &str, root: BorrowedFd<'_>) -> io::Result<Self> {
        let mut tree = Tree::new(Metadata::root_owned(0o755));
        let metadata = attributes::metadata(&fstat(root)?, xattrs(root)?);
        let at = tree
            .insert(tree.root(), name.as_bytes(), Node::directory(metadata))
            .map_err(refused)?;
        Ok(Self {
            tree,
            at,
            files: Vec::new(),
            links: HashMap::new(),
            count: 0,
        })
    }

    /// Takes in what a directory holds. `path` leads to it.
    fn directory(&mut self, from: &OwnedFd, to: NodeId, path: &mut Vec<u8>) -> io::Result<()> {
        if path.iter().filter(|byte| **byte == b'/').count() >= DEEPEST {
            return Err(io::Error::other(format!(
                "directories lie in each other more than {DEEPEST} deep"
            )));
        }
        let mut names = Vec::new();
        for entry in Dir::read_from(from)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        names.sort();
        let length = path.len();
        for name in names {
            self.count += 1;
            if self.count > MOST {
                return Err(io::Error::other(format!("it holds more than {MOST} files")));
            }
            path.extend(&name);
            self.entry(from, to, &name, path)
                .map_err(|error| named(&error, path))?;
            path.truncate(length);
        }
        Ok(())
    }

    fn entry(
        &mut self,
        from: &OwnedFd,
        to: NodeId,
        name: &[u8],
        path: &mut Vec<u8>,
    ) -> io::Result<()> {
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let who = (stat.st_dev, stat.st_ino);
        if let Some(known) = self.links.get(&who) {
            return self.tree.link(to, name, *known).map_err(refused);
        }
        let open = |more| {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            openat(from, name, flags | more, Mode::empty())
        };
        let device = Device {
            major: major(stat.st_rdev),
            minor: minor(stat.st_rdev),
        };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let inner = open(OFlags::DIRECTORY)?;
                let metadata = attributes::metadata(&fstat(&inner)?, xattrs(inner.as_fd())?);
                let node = Node::directory(metadata);
                let at = self.tree.insert(to, name, node).map_err(refused)?;
                path.push(b'/');
                return self.directory(&inner, at, path);
            }
            FileType::RegularFile => {
                let file = open(OFlags::empty())?;
                return self.file(&file, (to, name), path);
            }
            FileType::Symlink => {
                Kind::Symlink(readlinkat(from, name, Vec::new())?.as_bytes().into())
            }
            FileType::CharacterDevice => Kind::CharacterDevice(device),
            FileType::BlockDevice => Kind::BlockDevice(device),
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            FileType::Unknown => return Err(io::Error::other("its kind is not known")),
        };
        let metadata = attributes::metadata(&stat, Xattrs::new());
        self.add((to, name), Node { metadata, kind }, &stat)
    }

    fn file(&mut self, file: &OwnedFd, at: (NodeId, &[u8]), path: &[u8]) -> io::Result<()> {
        let stat = fstat(file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("it was exchanged while it was read"));
        }
        let source = u32::try_from(self.files.len()).map_err(io::Error::other)?;
        let length = u64::try_from(stat.st_size).unwrap_or(0);
        let content = Content {
            source,
            length,
            segments: segments(file, length)?,
        };
        self.files.push((path.to_vec(), (stat.st_dev, stat.st_ino)));
        let node = Node {
            metadata: attributes::metadata(&stat, xattrs(file.as_fd())?),
            kind: Kind::File(content),
        };
        self.add(at, node, &stat)
    }

    fn add(&mut self, (to, name): (NodeId, &[u8]), node: Node, stat: &Stat) -> io::Result<()> {
        let id = self.tree.insert(to, name, node).map_err(refused)?;
        if stat.st_nlink > 1 {
            self.links.insert((stat.st_dev, stat.st_ino), id);
        }
        Ok(())
    }
}

fn refused(error: TreeError) -> io::Error {
    io::Error::other(error)
}

/// Says which file it was, unless that was said.
fn named(error: &io::Error, path: &[u8]) -> io::Error {
    let text = error.to_string();
    if text.starts_with('`') {
        return io::Error::other(text);
    }
    let path = firebuild_core::tree::shown(path);
    io::Error::other(format!("`{path}`: {text}"))
}

fn xattrs(file: BorrowedFd<'_>) -> io::Result<Xattrs> {
    // The kernel lets neither a list nor a value be longer.
    let mut buffer = vec![0; 64 << 10];
    let length = match flistxattr(file, &mut buffer) {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(Xattrs::new()),
        other => other?,
    };
    let names = buffer[..length].to_vec();
    let mut attributes = Xattrs::new();
    for name in names.split(|byte| *byte == 0) {
        // What belongs to the host's overlays and labels is not the file's.
        if name.starts_with(b"user.") || name.starts_with(b"security.capability") || is_acl(name) {
            let length = fgetxattr(file, name, &mut buffer)?;
            attributes.insert(name.into(), buffer[..length].into());
        }
    }
    Ok(attributes)
}

fn is_acl(name: &[u8]) -> bool {
    name.starts_with(b"system.posix_acl_")
}

/// Where a file has content; the rest is holes.
fn segments(file: &OwnedFd, length: u64) -> io::Result<Box<[Segment]>> {
    let mut segments = Vec::new();
    let mut at = 0;
    while at < length {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start.min(length),
            // Nothing but a hole.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = seek(file, SeekFrom::Hole(start))?.min(length);
        if end > start {
            segments.push(Segment {
                start,
                offset: start,
                length: end - start,
            });
        }
        at = end.max(at + 1);
    }
    Ok(segments.into())
}

/// The files' bytes, which are read when they are needed: no more than one file is open.
struct Files {
    root: OwnedFd,
    paths: Vec<(Vec<u8>, (u64, u64))>,
    last: RefCell<Option<(u32, File)>>,
}

impl ContentSource for Files {
    fn read_exact_at(&self, source: u32, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut last = self.last.borrow_mut();
        let file = match &mut *last {
            Some((known, file)) if *known == source => file,
            other => &mut other.insert((source, self.open(source)?)).1,
        };
        file.read_exact_at(buffer, offset)
    }
}

impl Files {
    fn open(&self, source: u32) -> io::Result<File> {
        let file = usize::try_from(source).ok().and_then(|n| self.paths.get(n));
        let (path, who) = file.ok_or(io::ErrorKind::NotFound)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let file = openat2(&self.root, path.as_slice(), flags, Mode::empty(), resolve)
            .map_err(|error| named(&error.into(), path))?;
        let stat = fstat(&file)?;
        if (stat.st_dev, stat.st_ino) != *who {
            let changed = io::Error::other("it was exchanged while it was read");
            return Err(named(&changed, path));
        }
        Ok(file.into())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::process::Command;

    use super::*;

    fn debugfs(disk: &Path, request: &str) -> String {
        let output = Command::new("debugfs")
            .args(["-R", request])
            .arg(disk)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    #[test]
    fn a_directory_becomes_a_disk() {
        let scratch = tempfile::tempdir().unwrap();
        let from = scratch.path().canonicalize().unwrap().join("from");
        fs_err::create_dir_all(from.join("sub/deep")).unwrap();
        fs_err::write(from.join("sub/file"), "content").unwrap();
        fs_err::set_permissions(
            from.join("sub/file"),
            std::fs::Permissions::from_mode(0o4711),
        )
        .unwrap();
        fs_err::hard_link(from.join("sub/file"), from.join("again")).unwrap();
        symlink("/etc/shadow", from.join("link")).unwrap();
        std::os::unix::fs::chown(from.join("sub/deep"), Some(1000), Some(1001)).unwrap();
        let sparse = fs_err::File::create(from.join("sparse")).unwrap();
        sparse.file().write_all_at(b"end", 100 << 20).unwrap();
        let disk = scratch.path().join("disk.img");
        let file = fs_err::File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&disk)
            .unwrap();
        write(&from, "data", file.file()).unwrap();
        let check = Command::new("e2fsck").args(["-fn"]).arg(&disk).output();
        assert!(check.unwrap().status.success());
        assert_eq!(debugfs(&disk, "cat /data/sub/file"), "content");
        assert_eq!(debugfs(&disk, "cat /data/again"), "content");
        let stat = debugfs(&disk, "stat /data/sub/deep");
        assert!(stat.contains("User:  1000   Group:  1001"), "{stat}");
        let stat = debugfs(&disk, "stat /data/sub/file");
        assert!(
            stat.contains("Mode:  04711") && stat.contains("Links: 2"),
            "{stat}"
        );
        let stat = debugfs(&disk, "stat /data/link");
        assert!(stat.contains("/etc/shadow"), "{stat}");
        assert!(debugfs(&disk, "stat /data/sparse").contains("Size: 104857603"));
        use std::os::unix::fs::MetadataExt as _;
        assert!(fs_err::metadata(&disk).unwrap().blocks() * 512 < 4 << 20);
    }

    #[test]
    fn a_link_is_no_directory_and_neither_is_what_vanished() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().canonicalize().unwrap();
        fs_err::create_dir(root.join("real")).unwrap();
        symlink("real", root.join("link")).unwrap();
        fs_err::write(root.join("file"), "").unwrap();
        assert!(open_directory(&root.join("real")).is_ok());
        for name in ["link", "file", "none"] {
            let error = open_directory(&root.join(name)).unwrap_err();
            assert!(matches!(error, Error::NoDirectory { .. }), "{name}");
        }
    }
}
