//! Volumes: named disks that outlive the VMs that use them.
//!
//! Each is a sparse file that holds a file system, and a record beside it. Who uses a volume has its
//! file open and locked: exclusively to write, shared to read. The lock belongs to the open file,
//! which the VMM gets: so it lasts for as long as anybody can write to the volume, and ends with the
//! last process that has it, however that ends.
//!
//! What is on a volume is its guests' own. It is never mounted here; of its bytes only two fields of
//! the superblock are looked at, which say whether it can be read as it is.

use std::fmt;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::SystemTime;

use firebuild_core::ByteSize;
use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, retry_on_intr};
use serde::{Deserialize, Serialize};

use crate::Store;
use crate::error::{Doing, Error, Result};
use crate::lock::{Lock, Mode};

/// The name of a volume: 1 to 63 letters, digits, `.`, `_`, `-`, the first of them a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeName(String);

/// A text that can be no volume's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` cannot name a volume: names are 1 to 63 letters, digits, `.`, `_` or `-`, the first a letter or digit"
)]
pub struct ParseVolumeNameError(String);

impl VolumeName {
    /// The name's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VolumeName {
    type Err = ParseVolumeNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let first = text.bytes().next();
        let fits = first.is_some_and(|byte| byte.is_ascii_alphanumeric())
            && text.len() <= 63
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseVolumeNameError(text.chars().take(100).collect()))
        }
    }
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for VolumeName {
    type Error = ParseVolumeNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<VolumeName> for String {
    fn from(name: VolumeName) -> Self {
        name.0
    }
}

/// The volumes. See [`Store::volumes`].
#[derive(Debug)]
pub struct Volumes<'a> {
    store: &'a Store,
}

/// What is known of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeEntry {
    /// Its name.
    pub name: VolumeName,
    /// How much it can hold, what its file system needs included.
    pub size: ByteSize,
    /// What it takes on the host's disk.
    pub taken: ByteSize,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// Who has it open now.
    pub usage: VolumeUsage,
    /// Its disk.
    pub path: PathBuf,
}

/// Who has a volume open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeUsage {
    /// Nobody.
    Free,
    /// One or more who only read.
    Read,
    /// One who writes.
    Written,
}

/// An open volume, locked for as long as the file, or a copy that another process has of it, is open.
#[derive(Debug)]
pub struct OpenVolume {
    /// The disk.
    pub file: File,
    /// Whether it may be written to, and nobody else has it.
    pub writable: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    size: ByteSize,
    created: u64,
}

