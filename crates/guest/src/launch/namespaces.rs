//! The namespaces of a process: kept beyond its end, and entered by another one.
//!
//! As long as a mount namespace is kept, so is everything that is mounted in it: the root with what
//! was changed in it, and file systems in memory with their content.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};
use rustix::thread::move_into_link_name_space;

use super::handover::{self, Kind};
use crate::error::{Doing as _, Result};

/// Those that a process can enter itself, by their names in `/proc/PID/ns`. Its process ids are of
/// its parent's choice. What a path leads to depends on the mounts, so these come last.
const NAMES: [&str; MOST] = ["cgroup", "ipc", "uts", "net", "mnt"];

/// How many there are at most: a kernel can lack some.
pub(super) const MOST: usize = 5;

/// Namespaces that are there as long as this is.
#[derive(Debug)]
pub(crate) struct Namespaces(Vec<OwnedFd>);

impl Namespaces {
    /// Those of the calling process.
    pub(super) fn own() -> Result<Self> {
        let paths = NAMES.map(|name| Path::new("/proc/self/ns").join(name));
        let present = paths.iter().filter(|path| path.exists());
        present
            .map(|path| opened(path))
            .collect::<Result<_>>()
            .map(Self)
    }

    /// Those that were handed over.
    pub(super) fn of(descriptors: Vec<OwnedFd>) -> Self {
        Self(descriptors)
    }

    /// Hands them over to the agent.
    pub(super) fn give(&self, socket: &UnixStream) -> Result<()> {
        let descriptors: Vec<BorrowedFd<'_>> = self.0.iter().map(OwnedFd::as_fd).collect();
        handover::give(socket, Kind::Namespaces, &descriptors)
            .doing(|| "hand namespaces over".to_owned())
    }

    /// Where other processes can open them that see this one.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        let own = PathBuf::from(format!("/proc/{}/fd", std::process::id()));
        let paths = self.0.iter().map(|descriptor| descriptor.as_raw_fd());
        paths.map(|number| own.join(number.to_string())).collect()
    }
}

fn opened(path: &Path) -> Result<OwnedFd> {
    open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .doing(|| format!("open the namespace `{}`", path.display()))
}

/// Enters the namespaces that can be opened at `paths`.
pub(super) fn enter(paths: &[PathBuf]) -> Result<()> {
    let descriptors: Result<Vec<OwnedFd>> = paths.iter().map(|path| opened(path)).collect();
    for descriptor in descriptors? {
        move_into_link_name_space(descriptor.as_fd(), None)
            .doing(|| "enter a namespace".to_owned())?;
    }
    Ok(())
}
