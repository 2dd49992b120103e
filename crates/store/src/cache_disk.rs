//! Cache disks: what `RUN --mount=type=cache` keeps from build to build.
//!
//! Each is a sparse file that holds a file system, which one VM at a time writes. Who has its name
//! locked owns it; the lock ends with its process, and what the VM wrote until then is there. The
//! open file that a VMM gets is locked too: so a VMM that outlives its owner, for however short a
//! time, keeps the disk from everybody else.

use std::fs::{File, FileTimes};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::SystemTime;

use firebuild_core::{ByteSize, Digest};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::Store;
use crate::error::{Doing, Error, Result};
use crate::lock::{Lock, Mode};

/// How many disks one cache may have: more than one only where builds want it to themselves.
pub const MOST_DISKS: u32 = 64;

/// The cache disks. See [`Store::cache_disks`].
#[derive(Debug)]
pub struct CacheDisks<'a> {
    store: &'a Store,
}

/// A cache disk that nobody else can use while this lives.
#[derive(Debug)]
pub struct CacheDisk {
    path: PathBuf,
    record: PathBuf,
    #[expect(dead_code, reason = "held while the disk is in use")]
    lock: Lock,
}

/// What is known of a cache disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheDiskEntry {
    /// What the cache is known by.
    pub id: String,
    /// Which of its disks, from 0.
    pub number: u32,
    /// What it takes on the host's disk.
    pub size: ByteSize,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// When it was last given to a VM, or given back.
    pub last_used: SystemTime,
    /// Whether somebody has it now.
    pub in_use: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    id: String,
    number: u32,
    created: u64,
}

impl<'a> CacheDisks<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// Takes disk `number` of the cache `id`, if nobody has it. If it is not there, `make` writes
    /// its file system to the empty file that it is given.
    ///
    /// # Errors
    /// Those of `make`, and then nothing is left; [`Error::Io`], [`Error::NoSpace`].
    pub fn try_take<E: From<Error>>(
        &self,
        id: &str,
        number: u32,
        make: impl FnOnce(&File) -> Result<(), E>,
    ) -> Result<Option<CacheDisk>, E> {
        let name = name(id, number);
        let Some(lock) = self.store.try_lock(&lock_name(&name), Mode::Exclusive)? else {
            return Ok(None);
        };
        let disk = CacheDisk {
            path: self.path(&name, "img"),
            record: self.path(&name, "json"),
            lock,
        };
        let exists = disk.path.try_exists();
        if !exists.doing(|| format!("look for `{}`", disk.path.display()))? {
            self.put(id, number, make)?;
        } else if disk.try_open()?.is_none() {
            return Ok(None);
        }
        disk.touch();
        Ok(Some(disk))
    }

    /// Writes the record and then the disk, so that every disk has one. The disk is locked.
    fn put<E: From<Error>>(
        &self,
        id: &str,
        number: u32,
        make: impl FnOnce(&File) -> Result<(), E>,
    ) -> Result<(), E> {
        let name = name(id, number);
        let temporary = self.store.temporary_file()?;
        make(temporary.file())?;
        let created = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let record = Record {
            id: id.to_owned(),
            number,
            created: created.unwrap_or_default().as_secs(),
        };
        self.store.write_json(&self.path(&name, "json"), &record)?;
        temporary.persist(&self.path(&name, "img"))?;
        Ok(())
    }

    /// All cache disks, by their ids and numbers.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn list(&self) -> Result<Vec<CacheDiskEntry>> {
        let directory = self.store.path().join(DIRECTORY);
        let doing = || format!("read the cache disks in `{}`", directory.display());
        let mut all = Vec::new();
        for entry in fs_err::read_dir(&directory).doing(doing)? {
            let path = entry.doing(doing)?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            // One that somebody removes meanwhile is none.
            let (Ok(text), Ok(record), Ok(disk)) = (
                fs_err::read(&path),
                fs_err::metadata(&path),
                fs_err::metadata(path.with_extension("img")),
            ) else {
                continue;
            };
            let Ok(Record {
                id,
                number,
                created,
            }) = serde_json::from_slice(&text)
            else {
                continue;
            };
            all.push(CacheDiskEntry {
                in_use: self.is_in_use(&id, number)?,
                id,
                number,
                size: ByteSize(disk.blocks() * 512),
                created,
                last_used: record.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            });
        }
        all.sort_by(|one, other| (&one.id, one.number).cmp(&(&other.id, other.number)));
        Ok(all)
    }

    fn is_in_use(&self, id: &str, number: u32) -> Result<bool> {
        let lock = lock_name(&name(id, number));
        Ok(self.store.try_lock(&lock, Mode::Shared)?.is_none())
    }

    /// Removes a disk. Returns whether it is gone: one that is in use stays.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove(&self, id: &str, number: u32) -> Result<bool> {
        let name = name(id, number);
        let Some(_lock) = self.store.try_lock(&lock_name(&name), Mode::Exclusive)? else {
            return Ok(false);
        };
        let lock = self.store.path().join("locks").join(lock_name(&name));
        // Who waits for the lock finds that its file has lost its name, and makes another.
        for path in [self.path(&name, "img"), self.path(&name, "json"), lock] {
            match fs_err::remove_file(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                other => other.doing(|| format!("remove `{}`", path.display()))?,
            }
        }
        Ok(true)
    }

    fn path(&self, name: &str, extension: &str) -> PathBuf {
        let directory = self.store.path().join(DIRECTORY);
        directory.join(format!("{name}.{extension}"))
    }
}

impl CacheDisk {
    /// Opens it for reading and writing. It cannot be opened again while this file, or a copy that
    /// another process has of it, is open.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(&self) -> Result<File> {
        let busy = || std::io::Error::from(std::io::ErrorKind::ResourceBusy);
        self.try_open()?
            .ok_or_else(busy)
            .doing(|| format!("open the cache disk `{}`", self.path.display()))
    }

    fn try_open(&self) -> Result<Option<File>> {
        let doing = || format!("open the cache disk `{}`", self.path.display());
        let file = File::options().read(true).write(true).open(&self.path);
        let file = file.doing(doing)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error).doing(doing),
        }
    }

    /// Only the order in which disks are removed depends on it.
    fn touch(&self) {
        let now = FileTimes::new().set_modified(SystemTime::now());
        let _ = fs_err::File::open(&self.record).and_then(|file| file.file().set_times(now));
    }
}

impl Drop for CacheDisk {
    fn drop(&mut self) {
        self.touch();
    }
}

/// Where they are in the store.
pub(crate) const DIRECTORY: &str = "cache-mounts";

/// Ids are any text; names of files are not.
fn name(id: &str, number: u32) -> String {
    format!("{}-{number}", Digest::of(id.as_bytes()).hex())
}

fn lock_name(name: &str) -> String {
    format!("cache-{name}")
}