impl<'a> Volumes<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// Makes a volume of `size`, if there is none of that name: `make` writes its file system to the
    /// empty file that it is given. Returns whether it was made.
    ///
    /// # Errors
    /// Those of `make`, and then nothing is left; [`Error::Io`], [`Error::NoSpace`].
    pub fn create<E: From<Error>>(
        &self,
        name: &VolumeName,
        size: ByteSize,
        make: impl FnOnce(&File) -> Result<(), E>,
    ) -> Result<bool, E> {
        let _lock = self.lock(name)?;
        let disk = self.disk(name);
        let exists = disk.try_exists();
        if exists.doing(|| format!("look for `{}`", disk.display()))? {
            return Ok(false);
        }
        let temporary = self.store.temporary_file()?;
        make(temporary.file())?;
        let created = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let record = Record {
            size,
            created: created.unwrap_or_default().as_secs(),
        };
        // The disk last: it is what makes a volume.
        self.store.write_json(&self.record(name), &record)?;
        temporary.persist(&disk)?;
        Ok(true)
    }

    /// Opens a volume. To be read, it is opened for several at once, unless it cannot be read before
    /// it was written to: a new one, and one whose journal has something to put right.
    ///
    /// # Errors
    /// [`Error::NoVolume`]; [`Error::VolumeInUse`]; [`Error::Io`].
    pub fn open(&self, name: &VolumeName, to_write: bool) -> Result<OpenVolume> {
        // Nobody removes it meanwhile.
        let _lock = self.lock_existing(name)?;
        let path = self.disk(name);
        let doing = || format!("open volume `{name}`");
        let opened = File::options().read(true).write(true).open(&path);
        let file = match opened {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(Error::NoVolume(name.clone()));
            }
            other => other.doing(doing)?,
        };
        if !to_write {
            if !try_lock(&file, Mode::Shared).doing(doing)? {
                return Err(self.in_use(name, VolumeUsage::Written));
            }
            if is_readable_as_it_is(&file).doing(doing)? {
                // A descriptor of its own that cannot write, whatever the VMM does with it.
                let file = fs_err::File::open(&path).doing(doing)?.into_parts().0;
                if try_lock(&file, Mode::Shared).doing(doing)? {
                    let writable = false;
                    return Ok(OpenVolume { file, writable });
                }
                return Err(self.in_use(name, VolumeUsage::Written));
            }
        }
        if try_lock(&file, Mode::Exclusive).doing(doing)? {
            let writable = true;
            return Ok(OpenVolume { file, writable });
        }
        Err(self.in_use(name, self.usage(name)?))
    }

    /// All volumes, by their names.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`].
    pub fn list(&self) -> Result<Vec<VolumeEntry>> {
        let directory = self.store.path().join(DIRECTORY);
        let doing = || format!("read the volumes in `{}`", directory.display());
        let mut all = Vec::new();
        for entry in fs_err::read_dir(&directory).doing(doing)? {
            let file = entry.doing(doing)?.file_name();
            let name = file.to_str().and_then(|name| name.strip_suffix(".img"));
            let Some(name) = name.and_then(|name| name.parse().ok()) else {
                continue;
            };
            match self.get(&name) {
                Ok(entry) => all.push(entry),
                // Removed in the meantime.
                Err(Error::NoVolume(_)) => {}
                Err(error) => return Err(error),
            }
        }
        all.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(all)
    }

    /// What is known of one volume.
    ///
    /// # Errors
    /// [`Error::NoVolume`], [`Error::Io`], [`Error::Damaged`].
    pub fn get(&self, name: &VolumeName) -> Result<VolumeEntry> {
        let (path, record) = (self.disk(name), self.record(name));
        let missing = |error: &std::io::Error| error.kind() == ErrorKind::NotFound;
        let disk = match fs_err::metadata(&path) {
            Err(error) if missing(&error) => return Err(Error::NoVolume(name.clone())),
            other => other.doing(|| format!("look for `{}`", path.display()))?,
        };
        let text = match fs_err::read(&record) {
            Err(error) if missing(&error) => return Err(Error::NoVolume(name.clone())),
            other => other.doing(|| format!("read `{}`", record.display()))?,
        };
        let known: Record = serde_json::from_slice(&text).map_err(|source| Error::Damaged {
            path: record,
            source,
        })?;
        // Who opens it meanwhile must not find it locked by who only asks.
        let _lock = self.lock(name)?;
        Ok(VolumeEntry {
            name: name.clone(),
            size: known.size,
            taken: ByteSize(disk.blocks() * 512),
            created: known.created,
            usage: self.usage(name)?,
            path,
        })
    }

    /// Removes a volume that nobody has open.
    ///
    /// # Errors
    /// [`Error::NoVolume`], [`Error::VolumeInUse`], [`Error::Io`].
    pub fn remove(&self, name: &VolumeName) -> Result<()> {
        let _lock = self.lock_existing(name)?;
        match self.usage(name)? {
            VolumeUsage::Free => {}
            usage => return Err(self.in_use(name, usage)),
        }
        self.remove_files(name)
    }

    /// Removes what is left of volumes that were being made or removed when whoever did it was killed:
    /// records without a disk.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn sweep(&self) -> Result<()> {
        let directory = self.store.path().join(DIRECTORY);
        let doing = || format!("read the volumes in `{}`", directory.display());
        for entry in fs_err::read_dir(&directory).doing(doing)? {
            let file = entry.doing(doing)?.file_name();
            let name = file.to_str().and_then(|name| name.strip_suffix(".json"));
            let Some(name) = name.and_then(|name| name.parse().ok()) else {
                continue;
            };
            if self.disk(&name).exists() {
                continue;
            }
            let _lock = self.lock(&name)?;
            // Somebody was about to make it.
            if !self.disk(&name).exists() {
                self.remove_files(&name)?;
            }
        }
        Ok(())
    }

    /// Removes all of a volume, whose name is locked.
    fn remove_files(&self, name: &VolumeName) -> Result<()> {
        // The record after the disk, for what has no disk is no volume. Who waits for the lock finds that
        // its file has lost its name, and makes another.
        let lock = self.store.path().join("locks").join(lock_name(name));
        for path in [self.disk(name), self.record(name), lock] {
            match fs_err::remove_file(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                other => other.doing(|| format!("remove `{}`", path.display()))?,
            }
        }
        Ok(())
    }

    /// Who has it open. To be called with its name locked, for it is locked itself for a moment.
    fn usage(&self, name: &VolumeName) -> Result<VolumeUsage> {
        let doing = || format!("look at volume `{name}`");
        let file = match fs_err::File::open(self.disk(name)) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(Error::NoVolume(name.clone()));
            }
            other => other.doing(doing)?.into_parts().0,
        };
        if !try_lock(&file, Mode::Shared).doing(doing)? {
            return Ok(VolumeUsage::Written);
        }
        match try_lock(&file, Mode::Exclusive).doing(doing)? {
            true => Ok(VolumeUsage::Free),
            false => Ok(VolumeUsage::Read),
        }
    }

    fn in_use(&self, name: &VolumeName, usage: VolumeUsage) -> Error {
        Error::VolumeInUse {
            name: name.clone(),
            written: usage == VolumeUsage::Written,
        }
    }

    fn lock(&self, name: &VolumeName) -> Result<Lock> {
        self.store.lock(&lock_name(name), Mode::Exclusive)
    }

    /// Leaves no lock of what was never there.
    fn lock_existing(&self, name: &VolumeName) -> Result<Lock> {
        match self.disk(name).exists() {
            true => self.lock(name),
            false => Err(Error::NoVolume(name.clone())),
        }
    }

    fn disk(&self, name: &VolumeName) -> PathBuf {
        let directory = self.store.path().join(DIRECTORY);
        directory.join(format!("{name}.img"))
    }

    fn record(&self, name: &VolumeName) -> PathBuf {
        let directory = self.store.path().join(DIRECTORY);
        directory.join(format!("{name}.json"))
    }
}

