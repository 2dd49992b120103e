//! Putting a process's root together, and entering it.
//!
//! The root is an overlay of the image and of what was changed since. Below everything lies one
//! more directory, which supplies the mount points that the image lacks; so nothing of ours is
//! ever in the directory above, whose content becomes a layer.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount,
    mount_change, mount_move, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, chroot};

use super::Root;
use super::inside::path;
use crate::error::{Doing as _, GuestError, Result};

/// Where the root is put together.
const NEW: &str = "/r";
/// The directory below everything.
const BOTTOM: &str = "/b";
/// Files of ours that the process sees in place of the image's.
pub(crate) const SUPPLIED: &str = "/f";
const FILES: [&str; 3] = ["etc/resolv.conf", "etc/hosts", "etc/hostname"];
const DIRECTORIES: [&str; 3] = ["proc", "sys", "dev"];
/// As in the kernel.
const MOST_LINKS: usize = 40;
/// What mount(2) takes, with the NUL at the end.
const LONGEST_OPTIONS: usize = 4095;

/// Makes the overlay the process's root, with the supplied files on their places.
pub(super) fn enter(root: &Root) -> Result<()> {
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .doing(|| "keep mounts private".to_owned())?;
    let targets = supply_mount_points(root)?;
    mount_overlay(root)?;
    let mut files: Vec<(OwnedFd, PathBuf)> = Vec::new();
    for (file, target) in FILES.iter().zip(targets) {
        let name = file.rsplit('/').next().unwrap_or_default();
        let source = Path::new(SUPPLIED).join(name);
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree =
            open_tree(CWD, &source, flags).doing(|| format!("open `{}`", source.display()))?;
        files.push((tree, target));
    }
    switch()?;
    for (tree, target) in files {
        let target = Path::new("/").join(target);
        move_mount(
            &tree,
            "",
            CWD,
            &target,
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )
        .doing(|| format!("mount a file on `{}`", target.display()))?;
    }
    Ok(())
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

/// Finds the places of the supplied files, following the image's links, and makes what is missing
/// in the bottom directory.
fn supply_mount_points(root: &Root) -> Result<Vec<PathBuf>> {
    fs_err::create_dir_all(BOTTOM).doing(|| format!("make `{BOTTOM}`"))?;
    fs_err::create_dir_all(NEW).doing(|| format!("make `{NEW}`"))?;
    mount("tmpfs", BOTTOM, "tmpfs", MountFlags::NODEV, c"mode=0755")
        .doing(|| "mount a tmpfs".to_owned())?;
    let [only] = &root.lowers[..] else {
        // The union of several is the kernel's to make.
        let options = options(&root.lowers, None)?;
        mount(
            "overlay",
            NEW,
            "overlay",
            MountFlags::RDONLY,
            options.as_c_str(),
        )
        .doing(|| "mount an overlay to read".to_owned())?;
        let targets = supply(Path::new(NEW));
        unmount(NEW, UnmountFlags::empty()).doing(|| "unmount an overlay".to_owned())?;
        return targets.doing(|| "supply mount points".to_owned());
    };
    supply(only).doing(|| "supply mount points".to_owned())
}

fn supply(seen: &Path) -> io::Result<Vec<PathBuf>> {
    supply_in(seen, Path::new(BOTTOM))
}

fn supply_in(seen: &Path, bottom: &Path) -> io::Result<Vec<PathBuf>> {
    for directory in DIRECTORIES {
        if fs_err::symlink_metadata(seen.join(directory)).is_err() {
            fs_err::create_dir_all(bottom.join(directory))?;
        }
    }
    let mut targets = Vec::new();
    for file in FILES {
        let target = resolve(seen, Path::new(file))?;
        if fs_err::symlink_metadata(seen.join(&target)).is_err() {
            let supplied = bottom.join(&target);
            if let Some(parent) = supplied.parent() {
                fs_err::create_dir_all(parent)?;
            }
            fs_err::write(supplied, "")?;
        }
        targets.push(target);
    }
    Ok(targets)
}

/// Where a path leads for a process whose root is `root`; the end of it need not exist.
fn resolve(root: &Path, wanted: &Path) -> io::Result<PathBuf> {
    let mut todo: Vec<Vec<u8>> = parts(wanted.as_os_str().as_bytes());
    let mut at = PathBuf::new();
    let mut links = 0;
    while let Some(part) = todo.pop() {
        if part == b".." {
            at.pop();
            continue;
        }
        let next = at.join(path(&part));
        match fs_err::read_link(root.join(&next)) {
            Ok(target) => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(io::Error::other(format!(
                        "`/{}` leads through too many links",
                        wanted.display()
                    )));
                }
                if target.is_absolute() {
                    at.clear();
                }
                todo.extend(parts(target.as_os_str().as_bytes()));
            }
            // Not a link, or not there.
            Err(_) => at = next,
        }
    }
    Ok(at)
}

