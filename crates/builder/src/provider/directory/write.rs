//! Writing an image to its place: beside it first, then with one rename.

use std::fs::File;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use firebuild_core::Reference;
use firebuild_oci::Image;
use firebuild_store::Store;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock};
use rustix::io::Errno;

use super::read::{self, storage};
use super::{METADATA, ROOTFS};
use crate::provider::error::{Doing as _, ProviderError, Result};
use crate::provider::metadata::{Metadata, Told};
use crate::provider::place::Place;
use crate::provider::{Keep, Kept};
use crate::{image, rootfs};

/// What the names of directories begin with that are being filled. They are locked meanwhile.
const UNFINISHED: &str = ".firebuild-";

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// Keeps an image of the store at its place.
pub(super) fn keep(root: &Path, place: &Place, store: &Store, keep: &Keep<'_>) -> Result<Kept> {
    let failed = |source: crate::Error| ProviderError::Write {
        name: Box::new(keep.name.clone()),
        source: Box::new(source),
    };
    check_owner(root, place, keep.name)?;
    let lease = store.lease()?;
    let image = image::load(lease.store(), keep.name).map_err(failed)?;
    let metadata = Metadata::of(Told {
        kind: keep.kind,
        name: keep.name,
        place,
        image: &image,
        made: keep.made.clone(),
        parent: keep.parent.and_then(|parent| told_of(store, parent)),
    });
    let target = root.join(place.path());
    let parent = target.parent().unwrap_or(root);
    fs_err::create_dir_all(root).doing(|| format!("make the storage `{}`", root.display()))?;
    sweep(root)?;
    let beside = Unfinished::new(root)?;
    write_image(&beside.path.join(ROOTFS), store, &image, keep).map_err(failed)?;
    write_metadata(&beside.path.join(METADATA), &metadata)?;
    within(root, parent)?;
    beside.take_place(&target)?;
    Ok(Kept::At(target.display().to_string()))
}

/// Refuses a place that another name has. What cannot be understood may be replaced.
fn check_owner(root: &Path, place: &Place, name: &Reference) -> Result<()> {
    match read::find(root, place) {
        Ok(Some((Some(owner), _))) if owner != *name => Err(ProviderError::Taken {
            name: Box::new(name.clone()),
            by: owner.familiar(),
        }),
        Err(error @ ProviderError::Outside(_)) => Err(error),
        _ => Ok(()),
    }
}

/// The metadata of what an image was made from.
fn told_of(store: &Store, parent: &Reference) -> Option<serde_json::Value> {
    let place = Place::of(parent)?;
    let image = image::load(store, parent).ok()?;
    Some(Metadata::of_parent(&place, &image))
}

fn write_image(
    path: &Path,
    store: &Store,
    image: &Image,
    keep: &Keep<'_>,
) -> Result<(), crate::Error> {
    let mut options = fs_err::OpenOptions::new();
    // It may hold secrets of those whose image it is.
    options.read(true).write(true).create_new(true).mode(0o600);
    let unwritable = |error| crate::Error::RootFs(firebuild_disk::Error::Write(error));
    let (file, _) = options.open(path).map_err(unwritable)?.into_parts();
    rootfs::export(store, image, keep.size, &file)?;
    file.sync_all().map_err(unwritable)
}

fn write_metadata(path: &Path, metadata: &Metadata) -> Result<()> {
    let doing = || format!("write `{}`", path.display());
    let mut text = serde_json::to_vec_pretty(metadata)
        .map_err(std::io::Error::from)
        .doing(doing)?;
    text.push(b'\n');
    fs_err::write(path, text).doing(doing)?;
    let file = fs_err::File::open(path).doing(doing)?;
    file.sync_all().doing(doing)
}

/// Makes the directories above a place, which must not lead out of the root.
fn within(root: &Path, parent: &Path) -> Result<()> {
    let doing = || format!("make the directory `{}`", parent.display());
    fs_err::create_dir_all(parent).doing(doing)?;
    let real = |path: &Path| fs_err::canonicalize(path).doing(doing);
    match real(parent)?.starts_with(real(root)?) {
        true => Ok(()),
        false => Err(ProviderError::Outside(parent.to_owned())),
    }
}