/// Where they are in the store.
pub(crate) const DIRECTORY: &str = "volumes";

fn lock_name(name: &VolumeName) -> String {
    format!("volume-{name}")
}

fn try_lock(file: &File, mode: Mode) -> rustix::io::Result<bool> {
    let operation = match mode {
        Mode::Shared => FlockOperation::NonBlockingLockShared,
        Mode::Exclusive => FlockOperation::NonBlockingLockExclusive,
    };
    match retry_on_intr(|| flock(file, operation)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a kernel can mount the file system without writing to it: it was mounted before, and its
/// journal is empty. What a guest wrote there can be anything: then it may not be what the guest wants.
fn is_readable_as_it_is(file: &File) -> std::io::Result<bool> {
    /// Where the superblock is, and in it `s_mtime` and `s_feature_incompat`.
    const SUPERBLOCK: u64 = 1024;
    const MOUNTED: u64 = SUPERBLOCK + 0x2c;
    const INCOMPATIBLE: u64 = SUPERBLOCK + 0x60;
    const NEEDS_RECOVERY: u32 = 4;
    let field = |at| -> std::io::Result<u32> {
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, at)?;
        Ok(u32::from_le_bytes(bytes))
    };
    Ok(field(MOUNTED)? != 0 && field(INCOMPATIBLE)? & NEEDS_RECOVERY == 0)
}
