//! What is mounted in a process's root beyond the root itself.
//!
//! The sources are files and directories of the agent's, which are out of sight once the root is
//! entered; so they are opened before ([`open`]) and put on their places after ([`Opened::mount`]),
//! one after the other, each where its path leads by then. A place that is missing is made only in
//! an earlier mount, never in the root.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use firebuild_protocol::mount::Memory;
use rustix::fs::{CWD, lstat};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_remount, move_mount,
    open_tree, unmount,
};
use serde::{Deserialize, Serialize};

use super::places::{self, Kind, is_directory, resolve};
use super::{Refusal, Root, root};
use crate::error::{Doing as _, Result};

/// Where overlays are mounted until they are opened.
const OVERLAY: &str = "/o";

/// One mount.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Attachment {
    /// Where, as an absolute path that the process sees.
    pub(crate) target: String,
    /// What.
    pub(crate) source: Source,
    /// Whether nothing can be written.
    pub(crate) read_only: bool,
}

/// What is mounted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Source {
    /// A directory.
    Directory(PathBuf),
    /// A file that is no program and no device.
    Data(PathBuf),
    /// A file or a socket.
    File(PathBuf),
    /// A directory that is an overlay, or the file of that name in it.
    Scratch {
        /// The overlay's directories.
        root: Root,
        /// The file.
        file: Option<String>,
    },
    /// An empty file system in memory.
    Memory(Memory),
}

impl Attachment {
    pub(super) fn kind(&self) -> Kind {
        match &self.source {
            Source::Directory(_) | Source::Scratch { file: None, .. } => Kind::Directory,
            Source::Memory(_) => Kind::Memory,
            Source::Data(_) | Source::File(_) | Source::Scratch { .. } => Kind::File,
        }
    }

    /// Says that there can be no such mount.
    pub(super) fn refused(&self, why: &io::Error) -> Refusal {
        Refusal::Program(format!("cannot mount on `{}`: {why}", self.target), 0)
    }
}

/// A mount whose source is open.
pub(super) struct Opened<'a> {
    attachment: &'a Attachment,
    /// None for memory, which is mounted when its place is known.
    tree: Option<OwnedFd>,
}

/// Opens a mount's source.
pub(super) fn open(attachment: &Attachment) -> Result<Opened<'_>> {
    let tree = match &attachment.source {
        Source::Directory(path) | Source::Data(path) | Source::File(path) => Some(tree(path)?),
        Source::Scratch { root, file } => {
            root::mount_overlay(OVERLAY, root, None)?;
            let path = Path::new(OVERLAY).join(file.as_deref().unwrap_or_default());
            let opened = tree(&path);
            unmount(OVERLAY, UnmountFlags::DETACH).doing(|| format!("unmount `{OVERLAY}`"))?;
            Some(opened?)
        }
        Source::Memory(_) => None,
    };
    Ok(Opened { attachment, tree })
}

/// What is at `path`, as a mount of its own.
pub(super) fn tree(path: &Path) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(CWD, path, flags).doing(|| format!("open `{}`", path.display()))
}

/// Puts an opened tree on its place.
pub(super) fn put(tree: &OwnedFd, at: &Path) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(tree, "", CWD, at, flags).doing(|| format!("mount on `{}`", at.display()))
}

impl Opened<'_> {
    /// Mounts it in the root that was entered.
    pub(super) fn mount(self) -> std::result::Result<(), Refusal> {
        let attachment = self.attachment;
        let at = place(attachment).map_err(|error| attachment.refused(&error))?;
        let flags = match (&attachment.source, &self.tree) {
            (Source::Memory(wanted), _) => {
                return memory(&at, *wanted, attachment.read_only)
                    .map_err(|error| attachment.refused(&error));
            }
            (Source::Data(_), _) => MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
            _ => MountFlags::empty(),
        };
        if let Some(tree) = &self.tree {
            put(tree, &at)?;
        }
        if attachment.read_only {
            let flags = MountFlags::BIND | MountFlags::RDONLY | flags;
            mount_remount(&at, flags, c"")
                .doing(|| format!("make `{}` read-only", at.display()))?;
        }
        Ok(())
    }
}

fn memory(at: &Path, wanted: Memory, read_only: bool) -> io::Result<()> {
    let mut flags = MountFlags::NOSUID;
    if !wanted.executable {
        flags |= MountFlags::NOEXEC | MountFlags::NODEV;
    }
    if read_only {
        flags |= MountFlags::RDONLY;
    }
    let mode = match wanted.mode {
        Some(mode) => u32::from(mode),
        // Like what stood there before.
        None => lstat(at)?.st_mode & 0o7777,
    };
    let mut options = format!("mode={mode:o}");
    if let Some(size) = wanted.size.filter(|size| *size > 0) {
        options += &format!(",size={size}");
    }
    Ok(mount(
        "tmpfs",
        at,
        "tmpfs",
        flags,
        CString::new(options)?.as_c_str(),
    )?)
}

/// Finds the mount's place. It is made if it is missing and lies in an earlier mount.
fn place(attachment: &Attachment) -> io::Result<PathBuf> {
    let root = Path::new("/");
    let at = resolve(root, Path::new(&attachment.target), &[])?.unwrap_or_default();
    if at.as_os_str().is_empty() {
        return Err(io::Error::other("it is the root directory"));
    }
    let at = root.join(at);
    let wanted = attachment.kind();
    let stat = match lstat(&at) {
        Err(Errno::NOENT) => {
            make(&at, wanted)?;
            lstat(&at)?
        }
        other => other?,
    };
    match (wanted, is_directory(&stat)) {
        (Kind::File, false) | (Kind::Directory | Kind::Memory, true) => Ok(at),
        (Kind::File, true) => Err(io::Error::other("there is a directory")),
        (_, false) => Err(io::Error::other("what is there is not a directory")),
    }
}

fn make(at: &Path, kind: Kind) -> io::Result<()> {
    let root = lstat("/")?.st_dev;
    let missing: Vec<&Path> = at
        .ancestors()
        .take_while(|at| lstat(*at).is_err())
        .collect();
    let parent = missing.last().and_then(|at| at.parent());
    let parent = parent.unwrap_or(Path::new("/"));
    if lstat(parent)?.st_dev == root {
        return Err(io::Error::other(
            "a link in an earlier mount leads out of it",
        ));
    }
    for (index, missing) in missing.iter().enumerate().rev() {
        let kind = if index == 0 { kind } else { Kind::Directory };
        places::make(missing, kind).map_err(|error| {
            let parent = parent.display();
            if error.kind() == io::ErrorKind::ReadOnlyFilesystem {
                io::Error::other(format!("`{parent}` lacks the place and is read-only"))
            } else {
                error
            }
        })?;
    }
    Ok(())
}
