//! What a workload has mounted in its root: volumes, snapshots, directories of the host.
//!
//! A volume's drive holds directories, and each mount is one of them. One that is missing is new: it is
//! made with the content of what it is mounted over, beside its place, and put there when all of that
//! is on the disk. So a VM that is killed meanwhile leaves nothing half-made that would be taken for
//! whole.

mod fill;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use firebuild_protocol::mount::{Memory, Mount, Source as Told, drive_serial};
use firebuild_protocol::secret::Secret;
use rustix::mount::{MountFlags, mount};

use crate::drives;
use crate::error::{Doing as _, GuestError, Result};
use crate::launch::{Attachment, Source};

/// Where the host's directories are, each in one of its own.
const SHARES: &str = "/h";
/// Where secrets are.
const SECRETS: &str = "/s";

/// Mounts all that `mounts` need, and returns where a process finds them. The root is made of `layers`,
/// the highest first.
pub(crate) fn prepare(mounts: &[Mount], layers: &[PathBuf]) -> Result<Vec<Attachment>> {
    let mut drives = BTreeMap::new();
    let mut shares = BTreeMap::new();
    let mut attachments = Vec::new();
    for mount in mounts {
        let source = match &mount.source {
            Told::Drive { number, directory } => {
                let drive = match drives.get(number) {
                    Some(drive) => drive,
                    None => {
                        let at = usize::from(*number);
                        let drive = drives::mount_volume(&drive_serial(*number), at)?;
                        drives.entry(*number).or_insert(drive)
                    }
                };
                Source::Directory(directory_of(drive, directory, &mount.target, layers)?)
            }
            Told::Memory(memory) => Source::Memory(*memory),
            Told::Shared { tag } => {
                let number = shares.len();
                let at = match shares.get(tag) {
                    Some(at) => at,
                    None => shares.entry(tag.clone()).or_insert(share(tag, number)?),
                };
                Source::Directory(PathBuf::clone(at))
            }
        };
        attachments.push(Attachment {
            target: mount.target.clone(),
            source,
            read_only: mount.read_only,
        });
    }
    Ok(attachments)
}

/// The directory of a drive that is mounted on `target`.
fn directory_of(drive: &Path, name: &str, target: &str, layers: &[PathBuf]) -> Result<PathBuf> {
    if name.is_empty() || name.contains(['/', '\0']) || name.starts_with('.') {
        return Err(GuestError::Told(format!("`{name}` is no directory's name")));
    }
    let directory = drive.join(name);
    let new = drive.join(format!(".{name}.new"));
    match fs_err::symlink_metadata(&directory) {
        Ok(found) if found.is_dir() => return Ok(directory),
        Ok(_) => return Err(GuestError::Volume(target.to_owned())),
        Err(_) if drives::is_read_only(drive)? => {
            return Err(GuestError::Volume(target.to_owned()));
        }
        Err(_) => {}
    }
    let doing = || format!("fill the volume on `{target}`");
    // What was left by a VM that was killed.
    if fs_err::symlink_metadata(&new).is_ok() {
        fs_err::remove_dir_all(&new).doing(doing)?;
    }
    fill::fill(layers, target, &new)?;
    let whole = fs_err::File::open(drive).doing(doing)?;
    rustix::fs::syncfs(whole.file()).doing(doing)?;
    fs_err::rename(&new, &directory).doing(doing)?;
    Ok(directory)
}

/// Mounts a directory of the host's as the VM's `number`th.
fn share(tag: &str, number: usize) -> Result<PathBuf> {
    let target = format!("{SHARES}/{number}");
    fs_err::create_dir_all(&target).doing(|| format!("make `{target}`"))?;
    match mount(tag, &target, "virtiofs", MountFlags::NODEV, c"") {
        Err(rustix::io::Errno::NODEV) => Err(GuestError::Kernel("virtio-fs")),
        other => other.doing(|| format!("mount the host's directory `{tag}`")),
    }?;
    Ok(target.into())
}

/// Writes secrets to memory, and returns where a process finds them. Nobody but its owner can read one.
pub(crate) fn keep_secret(secrets: &[Secret]) -> Result<Vec<Attachment>> {
    if secrets.is_empty() {
        return Ok(Vec::new());
    }
    let doing = || "keep secrets".to_owned();
    fs_err::create_dir_all(SECRETS).doing(doing)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    // They must not be swapped out, should there be anything to swap to; older kernels have no word
    // for that.
    mount("ramfs", SECRETS, "ramfs", flags, c"mode=0700").doing(doing)?;
    let mut attachments = Vec::new();
    for (number, secret) in secrets.iter().enumerate() {
        let path = Path::new(SECRETS).join(number.to_string());
        fs_err::write(&path, &secret.content).doing(doing)?;
        std::os::unix::fs::chown(&path, Some(secret.uid), Some(secret.gid)).doing(doing)?;
        let mode = std::fs::Permissions::from_mode(secret.mode.into());
        fs_err::set_permissions(&path, mode).doing(doing)?;
        attachments.push(Attachment {
            target: secret.target.clone(),
            source: Source::Data(path),
            read_only: true,
        });
    }
    Ok(attachments)
}

/// A file system in memory as a build's steps have it.
pub(crate) fn memory_of_step(size: Option<u64>) -> Source {
    Source::Memory(Memory {
        size,
        mode: None,
        executable: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_directory_has_what_it_hides_and_an_old_one_what_it_had() {
        let scratch = tempfile::tempdir().unwrap();
        let (layer, drive) = (scratch.path().join("layer"), scratch.path().join("drive"));
        fs_err::create_dir_all(layer.join("srv/www")).unwrap();
        fs_err::create_dir_all(&drive).unwrap();
        fs_err::write(layer.join("srv/www/index"), "hello").unwrap();
        let layers = [layer.clone()];
        let at = directory_of(&drive, "data", "/srv/www", &layers).unwrap();
        assert_eq!(at, drive.join("data"));
        assert_eq!(fs_err::read_to_string(at.join("index")).unwrap(), "hello");
        fs_err::remove_file(at.join("index")).unwrap();
        // What an earlier VM was killed over.
        fs_err::create_dir_all(drive.join(".other.new/half")).unwrap();
        directory_of(&drive, "data", "/srv/www", &layers).unwrap();
        assert!(!at.join("index").exists());
        let other = directory_of(&drive, "other", "/none", &layers).unwrap();
        assert_eq!(fs_err::read_dir(other).unwrap().count(), 0);
        assert!(!drive.join(".other.new").exists());
    }

    #[test]
    fn what_a_guest_left_in_the_place_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let drive = scratch.path();
        fs_err::write(drive.join("file"), "").unwrap();
        std::os::unix::fs::symlink("/etc", drive.join("link")).unwrap();
        for name in ["file", "link", "", "..", "a/b", ".data.new"] {
            assert!(directory_of(drive, name, "/x", &[]).is_err(), "{name}");
        }
    }
}
