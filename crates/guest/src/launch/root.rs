//! Putting a process's root together, and entering it.
//!
//! The root is an overlay of the image and of what was changed since. Between the two lies one
//! more directory, which supplies the mount points that the image lacks ([`places`]); so nothing of
//! ours is ever in the directory above, whose content becomes a layer.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, mount_move, unmount,
};
use rustix::process::{chdir, chroot};

use super::attach::{self, Attachment, Opened};
use super::places::{Kind, Places};
use super::{Isolation, Launch, Refusal, Root};
use crate::error::{Doing as _, GuestError, Result};

/// Where the root is put together.
const NEW: &str = "/r";
/// The directory that supplies mount points.
const STUBS: &str = "/b";
/// Files of ours that the process sees in place of the image's.
pub(crate) const SUPPLIED: &str = "/f";
const FILES: [&str; 3] = ["etc/resolv.conf", "etc/hosts", "etc/hostname"];
const DIRECTORIES: [&str; 3] = ["proc", "sys", "dev"];
/// What mount(2) takes, with the NUL at the end.
const LONGEST_OPTIONS: usize = 4095;

/// Makes the overlay the process's root, with the supplied files on their places. Returns what is
/// to be mounted once the root has its devices.
pub(super) fn enter<'a>(
    launch: &Launch,
    attachments: &'a [Attachment],
) -> std::result::Result<Vec<Opened<'a>>, Refusal> {
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .doing(|| "keep mounts private".to_owned())?;
    let keeps = launch.isolation == Isolation::Step;
    let (targets, missing) = supply_mount_points(&launch.root, attachments, keeps)?;
    mount_root(&launch.root)?;
    for directory in missing {
        let directory = Path::new(NEW).join(directory);
        fs_err::create_dir_all(&directory).doing(|| format!("make `{}`", directory.display()))?;
    }
    let mut files: Vec<(OwnedFd, PathBuf)> = Vec::new();
    for (file, target) in FILES.iter().zip(targets) {
        let name = file.rsplit('/').next().unwrap_or_default();
        let own = launch.supplied.join(name);
        let source = if own.exists() {
            own
        } else {
            Path::new(SUPPLIED).join(name)
        };
        if let Some(target) = target {
            files.push((attach::tree(&source)?, target));
        }
    }
    let opened: Result<Vec<_>> = attachments.iter().map(attach::open).collect();
    let opened = opened?;
    switch()?;
    for (tree, target) in files {
        attach::put(&tree, &Path::new("/").join(target))?;
    }
    Ok(opened)
}

fn switch() -> Result<()> {
    let switch = || -> rustix::io::Result<()> {
        chdir(NEW)?;
        // Moved rather than only changed into, so that pivot_root works for who wants it.
        mount_move(".", "/")?;
        chroot(".")?;
        chdir("/")
    };
    switch().doing(|| "enter the root".to_owned())
}

/// Finds the places of what will be mounted, following the image's links, and makes what is
/// missing in the stubs' directory. Returns those of the supplied files, and with `keeps` the system's
/// directories that are missing: in an image from scratch a step leaves them, as in every builder.
fn supply_mount_points(
    root: &Root,
    attachments: &[Attachment],
    keeps: bool,
) -> std::result::Result<(Vec<Option<PathBuf>>, Vec<PathBuf>), Refusal> {
    fs_err::create_dir_all(STUBS).doing(|| format!("make `{STUBS}`"))?;
    fs_err::create_dir_all(NEW).doing(|| format!("make `{NEW}`"))?;
    mount("tmpfs", STUBS, "tmpfs", MountFlags::NODEV, c"mode=0755")
        .doing(|| "mount a tmpfs".to_owned())?;
    let stubs = Path::new(STUBS);
    look_into(&root.lowers, |seen| supply(seen, stubs, attachments, keeps))?
}

/// Shows what directories are together, the newest first.
pub(crate) fn look_into<T>(lowers: &[PathBuf], look: impl FnOnce(&Path) -> T) -> Result<T> {
    let [only] = lowers else {
        // The union of several is the kernel's to make.
        fs_err::create_dir_all(NEW).doing(|| format!("make `{NEW}`"))?;
        let options = options(lowers.iter(), None)?;
        let flags = MountFlags::RDONLY;
        mount("overlay", NEW, "overlay", flags, options.as_c_str())
            .doing(|| "mount an overlay to read".to_owned())?;
        let seen = look(Path::new(NEW));
        unmount(NEW, UnmountFlags::empty()).doing(|| "unmount an overlay".to_owned())?;
        return Ok(seen);
    };
    Ok(look(only))
}

