//! Network namespaces that have a name, as `ip netns` has them, and what is done inside them.
//!
//! A thread can change its namespace, a process cannot; so everything inside is done by a thread
//! that lives just for it, and the caller's threads stay where they are.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};

use crate::{Error, sys};

/// A network namespace, by the path that it is mounted on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Namespace {
    path: PathBuf,
}

impl Namespace {
    /// The namespace that is, or is to be, mounted on `path`.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` on a thread of its own inside the namespace. Processes that `work` starts are
    /// inside as well.
    ///
    /// A child that asked for a signal at its parent's death (`PR_SET_PDEATHSIG`) would get it as
    /// soon as `work` returns, because that thread is its parent; start such children with
    /// [`enter_on_start`](Self::enter_on_start).
    ///
    /// # Errors
    /// The namespace is not there, or this process may not enter it.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        let namespace = self.open()?;
        on_own_thread(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(work())
        })?
    }

    /// Listens on an address inside the namespace. The listener can be served from any thread.
    ///
    /// # Errors
    /// As [`run`](Self::run), and the address cannot be had.
    pub fn listen(&self, address: SocketAddr) -> io::Result<TcpListener> {
        self.run(|| TcpListener::bind(address))?
    }

    /// Makes the process that `command` will start enter the namespace before it runs its program.
    /// With `tap`, the child also keeps that device open, as the descriptor of the number that is
    /// returned; no other child inherits it.
    ///
    /// Entering needs root: a `command` with [`uid`](std::os::unix::process::CommandExt::uid) set
    /// has dropped it by then and fails. Let the program change its user itself.
    ///
    /// # Errors
    /// The namespace is not there, or no descriptor is left.
    pub fn enter_on_start(
        &self,
        command: &mut Command,
        tap: Option<BorrowedFd<'_>>,
    ) -> io::Result<Option<RawFd>> {
        let kept = tap.map(|tap| tap.try_clone_to_owned()).transpose()?;
        let number = kept.as_ref().map(AsRawFd::as_raw_fd);
        sys::enter_before_exec(command, self.open()?, kept);
        Ok(number)
    }

    /// The processes that are inside, by what `/proc` says at this moment. Empty if the namespace
    /// is not there.
    ///
    /// A process that ends or enters meanwhile may be missed; ask again until none is left.
    ///
    /// # Errors
    /// `/proc` or the namespace cannot be read.
    pub fn processes(&self) -> io::Result<Vec<u32>> {
        let Some(identity) = self.identity()? else {
            return Ok(Vec::new());
        };
        let mut inside = Vec::new();
        for entry in fs_err::read_dir("/proc")? {
            let entry = entry?;
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            // One that has ended since is not inside.
            let namespace = rustix::fs::stat(entry.path().join("ns/net"));
            if namespace.is_ok_and(|stat| (stat.st_dev, stat.st_ino) == identity) {
                inside.push(pid);
            }
        }
        Ok(inside)
    }

    /// Makes the namespace, and runs `work` inside it.
    pub(crate) fn create<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        let doing = || {
            let shown = self.path.display();
            Error::system(format!("make the network namespace `{shown}`"))
        };
        fs_err::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&self.path)
            .map_err(doing())?;
        on_own_thread(|| {
            sys::unshare_network()?;
            rustix::mount::mount_bind("/proc/thread-self/ns/net", &self.path)?;
            Ok(work())
        })
        .and_then(|made: io::Result<T>| made)
        .map_err(doing())
    }

    /// Takes the name away. The namespace itself goes with the last process inside it. Returns
    /// whether there was anything.
    pub(crate) fn remove(&self) -> Result<bool, Error> {
        let doing = || format!("remove the network namespace `{}`", self.path.display());
        // It is mounted twice if the directory was mounted on itself later; 16 is more than any
        // such history is long.
        for _ in 0..16 {
            match rustix::mount::unmount(&self.path, UnmountFlags::DETACH) {
                Ok(()) => {}
                Err(Errno::INVAL | Errno::NOENT) => break,
                Err(errno) => return Err(Error::system(doing())(errno.into())),
            }
        }
        match fs_err::remove_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            other => other.map(|()| true).map_err(Error::system(doing())),
        }
    }

    pub(crate) fn open(&self) -> io::Result<OwnedFd> {
        Ok(fs_err::File::open(&self.path)?.into_parts().0.into())
    }

    fn identity(&self) -> io::Result<Option<(u64, u64)>> {
        match fs_err::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(|metadata| Some((metadata.dev(), metadata.ino()))),
        }
    }
}

/// Makes `directory` fit to hold names of namespaces, as `ip netns add` does: a mount of its own,
/// shared, so that a name removed here is removed in every mount namespace.
pub(crate) fn prepare_directory(directory: &Path) -> Result<(), Error> {
    let doing = || format!("prepare `{}` for network namespaces", directory.display());
    fs_err::create_dir_all(directory).map_err(Error::system(doing()))?;
    let share = || {
        rustix::mount::mount_change(
            directory,
            MountPropagationFlags::SHARED | MountPropagationFlags::REC,
        )
    };
    match share() {
        // No mount point yet.
        Err(Errno::INVAL) => {
            rustix::mount::mount_bind_recursive(directory, directory)
                .map_err(|errno| Error::system(doing())(errno.into()))?;
            share()
        }
        other => other,
    }
    .map_err(|errno| Error::system(doing())(errno.into()))
}

/// The names of the namespaces that a directory has.
pub(crate) fn names_in(directory: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs_err::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other,
    };
    entries
        .and_then(|entries| {
            entries
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect()
        })
        .map_err(Error::system("list the network namespaces of VMs"))
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("namespace".to_owned())
            .spawn_scoped(scope, work)?;
        thread
            .join()
            .map_err(|_| io::Error::other("the thread inside the namespace panicked"))
    })
}
