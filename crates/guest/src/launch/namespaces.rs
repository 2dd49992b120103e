//! The namespaces of a process: kept beyond its end, and entered by another one.
//!
//! As long as a mount namespace is kept, so is everything that is mounted in it: the root with what
//! was changed in it, and file systems in memory with their content.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, Stat, fstat, open, stat};
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

    /// Only those that the calling process is not in itself: who it starts is in the others already.
    pub(crate) fn beyond_own(mut self) -> Self {
        let identity = |found: Stat| (found.st_dev, found.st_ino);
        let own = NAMES.map(|name| stat(Path::new("/proc/self/ns").join(name)).map(identity));
        self.0.retain(|namespace| {
            let other = fstat(namespace).map(identity);
            other.is_err() || !own.contains(&other)
        });
        self
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_in_a_namespace_need_not_join_it() {
        assert!(Namespaces::own().unwrap().beyond_own().0.is_empty());
        let mut child = std::process::Command::new("unshare")
            .args(["--uts", "--ipc", "sh", "-c", "echo; read line"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // It has executed the shell once that says something.
        let mut said = [0; 1];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
        let of_child =
            NAMES.map(|name| opened(Path::new(&format!("/proc/{}/ns/{name}", child.id()))));
        let all = Namespaces(of_child.into_iter().map(Result::unwrap).collect());
        assert_eq!(all.beyond_own().0.len(), 2);
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