fn supply(
    seen: &Path,
    stubs: &Path,
    attachments: &[Attachment],
    keeps: bool,
) -> std::result::Result<(Vec<Option<PathBuf>>, Vec<PathBuf>), Refusal> {
    let doing = || "supply mount points".to_owned();
    let mut places = Places::new(seen, stubs);
    let (mut targets, mut missing) = (Vec::new(), Vec::new());
    for file in FILES {
        targets.push(places.supply(Path::new(file), Kind::File).doing(doing)?);
    }
    for directory in DIRECTORIES {
        let directory = Path::new(directory);
        if keeps {
            missing.extend(places.keep(directory).doing(doing)?);
        } else {
            places.supply(directory, Kind::Directory).doing(doing)?;
        }
    }
    for attachment in attachments {
        places
            .supply(Path::new(&attachment.target), attachment.kind())
            .map_err(|error| attachment.refused(&error))?;
    }
    places.finish().doing(doing)?;
    Ok((targets, missing))
}

fn mount_root(root: &Root) -> Result<()> {
    let mut stubs = fs_err::read_dir(STUBS).doing(|| format!("read `{STUBS}`"))?;
    let first = stubs.next().map(|_| PathBuf::from(STUBS));
    mount_overlay(NEW, root, first.as_ref())
}

/// Mounts `root` at the directory `at`, with the directory `first` before all that is read.
pub(super) fn mount_overlay(at: &str, root: &Root, first: Option<&PathBuf>) -> Result<()> {
    fs_err::create_dir_all(at).doing(|| format!("make `{at}`"))?;
    prepare_upper(root)?;
    let options = options(first.into_iter().chain(&root.lowers), Some(root))?;
    match mount(
        "overlay",
        at,
        "overlay",
        MountFlags::empty(),
        options.as_c_str(),
    ) {
        Err(rustix::io::Errno::NODEV) => Err(GuestError::Kernel("overlay file system")),
        other => other.doing(|| "mount an overlay".to_owned()),
    }
}

/// Makes the directory that is written, with the attributes of what it covers: the root directory
/// of the result is this one.
fn prepare_upper(root: &Root) -> Result<()> {
    let doing = || format!("make `{}`", root.upper.display());
    fs_err::create_dir_all(&root.work).doing(doing)?;
    if root.upper.exists() {
        return Ok(());
    }
    fs_err::create_dir_all(&root.upper).doing(doing)?;
    let Some(below) = root.lowers.first() else {
        return Ok(());
    };
    crate::attributes::copy(below, &root.upper).doing(doing)
}

fn options<'a>(lowers: impl Iterator<Item = &'a PathBuf>, root: Option<&Root>) -> Result<CString> {
    let mut text = b"lowerdir=".to_vec();
    for (index, lower) in lowers.enumerate() {
        if index > 0 {
            text.push(b':');
        }
        text.extend(lower.as_os_str().as_bytes());
    }
    if let Some(root) = root {
        for (key, path) in [(",upperdir=", &root.upper), (",workdir=", &root.work)] {
            text.extend(key.as_bytes());
            text.extend(path.as_os_str().as_bytes());
        }
        if root.volatile {
            text.extend(b",volatile");
        }
    }
    // So that a directory above holds everything that changed, in a form that others read.
    text.extend(b",index=off,metacopy=off,redirect_dir=off");
    if text.len() > LONGEST_OPTIONS {
        return Err(GuestError::Kernel("room for so many steps in one stage"));
    }
    CString::new(text).doing(|| "name the root's directories".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_steps_fit_into_the_mounts_options() {
        let lowers: Vec<PathBuf> = (0..300)
            .rev()
            .map(|n| PathBuf::from(format!("/d/{n}")))
            .collect();
        assert!(options(lowers.iter(), None).is_ok());
        let lowers: Vec<PathBuf> = (0..900)
            .rev()
            .map(|n| PathBuf::from(format!("/d/{n}")))
            .collect();
        assert!(options(lowers.iter(), None).is_err());
    }
}
