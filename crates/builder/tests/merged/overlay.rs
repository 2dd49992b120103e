//! What the kernel makes of layers: an overlay of directories, one a layer, each as a container
//! runtime's snapshotter fills it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::{Path, PathBuf};
use std::process::Command;

use firebuild_core::tree::{Metadata, Timestamp};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps};

use crate::model::{Entry, Item, Layer, above};
use crate::seen::{Listing, listing, xattrs};

/// A mount that ends when this is dropped.
pub(crate) struct Mounted(pub(crate) PathBuf);

impl Mounted {
    pub(crate) fn new(kind: &str, source: &Path, options: &str, at: &Path) -> Self {
        fs_err::create_dir(at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", kind, "-o", options]).arg(source).arg(at);
        assert!(mount.status().unwrap().success(), "{options}");
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a child that another test has just forked may still have a file of it open.
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.0).status();
        assert!(unmounted.unwrap().success());
    }
}

/// The merged tree of layers, as the kernel shows it.
pub(crate) fn merged(layers: &[Layer], scratch: &Path) -> Listing {
    let place = scratch.join("overlay");
    fs_err::create_dir(&place).unwrap();
    let mut uppers: Vec<String> = Vec::new();
    let mut lower = place.join("nothing");
    fs_err::create_dir(&lower).unwrap();
    // An overlay has at least two layers.
    uppers.push(lower.to_str().unwrap().to_owned());
    let root = Metadata::root_owned(0o755);
    set(&lower, &root, false);
    let mut mounts = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let upper = place.join(format!("layer-{number}"));
        Upper {
            layer,
            lower: &lower,
            upper: &upper,
            directories: BTreeMap::new(),
        }
        .fill();
        uppers.insert(0, upper.to_str().unwrap().to_owned());
        let at = place.join(format!("merged-{number}"));
        let options = format!("lowerdir={}", uppers.join(":"));
        mounts.push(Mounted::new("overlay", Path::new("overlay"), &options, &at));
        lower = at;
    }
    listing(&lower)
}

struct Upper<'a> {
    layer: &'a Layer,
    /// The layers below, merged.
    lower: &'a Path,
    upper: &'a Path,
    /// What directories are to have once they are full.
    directories: BTreeMap<Vec<u8>, Metadata>,
}

