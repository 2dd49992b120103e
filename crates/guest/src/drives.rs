//! The VM's drives: the images of the root file system, which are read-only and shared with other VMs,
//! the VM's own, and in a build VM those of caches, which others have before and after it.

use std::path::{Path, PathBuf};

use firebuild_protocol::boot::RootVerity;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

use crate::error::{Doing as _, GuestError, Result};
use crate::verity;

/// Where the lowest image of the root file system is mounted; a number follows for those over it.
const IMAGE: &str = "/i";
/// Where the VM's own is. Short, because the list of an overlay's directories has 4096 bytes.
pub(crate) const DISK: &str = "/d";

/// Where those of caches are, each in a directory of its own.
const CACHES: &str = "/c";

/// Mounts the images of the root file system, of which there are `images`, and the VM's own drive.
/// `throwaway` says that nothing on that one outlives the VM; `root` which image alone the VM may use.
/// Returns where the images are, in the order of an overlay's lower directories: the highest first.
pub(crate) fn mount_own(
    images: u8,
    throwaway: bool,
    root: Option<&RootVerity>,
) -> Result<Vec<PathBuf>> {
    let lowers = match root {
        Some(root) => vec![mount_verified(&find("root", 0)?, root)?],
        None => mount_images(images)?,
    };
    let disk = find("disk", images)?;
    let options = if throwaway {
        c"nobarrier,noinit_itable"
    } else {
        c"noinit_itable"
    };
    mount_ext4(&disk, DISK, MountFlags::NOATIME, options)?;
    Ok(lowers)
}

fn mount_images(images: u8) -> Result<Vec<PathBuf>> {
    let mut lowers = Vec::new();
    for number in 0..images {
        let suffix = match number {
            0 => String::new(),
            number => number.to_string(),
        };
        let drive = find(&format!("root{suffix}"), number)?;
        lowers.insert(0, mount_image(&drive, format!("{IMAGE}{suffix}"))?);
    }
    Ok(lowers)
}

/// Mounts the image's drive, whose every byte is verified.
fn mount_verified(drive: &Path, root: &RootVerity) -> Result<PathBuf> {
    let device = verity::open(drive, root)?;
    mount_image(&device, IMAGE.to_owned()).map_err(|error| GuestError::Unverified(Box::new(error)))
}

fn mount_image(device: &Path, target: String) -> Result<PathBuf> {
    let flags = MountFlags::RDONLY | MountFlags::NOATIME;
    mount_ext4(device, &target, flags, c"")?;
    Ok(target.into())
}

fn mount_ext4(
    device: &Path,
    target: &str,
    flags: MountFlags,
    options: &std::ffi::CStr,
) -> Result<()> {
    fs_err::create_dir_all(target).doing(|| format!("make `{target}`"))?;
    mount(device, target, "ext4", flags, options)
        .doing(|| format!("mount drive `{}`", device.display()))
}

/// Mounts a cache's drive as the VM's `number`th.
pub(crate) fn mount_cache(serial: &str, number: usize) -> Result<PathBuf> {
    let device = by_serial(serial)?.ok_or_else(|| GuestError::Drive(serial.to_owned()))?;
    let target = format!("{CACHES}/{number}");
    // What is removed is given back to the host, where the kernel can tell it.
    let told = c"discard,noinit_itable";
    mount_ext4(&device, &target, MountFlags::NOATIME, told)
        .or_else(|_| mount_ext4(&device, &target, MountFlags::NOATIME, c""))
        .map_err(|error| GuestError::Cache {
            serial: serial.to_owned(),
            source: Box::new(error),
        })?;
    Ok(PathBuf::from(target))
}

/// Unmounts the drives of caches, as far as nobody holds them.
pub(crate) fn release_caches() {
    for entry in fs_err::read_dir(CACHES).into_iter().flatten().flatten() {
        if unmount(entry.path(), UnmountFlags::empty()).is_err() {
            // What is still open keeps it writable; then the journal has to do.
            let _ = mount_remount(entry.path(), MountFlags::RDONLY, c"");
        }
    }
}

/// The drive with a serial number; buses are enumerated in no order that could be relied on. A VMM
/// that gives no serial numbers is trusted to have the drives in their order, where this is the one
/// of that `number`.
fn find(serial: &str, number: u8) -> Result<PathBuf> {
    if let Some(device) = by_serial(serial)? {
        return Ok(device);
    }
    let letter = char::from(b'a'.saturating_add(number));
    let path = PathBuf::from(format!("/dev/vd{letter}"));
    let serials = drives()?
        .iter()
        .filter(|(_, known)| !known.is_empty())
        .count();
    if serials < 2 && path.exists() {
        Ok(path)
    } else {
        Err(GuestError::Drive(serial.to_owned()))
    }
}

fn by_serial(serial: &str) -> Result<Option<PathBuf>> {
    let found = drives()?.into_iter().find(|(_, known)| known == serial);
    Ok(found.map(|(device, _)| device))
}

/// All drives, and their serial numbers.
fn drives() -> Result<Vec<(PathBuf, String)>> {
    let mut drives = Vec::new();
    for entry in fs_err::read_dir("/sys/block").doing(|| "list the drives".to_owned())? {
        let entry = entry.doing(|| "list the drives".to_owned())?;
        let serial = fs_err::read_to_string(entry.path().join("serial")).unwrap_or_default();
        let serial = serial.trim_matches(['\0', '\n', ' ']).to_owned();
        drives.push((Path::new("/dev").join(entry.file_name()), serial));
    }
    Ok(drives)
}