/// A path's parts, the last first.
fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    firebuild_core::tree::components(path)
        .rev()
        .map(<[u8]>::to_vec)
        .collect()
}

fn mount_overlay(root: &Root) -> Result<()> {
    prepare_upper(root)?;
    let mut lowers = root.lowers.clone();
    let bottom_is_empty = fs_err::read_dir(BOTTOM)
        .doing(|| format!("read `{BOTTOM}`"))?
        .next()
        .is_none();
    if !bottom_is_empty {
        lowers.push(PathBuf::from(BOTTOM));
    }
    let options = options(&lowers, Some(root))?;
    match mount(
        "overlay",
        NEW,
        "overlay",
        MountFlags::empty(),
        options.as_c_str(),
    ) {
        Err(rustix::io::Errno::NODEV) => Err(GuestError::Kernel("overlay file system")),
        other => other.doing(|| "mount the root's overlay".to_owned()),
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

fn options(lowers: &[PathBuf], root: Option<&Root>) -> Result<CString> {
    let mut text = b"lowerdir=".to_vec();
    for (index, lower) in lowers.iter().enumerate() {
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

    fn supplied(build: impl FnOnce(&Path)) -> (Vec<String>, Vec<String>) {
        let directory = tempfile::tempdir().unwrap();
        let (seen, bottom) = (
            directory.path().join("seen"),
            directory.path().join("bottom"),
        );
        fs_err::create_dir_all(&seen).unwrap();
        fs_err::create_dir_all(&bottom).unwrap();
        build(&seen);
        let targets = supply_in(&seen, &bottom).unwrap();
        let made = [
            "proc",
            "sys",
            "dev",
            "etc",
            "etc/hosts",
            "etc/hostname",
            "etc/resolv.conf",
            "run/systemd/resolve/stub-resolv.conf",
        ];
        let made = made
            .into_iter()
            .filter(|path| fs_err::symlink_metadata(bottom.join(path)).is_ok());
        let targets = targets.iter().map(|path| path.display().to_string());
        (targets.collect(), made.map(str::to_owned).collect())
    }

    #[test]
    fn an_empty_image_is_supplied_with_everything() {
        let (targets, made) = supplied(|_| {});
        assert_eq!(targets, ["etc/resolv.conf", "etc/hosts", "etc/hostname"]);
        assert_eq!(
            made,
            [
                "proc",
                "sys",
                "dev",
                "etc",
                "etc/hosts",
                "etc/hostname",
                "etc/resolv.conf"
            ]
        );
    }

    #[test]
    fn a_whole_image_is_supplied_with_nothing() {
        let (_, made) = supplied(|seen| {
            for directory in ["proc", "sys", "dev", "etc"] {
                fs_err::create_dir(seen.join(directory)).unwrap();
            }
            for file in FILES {
                fs_err::write(seen.join(file), "").unwrap();
            }
        });
        assert_eq!(made, [""; 0]);
    }

    #[test]
    fn a_dangling_link_is_followed_within_the_image() {
        for target in [
            "/run/systemd/resolve/stub-resolv.conf",
            "../run/systemd/resolve/stub-resolv.conf",
            "../../../../run/./systemd/resolve/stub-resolv.conf",
        ] {
            let (targets, made) = supplied(|seen| {
                fs_err::create_dir(seen.join("etc")).unwrap();
                std::os::unix::fs::symlink(target, seen.join("etc/resolv.conf")).unwrap();
            });
            assert_eq!(targets[0], "run/systemd/resolve/stub-resolv.conf");
            assert!(made.contains(&targets[0]), "{made:?}");
            assert!(!made.contains(&"etc/resolv.conf".to_owned()), "{made:?}");
        }
    }

    #[test]
    fn a_circle_of_links_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("b", directory.path().join("a")).unwrap();
        std::os::unix::fs::symlink("a", directory.path().join("b")).unwrap();
        assert!(resolve(directory.path(), Path::new("a/x")).is_err());
    }

    #[test]
    fn many_steps_fit_into_the_mounts_options() {
        let lowers: Vec<PathBuf> = (0..300)
            .rev()
            .map(|n| PathBuf::from(format!("/d/{n}")))
            .collect();
        assert!(options(&lowers, None).is_ok());
        let lowers: Vec<PathBuf> = (0..900)
            .rev()
            .map(|n| PathBuf::from(format!("/d/{n}")))
            .collect();
        assert!(options(&lowers, None).is_err());
    }
}
