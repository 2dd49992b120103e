//! Files and directories that are being made.
//!
//! Each lies in `tmp` (a download, in `partial`) and is locked by its maker for as long as it is open;
//! one in `tmp` that nobody has locked is a dead process's. Making one and locking it happens under a shared lock that
//! [`Store::sweep`] takes exclusively, so that none is swept before it is locked.

use std::fs::File;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, OFlags};
use serde::Serialize;

use crate::Store;
use crate::error::{Doing, Error, Result};
use crate::lock::{Lock, Mode};

/// Bytes that are kept for a change of `index.json` on a full disk.
const RESERVE: u64 = 256 << 10;

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A file that has no name yet that anyone else would look for. Dropping it removes it.
#[derive(Debug)]
pub struct TemporaryFile {
    file: File,
    name: Name,
}

/// A directory that is being filled. Dropping it removes it with all that is in it.
#[derive(Debug)]
pub struct TemporaryDirectory {
    #[expect(dead_code, reason = "shows the sweeper that the maker lives")]
    lock: Lock,
    name: Name,
}

/// A name in `tmp` that goes away when it is dropped, unless what had it was given another.
#[derive(Debug)]
struct Name {
    path: PathBuf,
    renamed: bool,
}

impl Drop for Name {
    fn drop(&mut self) {
        if !self.renamed {
            // What cannot be removed now is found by the next sweep.
            let _ = remove(&self.path);
        }
    }
}

impl TemporaryFile {
    /// A file that is somewhere else than in `tmp`, and locked.
    pub(crate) fn at(file: File, path: PathBuf) -> Self {
        let renamed = false;
        let name = Name { path, renamed };
        Self { file, name }
    }

    /// The file, to write to.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where it is for now.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.name.path
    }

    /// Makes the bytes durable and gives the file its name, in place of one that has it.
    pub(crate) fn persist(mut self, target: &Path) -> Result<File> {
        self.sync(target)?;
        rename(&mut self.name, target)?;
        Ok(self.file)
    }

    pub(crate) fn sync(&self, target: &Path) -> Result<()> {
        self.file
            .sync_all()
            .writing(&self.name.path, || format!("write `{}`", target.display()))
    }
}

impl TemporaryDirectory {
    /// Where it is for now.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.name.path
    }

    /// Makes all that is in it durable and gives it its name, which nothing may have.
    pub(crate) fn persist(mut self, target: &Path) -> Result<()> {
        self.sync(target)?;
        rename(&mut self.name, target)
    }

    /// Gives it its name, which nothing may have. Its files are durable already; that it is there is so
    /// with whatever is made durable next.
    pub(crate) fn persist_synced(mut self, target: &Path) -> Result<()> {
        name(&mut self.name, target)
    }

    /// As [`TemporaryDirectory::persist`], but in exchange with what has the name, which is
    /// removed.
    pub(crate) fn replace(self, target: &Path) -> Result<()> {
        self.sync(target)?;
        let path = &self.name.path;
        rustix::fs::renameat_with(
            rustix::fs::CWD,
            path,
            rustix::fs::CWD,
            target,
            rustix::fs::RenameFlags::EXCHANGE,
        )
        .writing(path, || format!("replace `{}`", target.display()))?;
        sync_parent(target)
    }

    /// One call for the whole file system: the directory may hold thousands of files.
    fn sync(&self, target: &Path) -> Result<()> {
        let path = &self.name.path;
        let doing = || format!("write `{}`", target.display());
        let directory = File::options().read(true).open(path).doing(doing)?;
        rustix::fs::syncfs(&directory).writing(path, doing)
    }
}

fn rename(temporary: &mut Name, target: &Path) -> Result<()> {
    name(temporary, target)?;
    sync_parent(target)
}

fn name(temporary: &mut Name, target: &Path) -> Result<()> {
    fs_err::rename(&temporary.path, target)
        .writing(&temporary.path, || format!("write `{}`", target.display()))?;
    temporary.renamed = true;
    Ok(())
}

/// Makes a change of a directory's entries durable.
pub(crate) fn sync_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(path);
    File::options()
        .read(true)
        .open(parent)
        .and_then(|directory| directory.sync_all())
        .writing(parent, || {
            format!("write the directory `{}`", parent.display())
        })
}

/// Removes a file or a directory with all that is in it.
pub(crate) fn remove(path: &Path) -> std::io::Result<()> {
    if fs_err::symlink_metadata(path)?.is_dir() {
        fs_err::remove_dir_all(path)
    } else {
        fs_err::remove_file(path)
    }
}

impl Store {
    /// A file that is made and not yet named.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NoSpace`].
    pub fn temporary_file(&self) -> Result<TemporaryFile> {
        let make = |path: &Path| {
            let mut options = File::options();
            options.read(true).write(true).create_new(true).mode(0o600);
            options.open(path)
        };
        let (file, path) = self.make_temporary(make)?;
        Ok(TemporaryFile {
            file,
            name: Name {
                path,
                renamed: false,
            },
        })
    }