/// A directory that is being filled. Dropping it removes it with all that is in it.
struct Unfinished {
    path: PathBuf,
    /// Whether it has another name by now.
    renamed: bool,
    /// Locked as long as it is open, which tells others that its maker lives.
    #[expect(dead_code, reason = "held until it is dropped")]
    lock: File,
}

impl Unfinished {
    fn new(root: &Path) -> Result<Self> {
        loop {
            // Other hosts may write here, too.
            let now = jiff::Timestamp::now().as_nanosecond();
            let (process, number) = (std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
            let path = root.join(format!("{UNFINISHED}{now}-{process}-{number}"));
            let doing = || format!("make the directory `{}`", path.display());
            match std::fs::DirBuilder::new().mode(0o755).create(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
                other => other.doing(doing)?,
            }
            // Between the two steps somebody may have taken it for a dead one's.
            if let Some(lock) = locked(&path)? {
                return Ok(Self {
                    path,
                    renamed: false,
                    lock,
                });
            }
        }
    }

    /// Gives it its name, in place of what has it; that is then removed.
    fn take_place(mut self, target: &Path) -> Result<()> {
        let doing = || format!("write `{}`", target.display());
        sync(&self.path)?;
        loop {
            match rename(&self.path, target, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => {}
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    self.take_place_in_steps(target)?;
                    break;
                }
                other => {
                    other.doing(doing)?;
                    self.renamed = true;
                    break;
                }
            }
            match rename(&self.path, target, RenameFlags::EXCHANGE) {
                // It went away in the meantime.
                Err(Errno::NOENT) => {}
                other => {
                    other.doing(doing)?;
                    break;
                }
            }
        }
        sync(target.parent().unwrap_or(target))
    }

    /// On file systems that cannot exchange names: for a moment there is none, but never half of one.
    fn take_place_in_steps(&mut self, target: &Path) -> Result<()> {
        let doing = || format!("write `{}`", target.display());
        let old = Self::new(self.path.parent().unwrap_or(target))?;
        match fs_err::rename(target, old.path.join("old")) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            other => other.doing(doing)?,
        }
        fs_err::rename(&self.path, target).doing(doing)?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.renamed {
            // Or what it was exchanged with. What cannot be removed is found by the next sweep.
            let _ = fs_err::remove_dir_all(&self.path);
        }
    }
}

fn rename(from: &Path, to: &Path, flags: RenameFlags) -> rustix::io::Result<()> {
    rustix::fs::renameat_with(CWD, from, CWD, to, flags)
}

/// Makes a directory's entries durable.
fn sync(path: &Path) -> Result<()> {
    let doing = || format!("write `{}`", path.display());
    let directory = fs_err::File::open(path).doing(doing)?;
    directory.sync_all().doing(doing)
}

/// Locks a directory that nobody else has locked, if it still has this name.
fn locked(path: &Path) -> Result<Option<File>> {
    let Some(file) = storage(path)? else {
        return Ok(None);
    };
    let doing = || format!("lock `{}`", path.display());
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Ok(None),
        other => other.doing(doing)?,
    }
    let is_same = |now: &std::fs::Metadata| -> Result<bool> {
        let opened = file.metadata().doing(doing)?;
        Ok((now.dev(), now.ino()) == (opened.dev(), opened.ino()))
    };
    match fs_err::symlink_metadata(path) {
        Ok(now) if is_same(&now)? => Ok(Some(file)),
        _ => Ok(None),
    }
}

/// Removes what dead processes left unfinished.
fn sweep(root: &Path) -> Result<()> {
    let doing = || format!("clean up `{}`", root.display());
    for entry in fs_err::read_dir(root).doing(doing)? {
        let entry = entry.doing(doing)?;
        let name = entry.file_name();
        let is_one = name
            .to_str()
            .is_some_and(|name| name.starts_with(UNFINISHED));
        if is_one && entry.file_type().doing(doing)?.is_dir() {
            let path = entry.path();
            if let Some(_lock) = locked(&path)? {
                // Who cannot remove it leaves it to the next.
                let _ = fs_err::remove_dir_all(&path);
            }
        }
    }
    Ok(())
}
