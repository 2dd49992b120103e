//! How a file that is open here gets into a jail: by the cheapest way that there is, and never by a
//! copy of a disk.
//!
//! A hard link costs nothing and leaves no trace but a name; a reflink shares blocks; a bind mount
//! works between file systems, but every mount makes every later start slower. What is small or
//! only in memory is copied. What a guest writes to has to be the file itself.

use std::fs::File;
use std::io::{self, Seek as _};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, fchmod, fchown, ioctl_ficlone, linkat};

use super::jail::{gid, uid};
use crate::vmm::ids::Ids;

/// The most bytes that are copied: an initramfs, or a kernel if nothing else can be done.
const COPIED: u64 = 96 << 20;

/// What Firecracker may do with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Others read it, too.
    Read,
    /// It is this VM's alone, which runs as these.
    Write(Ids),
}

/// How a file got into a jail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// It has one more name.
    HardLink,
    /// Its blocks are shared.
    Reflink,
    /// It is mounted.
    BindMount,
    /// It is copied.
    Copy,
}

/// Brings `file` to `target`, where nothing is.
///
/// # Errors
/// None of the ways is open.
pub(super) fn bring(file: &File, target: &Path, access: Access) -> io::Result<Way> {
    let metadata = file.metadata()?;
    if let Access::Write(ids) = access {
        // Firecracker opens it by name, as its own user.
        fchown(file, Some(uid(ids)), Some(gid(ids)))?;
        return link(file, target).or_else(|_| mount(file, target));
    }
    // A file without a name, as those in memory are, can only be copied. A device is empty to us.
    let nameless = metadata.nlink() == 0 || !metadata.is_file();
    if nameless {
        return copy(file, target);
    }
    // Its owner stays as it is, so it has to let everybody in. Nobody gets there but by a jail: who
    // does not own the store cannot look for names in it.
    let open_to_all = metadata.mode() & 0o004 != 0
        || fchmod(file, (metadata.mode() & 0o7777 | 0o004).into()).is_ok();
    if open_to_all && let Ok(way) = link(file, target) {
        return Ok(way);
    }
    if let Ok(way) = reflink(file, target) {
        return Ok(way);
    }
    if open_to_all && let Ok(way) = mount(file, target) {
        return Ok(way);
    }
    if metadata.len() <= COPIED {
        return copy(file, target);
    }
    Err(io::Error::other(
        "it is too large to be copied, and can neither be linked nor mounted",
    ))
}

fn link(file: &File, target: &Path) -> io::Result<Way> {
    linkat(CWD, this(file), CWD, target, AtFlags::SYMLINK_FOLLOW)?;
    Ok(Way::HardLink)
}

fn reflink(file: &File, target: &Path) -> io::Result<Way> {
    let new = create(target)?;
    if let Err(error) = ioctl_ficlone(&new, file) {
        fs_err::remove_file(target)?;
        return Err(error.into());
    }
    fchmod(&new, 0o444.into())?;
    Ok(Way::Reflink)
}

fn mount(file: &File, target: &Path) -> io::Result<Way> {
    drop(create(target)?);
    if let Err(error) = rustix::mount::mount_bind(this(file), target) {
        fs_err::remove_file(target)?;
        return Err(error.into());
    }
    Ok(Way::BindMount)
}

fn copy(file: &File, target: &Path) -> io::Result<Way> {
    let mut from = file.try_clone()?;
    if file.metadata()?.is_file() {
        from.rewind()?;
    }
    let mut new = create(target)?;
    let copied = io::copy(&mut io::Read::take(&mut from, COPIED + 1), &mut new)?;
    if copied > COPIED {
        fs_err::remove_file(target)?;
        return Err(io::Error::other("it is too large to be copied"));
    }
    fchmod(&new, 0o444.into())?;
    Ok(Way::Copy)
}

fn create(target: &Path) -> io::Result<File> {
    let mut options = fs_err::OpenOptions::new();
    let options = options.write(true).create_new(true);
    fs_err::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    Ok(options.open(target)?.into_parts().0)
}

/// The name under which an open file can be linked or mounted.
fn this(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn open(path: &Path) -> File {
        fs_err::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .unwrap()
            .into_parts()
            .0
    }

    fn own() -> Access {
        Access::Write(Ids {
            uid: 700_009,
            gid: 700_010,
            device_group: None,
        })
    }

    #[test]
    fn pitfall_07_files_of_the_same_file_system_are_linked_and_nothing_is_mounted() {
        let mounts = || {
            let table = fs_err::read_to_string("/proc/self/mountinfo").unwrap();
            table.matches("jail-of-pitfall-7").count()
        };
        let directory = tempfile::Builder::new()
            .prefix("jail-of-pitfall-7")
            .tempdir()
            .unwrap();
        let file = open(&directory.path().join("image"));
        file.set_len(1 << 40).unwrap();
        file.set_permissions(std::fs::Permissions::from_mode(0o644))
            .unwrap();
        let target = directory.path().join("shared");
        assert_eq!(bring(&file, &target, Access::Read).unwrap(), Way::HardLink);
        let shared = fs_err::metadata(&target).unwrap();
        assert_eq!(
            (shared.ino(), shared.uid()),
            (file.metadata().unwrap().ino(), 0)
        );
        let target = directory.path().join("own");
        assert_eq!(bring(&file, &target, own()).unwrap(), Way::HardLink);
        let owned = fs_err::metadata(&target).unwrap();
        assert_eq!((owned.uid(), owned.gid()), (700_009, 700_010));
        assert_eq!(mounts(), 0);
    }

    #[test]
    fn disks_of_another_file_system_are_mounted_and_never_copied() {
        let directory = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir_in("/dev/shm").unwrap();
        let file = open(&other.path().join("disk"));
        file.set_permissions(std::fs::Permissions::from_mode(0o644))
            .unwrap();
        // Sparse: a copy would fill the file system.
        file.set_len(1 << 40).unwrap();
        for (name, access) in [("own", own()), ("shared", Access::Read)] {
            let target = directory.path().join(name);
            assert_eq!(
                bring(&file, &target, access).unwrap(),
                Way::BindMount,
                "{name}"
            );
            let inside = fs_err::metadata(&target).unwrap();
            assert_eq!(inside.ino(), file.metadata().unwrap().ino());
            rustix::mount::unmount(&target, rustix::mount::UnmountFlags::empty()).unwrap();
        }
    }

    #[test]
    fn an_image_that_only_its_owner_reads_is_opened_to_its_vms_and_stays_its_owners() {
        let directory = tempfile::tempdir().unwrap();
        let file = open(&directory.path().join("image"));
        file.set_permissions(std::fs::Permissions::from_mode(0o600))
            .unwrap();
        let target = directory.path().join("shared");
        assert_eq!(bring(&file, &target, Access::Read).unwrap(), Way::HardLink);
        let metadata = fs_err::metadata(&target).unwrap();
        assert_eq!((metadata.uid(), metadata.mode() & 0o777), (0, 0o604));
    }

    #[test]
    fn what_is_only_in_memory_is_copied() {
        let directory = tempfile::tempdir().unwrap();
        let file = crate::vmm::qemu::in_memory(b"initramfs").unwrap();
        let target = directory.path().join("initramfs");
        assert_eq!(bring(&file, &target, Access::Read).unwrap(), Way::Copy);
        assert_eq!(fs_err::read(&target).unwrap(), b"initramfs");
        assert_eq!(fs_err::metadata(&target).unwrap().mode() & 0o777, 0o444);
        // Nothing is ever written over.
        assert!(bring(&file, &target, Access::Read).is_err());
    }
}