    /// A directory that is made and not yet named.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NoSpace`].
    pub fn temporary_directory(&self) -> Result<TemporaryDirectory> {
        let make = |path: &Path| {
            std::fs::DirBuilder::new().mode(0o700).create(path)?;
            File::options().read(true).open(path)
        };
        let (file, path) = self.make_temporary(make)?;
        Ok(TemporaryDirectory {
            lock: Lock::held(file),
            name: Name {
                path,
                renamed: false,
            },
        })
    }

    fn make_temporary(
        &self,
        make: impl Fn(&Path) -> std::io::Result<File>,
    ) -> Result<(File, PathBuf)> {
        let directory = self.path().join("tmp");
        let _lock = self.lock("tmp", Mode::Shared)?;
        loop {
            let path = self.unused_name();
            match make(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                made => {
                    let file = made.writing(&directory, || {
                        format!("make a file in `{}`", directory.display())
                    })?;
                    Lock::mark(&file, &path)?;
                    return Ok((file, path));
                }
            }
        }
    }

    /// A name in `tmp` that this process has not used yet.
    fn unused_name(&self) -> PathBuf {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        self.path().join("tmp").join(format!("{process}-{number}"))
    }

    /// Takes a directory's name away at once, then removes it with all that is in it. Needs no
    /// space, because this is how space is made.
    pub(crate) fn discard(&self, path: &Path) -> Result<()> {
        let doing = || format!("remove `{}`", path.display());
        let directory = File::options().read(true).open(path).doing(doing)?;
        let shared = self.lock("tmp", Mode::Shared)?;
        Lock::mark(&directory, path)?;
        let mut grave = Name {
            path: self.unused_name(),
            renamed: true,
        };
        loop {
            match rustix::fs::renameat_with(
                rustix::fs::CWD,
                path,
                rustix::fs::CWD,
                &grave.path,
                rustix::fs::RenameFlags::NOREPLACE,
            ) {
                Err(rustix::io::Errno::EXIST) => grave.path = self.unused_name(),
                other => break other.doing(doing)?,
            }
        }
        grave.renamed = false;
        drop(shared);
        sync_parent(path)
    }

    /// Removes from `tmp` whatever has no living maker. Does nothing while another process makes
    /// or sweeps, because that one or the next will do it.
    pub(crate) fn sweep(&self) -> Result<()> {
        let Some(_lock) = self.try_lock("tmp", Mode::Exclusive)? else {
            return Ok(());
        };
        let directory = self.path().join("tmp");
        let doing = || format!("clean up `{}`", directory.display());
        for entry in fs_err::read_dir(&directory).doing(doing)? {
            let path = entry.doing(doing)?.path();
            if is_abandoned(&path)? {
                match remove(&path) {
                    // Its maker has given it its name, after it was opened here.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    removed => removed.doing(doing)?,
                }
            }
        }
        Ok(())
    }

    /// Keeps some space for what must be written on a full disk in order to make room.
    pub(crate) fn fill_reserve(&self) {
        let path = self.path().join("reserve");
        if fs_err::metadata(&path).is_ok_and(|metadata| metadata.len() >= RESERVE) {
            return;
        }
        // Where there is no space, or no such call, the store works without it.
        let _ = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map(|file| rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, RESERVE));
    }

    /// Gives the space that was kept back to the file system.
    pub(crate) fn release_reserve(&self) -> Result<()> {
        let path = self.path().join("reserve");
        match fs_err::remove_file(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other.doing(|| format!("remove `{}`", path.display())),
        }
    }

    /// Writes a small file whole, in place of one that has its name.
    pub(crate) fn write_bytes(&self, target: &Path, bytes: &[u8]) -> Result<()> {
        self.write_whole(target, bytes)?;
        sync_parent(target)
    }

    /// The same; but whether it is the new one or the old that has the name after the host's sudden
    /// end is open. Either is whole.
    pub(crate) fn write_whole(&self, target: &Path, bytes: &[u8]) -> Result<()> {
        use std::io::Write;
        let mut temporary = self.temporary_file()?;
        temporary
            .file()
            .write_all(bytes)
            .writing(self.path(), || format!("write `{}`", target.display()))?;
        temporary.sync(target)?;
        name(&mut temporary.name, target)
    }

    pub(crate) fn write_json(&self, target: &Path, value: &impl Serialize) -> Result<()> {
        let bytes = serde_json::to_vec(value).map_err(|source| Error::Damaged {
            path: target.to_owned(),
            source,
        })?;
        self.write_bytes(target, &bytes)
    }
}

/// Whether nobody holds the lock of something in `tmp`.
fn is_abandoned(path: &Path) -> Result<bool> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = File::options()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path);
    match opened {
        Ok(file) => Ok(Lock::try_file(file, path, Mode::Exclusive)?.is_some()),
        // Gone in the meantime; a renamed file is nobody's temporary any more.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        // A link or the like, which the store never makes.
        Err(_) => Ok(true),
    }
}
