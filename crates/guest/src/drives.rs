//! The VM's drives: the images of the root file system, which are read-only and shared with other VMs,
//! the VM's own, in a build VM those of caches, and in any other those of volumes, which others have
//! before and after it.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

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
/// Where those of volumes and snapshots are.
const VOLUMES: &str = "/v";

/// What the host calls the drives, in their order.
static ORDER: OnceLock<Vec<String>> = OnceLock::new();

/// Mounts the images of the root file system, of which there are `images`, and the VM's own drive.
/// `throwaway` says that nothing on that one outlives the VM; `root` which image alone the VM may use.
/// Returns where the images are, in the order of an overlay's lower directories: the highest first.
pub(crate) fn mount_own(
    images: u8,
    throwaway: bool,
    root: Option<&RootVerity>,
) -> Result<Vec<PathBuf>> {
    let lowers = match root {
        Some(root) => vec![mount_verified(&find("root")?, root)?],
        None => mount_images(images)?,
    };
    let disk = find("disk")?;
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
        let drive = find(&format!("root{suffix}"))?;
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
    let device = find(serial)?;
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

/// Mounts the drive of a volume or a snapshot as the VM's `number`th.
pub(crate) fn mount_volume(serial: &str, number: usize) -> Result<PathBuf> {
    let device = find(serial)?;
    let target = format!("{VOLUMES}/{number}");
    let mounted = if cannot_be_written(&device) {
        let flags = MountFlags::NOATIME | MountFlags::RDONLY;
        mount_ext4(&device, &target, flags, c"")
    } else {
        // What is removed is given back to the host, where the kernel can tell it.
        let told = c"discard,noinit_itable";
        mount_ext4(&device, &target, MountFlags::NOATIME, told)
            .or_else(|_| mount_ext4(&device, &target, MountFlags::NOATIME, c""))
    };
    mounted.map(|()| target.into())
}

fn cannot_be_written(device: &Path) -> bool {
    let name = device.file_name().unwrap_or_default();
    let flag = Path::new("/sys/block").join(name).join("ro");
    fs_err::read_to_string(flag).is_ok_and(|text| text.trim() == "1")
}

/// Whether what is mounted at `at` cannot be written.
pub(crate) fn is_read_only(at: &Path) -> Result<bool> {
    let found = rustix::fs::statvfs(at).doing(|| format!("look at `{}`", at.display()))?;
    Ok(found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

/// Brings all on the drives of caches and volumes to rest, and unmounts them, as far as nobody holds
/// them.
pub(crate) fn release_further() {
    for directory in [CACHES, VOLUMES] {
        for entry in fs_err::read_dir(directory).into_iter().flatten().flatten() {
            // First this, because a namespace that is kept has it mounted as well. What is still open
            // keeps it writable; then the journal has to do.
            let _ = mount_remount(entry.path(), MountFlags::RDONLY, c"");
            let _ = unmount(entry.path(), UnmountFlags::empty());
        }
    }
}

/// Notes what the host calls the drives, in their order; to be called once.
pub(crate) fn set_order(names: Vec<String>) {
    let _ = ORDER.set(names);
}

/// The drive of a name.
fn find(name: &str) -> Result<PathBuf> {
    let order = ORDER.get().map(Vec::as_slice).unwrap_or_default();
    locate(&drives()?, order, name).ok_or_else(|| GuestError::Drive(name.to_owned()))
}

/// The drive of a name among `drives` and their serial numbers.
///
/// QEMU gives them their names as serial numbers, and enumerates buses in no order that could be
/// relied on. Firecracker makes up serial numbers of its own, and has the drives in the order in
/// which it was told of them. So if there is any serial number of the host's, those count, and else
/// the order.
fn locate(drives: &[(PathBuf, String)], order: &[String], name: &str) -> Option<PathBuf> {
    if let Some((device, _)) = drives.iter().find(|(_, serial)| serial == name) {
        return Some(device.clone());
    }
    if drives.iter().any(|(_, serial)| order.contains(serial)) {
        return None;
    }
    let number = order.iter().position(|known| known == name)?;
    let letter = char::from(b'a'.checked_add(u8::try_from(number).ok()?)?);
    let path = PathBuf::from(format!("/dev/vd{letter}"));
    let is_there = letter.is_ascii_lowercase() && drives.iter().any(|(device, _)| *device == path);
    is_there.then_some(path)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> Vec<String> {
        ["root", "root1", "disk", "cache0"]
            .map(str::to_owned)
            .into()
    }

    fn located(serials: &[(char, &str)]) -> Vec<Option<String>> {
        let drives: Vec<(PathBuf, String)> = serials
            .iter()
            .map(|(letter, serial)| (format!("/dev/vd{letter}").into(), (*serial).to_owned()))
            .collect();
        let order = order();
        let found = order.iter().map(|name| locate(&drives, &order, name));
        found
            .map(|found| found.map(|path| path.display().to_string()))
            .collect()
    }

    #[test]
    fn serial_numbers_of_the_hosts_count() {
        let drives = [
            ('a', "cache0"),
            ('b', "disk"),
            ('c', "root1"),
            ('d', "root"),
        ];
        let expected = ["/dev/vdd", "/dev/vdc", "/dev/vdb", "/dev/vda"];
        assert_eq!(located(&drives), expected.map(|it| Some(it.to_owned())));
        // One that is missing is missing: the order says nothing then.
        let found = located(&[('a', "disk"), ('b', "root")]);
        assert_eq!(found[1], None);
        assert_eq!(found[3], None);
    }

    #[test]
    fn without_them_the_order_counts() {
        let expected =
            ["/dev/vda", "/dev/vdb", "/dev/vdc", "/dev/vdd"].map(|it| Some(it.to_owned()));
        // Sorted as the directory has them, which is in no order.
        assert_eq!(
            located(&[('c', ""), ('a', ""), ('d', ""), ('b', "")]),
            expected
        );
        // As Firecracker makes them of the files' devices and numbers.
        let made = [
            ('a', "64768012345678"),
            ('b', "64768012345679"),
            ('c', "64768012345680"),
            ('d', "64768012345681"),
        ];
        assert_eq!(located(&made), expected);
        assert_eq!(located(&made[..2])[2..], [None, None]);
        assert_eq!(locate(&[], &order(), "root"), None);
        assert_eq!(
            locate(&[("/dev/vda".into(), String::new())], &[], "root"),
            None
        );
    }
}