impl Upper<'_> {
    fn fill(&mut self) {
        self.directory(b"");
        let links = |entry: &&Entry| matches!(entry.item, Item::HardLink(_));
        let plain = |entry: &&Entry| !links(entry) && !entry.is_marker();
        let layer = self.layer;
        for entry in layer.entries.iter().filter(plain) {
            self.put(entry);
        }
        for entry in layer.entries.iter().filter(links) {
            self.link(entry);
        }
        for entry in layer.entries.iter().filter(|entry| entry.is_marker()) {
            self.mark(entry);
        }
        for (path, metadata) in self.directories.iter().rev() {
            set(&join(self.upper, path), metadata, false);
        }
    }

    /// A directory, with those above it, that has what the lower one has unless the layer says more.
    fn directory(&mut self, path: &[u8]) {
        for path in above(path).into_iter().chain([path]) {
            if self.directories.contains_key(path) {
                continue;
            }
            let lower = join(self.lower, path);
            let is_there = !self.layer.hides(path) && is_directory(self.lower, path);
            let metadata = if is_there {
                metadata_of(&lower)
            } else {
                Metadata::root_owned(0o755)
            };
            fs_err::create_dir(join(self.upper, path)).unwrap();
            self.directories.insert(path.to_vec(), metadata);
        }
    }

    fn parents(&mut self, path: &[u8]) {
        if let Some(parent) = above(path).pop() {
            self.directory(parent);
        }
    }

    fn put(&mut self, entry: &Entry) {
        let path = join(self.upper, &entry.path);
        if let Item::Directory = entry.item {
            self.directory(&entry.path);
            self.directories
                .insert(entry.path.clone(), entry.metadata.clone());
            return;
        }
        self.parents(&entry.path);
        let node = |kind, device| {
            rustix::fs::mknodat(CWD, &path, kind, Mode::from_raw_mode(0o600), device).unwrap();
        };
        let number = rustix::fs::makedev;
        match &entry.item {
            Item::File(file) => fs_err::write(&path, file.bytes()).unwrap(),
            Item::Symlink(to) => {
                fs_err::os::unix::fs::symlink(OsStr::from_bytes(to), &path).unwrap()
            }
            Item::Character(d) => node(FileType::CharacterDevice, number(d.major, d.minor)),
            Item::Block(d) => node(FileType::BlockDevice, number(d.major, d.minor)),
            _ => node(FileType::Fifo, 0),
        }
        set(
            &path,
            &entry.metadata,
            matches!(entry.item, Item::Symlink(_)),
        );
    }

    fn link(&mut self, entry: &Entry) {
        let Item::HardLink(target) = &entry.item else {
            return;
        };
        self.parents(&entry.path);
        if self.layer.entry(target).is_none() && !exists(&join(self.upper, target)) {
            self.copy_up(target);
        }
        let (target, path) = (join(self.upper, target), join(self.upper, &entry.path));
        fs_err::hard_link(target, path).unwrap();
    }

    /// Brings a lower file up, with all its names, so that it can get one more.
    fn copy_up(&mut self, target: &[u8]) {
        let seen = listing(self.lower);
        let same = &seen[target].same_as;
        let names = seen.iter().filter(|(_, other)| other.same_as == *same);
        let left = names.map(|(path, _)| path).filter(|path| {
            let is_gone = self.layer.hides(path) || self.layer.entry(path).is_some();
            !is_gone
                && !above(path)
                    .into_iter()
                    .any(|path| self.layer.replaces(path))
        });
        let names: Vec<Vec<u8>> = left.cloned().collect();
        let first = join(self.upper, &names[0]);
        for (number, name) in names.iter().enumerate() {
            self.parents(name);
            if number > 0 {
                fs_err::hard_link(&first, join(self.upper, name)).unwrap();
                continue;
            }
            let mut copy = Command::new("cp");
            copy.arg("--archive").arg("--no-target-directory");
            let copied = copy.arg(join(self.lower, name)).arg(&first).status();
            assert!(copied.unwrap().success());
        }
    }

    fn mark(&mut self, entry: &Entry) {
        let path = &entry.path;
        let is_gone = |path: &[u8]| {
            let is_opaque = self.layer.has(path, Item::is_opaque);
            is_opaque || self.layer.hides(path) || self.layer.replaces(path)
        };
        let lower = join(self.lower, path);
        if above(path).into_iter().any(is_gone) || !exists(&lower) {
            return;
        }
        let upper = join(self.upper, path);
        match entry.item {
            Item::Whiteout if exists(&upper) => {}
            Item::Whiteout => {
                self.parents(path);
                let (kind, mode) = (FileType::CharacterDevice, Mode::empty());
                rustix::fs::mknodat(CWD, &upper, kind, mode, 0).unwrap();
                return;
            }
            _ if exists(&upper) => {}
            _ if lower.is_dir() && !lower.is_symlink() => self.directory(path),
            _ => return,
        }
        if upper.is_dir() && !upper.is_symlink() {
            xattr::set(&upper, "trusted.overlay.opaque", b"y").unwrap();
        }
    }
}

fn join(directory: &Path, path: &[u8]) -> PathBuf {
    directory.join(OsStr::from_bytes(path))
}

/// Whether a path is a directory without leading through a link.
fn is_directory(root: &Path, path: &[u8]) -> bool {
    let mut all = above(path).into_iter().chain([path]);
    all.all(|path| {
        let metadata = join(root, path).symlink_metadata();
        metadata.is_ok_and(|metadata| metadata.is_dir())
    })
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn metadata_of(path: &Path) -> Metadata {
    let metadata = fs_err::symlink_metadata(path).unwrap();
    let xattrs = xattrs(path).into_iter();
    Metadata {
        mode: u16::try_from(metadata.mode() & 0o7777).unwrap(),
        uid: metadata.uid(),
        gid: metadata.gid(),
        mtime: Timestamp {
            seconds: metadata.mtime(),
            nanoseconds: u32::try_from(metadata.mtime_nsec()).unwrap(),
        },
        xattrs: xattrs
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
    }
}

fn set(path: &Path, metadata: &Metadata, is_symlink: bool) {
    lchown(path, Some(metadata.uid), Some(metadata.gid)).unwrap();
    for (name, value) in &metadata.xattrs {
        xattr::set(path, OsStr::from_bytes(name), value).unwrap();
    }
    if !is_symlink {
        let mode = Mode::from_raw_mode(u32::from(metadata.mode));
        rustix::fs::chmod(path, mode).unwrap();
    }
    let time = Timespec {
        tv_sec: metadata.mtime.seconds,
        tv_nsec: metadata.mtime.nanoseconds.into(),
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}
