//! A RUN's files that must never reach a disk: a file system in memory, gone when the step is.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use firebuild_protocol::command::Access;
use firebuild_protocol::metadata::Network;
use rustix::fs::{Gid, Uid, chown};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::error::{Doing as _, Result};
use crate::init::hosts;

/// Where it is mounted.
const MEMORY: &str = "/m";

/// The file system, mounted while this lives.
pub(super) struct Memory {
    files: u32,
}

impl Memory {
    /// Mounts it, empty.
    pub(super) fn mount() -> Result<Self> {
        fs_err::create_dir_all(MEMORY).doing(|| format!("make `{MEMORY}`"))?;
        let flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
        mount("tmpfs", MEMORY, "tmpfs", flags, c"mode=0700")
            .doing(|| "mount a tmpfs".to_owned())?;
        Ok(Self { files: 0 })
    }

    /// A name that nothing has yet.
    pub(super) fn place(&mut self) -> PathBuf {
        self.files += 1;
        Path::new(MEMORY).join(self.files.to_string())
    }

    /// Writes a file.
    pub(super) fn file(&mut self, content: &[u8], access: Access) -> Result<PathBuf> {
        let at = self.place();
        fs_err::write(&at, content).doing(|| "write a secret's file".to_owned())?;
        give(&at, access)?;
        Ok(at)
    }

    /// Writes the files that tell a machine's name. The directory that holds them is returned.
    pub(super) fn supply(&mut self, hostname: &str, network: &Network) -> Result<PathBuf> {
        let at = self.place();
        let write = || {
            fs_err::create_dir(&at)?;
            fs_err::write(at.join("hostname"), format!("{hostname}\n"))?;
            fs_err::write(at.join("hosts"), hosts(hostname, network))
        };
        write().doing(|| "write a step's files".to_owned())?;
        Ok(at)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // Whoever still has it open keeps it until then.
        let _ = unmount(MEMORY, UnmountFlags::DETACH);
    }
}

/// Gives a file its owner and mode.
pub(super) fn give(at: &Path, access: Access) -> Result<()> {
    let doing = || format!("set the owner and mode of `{}`", at.display());
    let (uid, gid) = (Uid::from_raw(access.uid), Gid::from_raw(access.gid));
    chown(at, Some(uid), Some(gid)).doing(doing)?;
    let mode = std::fs::Permissions::from_mode(u32::from(access.mode) & 0o7777);
    fs_err::set_permissions(at, mode).doing(doing)
}
