//! Walks a directory with several threads: what is in it, without what is ignored.
//!
//! Links are not followed, so nothing is seen twice and no loop is endless. A directory that is
//! ignored is entered only where something below it may be taken in again.

use std::ffi::OsString;
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use firebuild_core::tree::{Device, Metadata, Timestamp};
use firebuild_oci::Identity;
use firebuild_plan::ignore::Patterns;

/// More threads than this wait for each other's locks in the kernel.
const MOST_THREADS: usize = 8;

/// The extended attributes of a context's files that are copied: those that mean the same in an
/// image. Others, such as a host's access lists and labels, are the host's own business.
const KEPT_ATTRIBUTES: [&[u8]; 2] = [b"user.", b"security.capability"];

/// One entry of a directory.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) name: Vec<u8>,
    pub(super) metadata: Metadata,
    pub(super) identity: Identity,
    /// Whether it may have another name too.
    pub(super) several: bool,
    pub(super) kind: Kind,
}

/// What an entry is.
#[derive(Debug)]
pub(super) enum Kind {
    /// A directory: its number in [`Walked`], and whether it is ignored itself.
    Directory {
        number: usize,
        excluded: bool,
    },
    File,
    Symlink(Vec<u8>),
    CharacterDevice(Device),
    BlockDevice(Device),
    Fifo,
    Socket,
}

/// The entries of each directory, in the order of their names. The first is the top.
pub(super) type Walked = Vec<Vec<Found>>;

/// Walks.
pub(super) fn walk(top: &Path, ignore: &Patterns) -> io::Result<Walked> {
    let walk = Walk {
        top,
        ignore,
        state: Mutex::new(State {
            todo: vec![(0, PathBuf::new())],
            directories: vec![Vec::new()],
            working: 0,
            error: None,
        }),
        changed: Condvar::new(),
    };
    let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    std::thread::scope(|scope| {
        for _ in 1..processors.min(MOST_THREADS) {
            scope.spawn(|| walk.work());
        }
        walk.work();
    });
    let state = walk
        .state
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    match state.error {
        Some(error) => Err(error),
        None => Ok(state.directories),
    }
}

struct Walk<'a> {
    top: &'a Path,
    ignore: &'a Patterns,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Directories to read: their numbers and their paths below the top.
    todo: Vec<(usize, PathBuf)>,
    directories: Walked,
    /// How many threads read one.
    working: usize,
    error: Option<io::Error>,
}

impl Walk<'_> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads directories until there are none.
    fn work(&self) {
        while let Some((number, path)) = self.next() {
            let result = self.read(&path);
            let mut state = self.lock();
            state.working -= 1;
            match result {
                Ok(found) => state.add(number, &path, found),
                Err(error) => drop(state.error.get_or_insert(error)),
            }
            self.changed.notify_all();
        }
    }

    fn next(&self) -> Option<(usize, PathBuf)> {
        let mut state = self.lock();
        loop {
            if state.error.is_some() {
                return None;
            }
            if let Some(next) = state.todo.pop() {
                state.working += 1;
                return Some(next);
            }
            if state.working == 0 {
                return None;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn read(&self, path: &Path) -> io::Result<Vec<Found>> {
        let directory = self.top.join(path);
        let mut found = Vec::new();
        for entry in fs_err::read_dir(&directory)? {
            let name = entry?.file_name();
            found.extend(self.entry(&directory, path, name)?);
        }
        found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    fn entry(&self, directory: &Path, above: &Path, name: OsString) -> io::Result<Option<Found>> {
        let file = directory.join(&name);
        let below = above.join(&name);
        let below = below.as_os_str().as_bytes();
        let excluded = self.ignore.excluded(below);
        // What is ignored need not even be readable.
        if excluded && !self.ignore.could_reinclude_below(below) {
            return Ok(None);
        }
        let status = fs_err::symlink_metadata(&file)?;
        if excluded && !status.is_dir() {
            return Ok(None);
        }
        Ok(Some(Found {
            metadata: metadata(&file, &status)?,
            identity: Identity::of(&status),
            several: !status.is_dir() && status.nlink() > 1,
            kind: kind(&file, &status, excluded)?,
            name: name.into_vec(),
        }))
    }
}

impl State {
    /// Keeps what was found in a directory, and what is to be read next.
    fn add(&mut self, number: usize, path: &Path, mut found: Vec<Found>) {
        for entry in &mut found {
            if let Kind::Directory { number, .. } = &mut entry.kind {
                *number = self.directories.len();
                self.directories.push(Vec::new());
                let name = std::ffi::OsStr::from_bytes(&entry.name);
                self.todo.push((*number, path.join(name)));
            }
        }
        self.directories[number] = found;
    }
}

fn kind(file: &Path, status: &std::fs::Metadata, excluded: bool) -> io::Result<Kind> {
    let device = Device {
        major: rustix::fs::major(status.rdev()),
        minor: rustix::fs::minor(status.rdev()),
    };
    let kind = status.file_type();
    Ok(if kind.is_dir() {
        Kind::Directory {
            number: 0,
            excluded,
        }
    } else if kind.is_symlink() {
        Kind::Symlink(fs_err::read_link(file)?.into_os_string().into_vec())
    } else if kind.is_fifo() {
        Kind::Fifo
    } else if kind.is_char_device() {
        Kind::CharacterDevice(device)
    } else if kind.is_block_device() {
        Kind::BlockDevice(device)
    } else if kind.is_socket() {
        Kind::Socket
    } else {
        Kind::File
    })
}

fn metadata(file: &Path, status: &std::fs::Metadata) -> io::Result<Metadata> {
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
