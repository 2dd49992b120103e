//! The VM's two drives: the image, which is read-only and shared with other VMs, and the VM's own.

use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, mount};

use crate::error::{Doing as _, GuestError, Result};

/// Where the image's file system is mounted.
pub(crate) const IMAGE: &str = "/i";
/// Where the VM's own is. Short, because the list of an overlay's directories has 4096 bytes.
pub(crate) const DISK: &str = "/d";

/// Mounts both drives. `throwaway` says that nothing on the VM's own disk outlives the VM.
pub(crate) fn mount_both(throwaway: bool) -> Result<()> {
    let image = find("root", "vda")?;
    let disk = find("disk", "vdb")?;
    mount_ext4(&image, IMAGE, MountFlags::RDONLY | MountFlags::NOATIME, c"")?;
    let options = if throwaway {
        c"nobarrier,noinit_itable"
    } else {
        c"noinit_itable"
    };
    mount_ext4(&disk, DISK, MountFlags::NOATIME, options)
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

/// The drive with a serial number; buses are enumerated in no order that could be relied on. A VMM
/// that gives no serial numbers is trusted to have the drives in their order.
fn find(serial: &'static str, otherwise: &str) -> Result<PathBuf> {
    let mut serials = 0;
    for entry in fs_err::read_dir("/sys/block").doing(|| "list the drives".to_owned())? {
        let entry = entry.doing(|| "list the drives".to_owned())?;
        let known = fs_err::read_to_string(entry.path().join("serial")).unwrap_or_default();
        let known = known.trim_matches(['\0', '\n', ' ']);
        if known == serial {
            return Ok(Path::new("/dev").join(entry.file_name()));
        }
        serials += usize::from(!known.is_empty());
    }
    let path = Path::new("/dev").join(otherwise);
    if serials < 2 && path.exists() {
        Ok(path)
    } else {
        Err(GuestError::Drive(serial))
    }
}
