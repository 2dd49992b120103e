//! The directory that a VM's Firecracker is locked into: `BASE/PROGRAM/ID/root`, which the jailer
//! makes its root.
//!
//! What must hold: whatever is in a jail goes with [`Jail::remove`], in whatever state it is: half
//! made, in use until just now, or what a reboot has left of it, which is the files without the
//! mounts. Files of the store that are in a jail are never harmed by that.

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use firebuild_core::MachineId;
use rustix::fs::{CWD, FileType, Mode};
use rustix::mount::{UnmountFlags, unmount};

use super::bring::{self, Access, Way};
use super::options::FirecrackerOptions;
use crate::Error;
use crate::paths::SOCKET_PATH_LIMIT;
use crate::vmm::Launch;
use crate::vmm::ids::Ids;

/// The kernel, in the jail.
pub(super) const KERNEL: &str = "/vm.kernel";
/// The initramfs, in the jail.
pub(super) const INITRAMFS: &str = "/vm.initramfs";
/// The VM's own disk, in the jail.
pub(super) const DISK: &str = "/vm.disk";
/// The pipe that Firecracker writes its log to, in the jail.
pub(super) const LOG: &str = "/vm.log";
/// The socket of Firecracker's interface, in the jail: its default.
pub(super) const SOCKET: &str = "/run/firecracker.socket";

/// An image of the root file system, in the jail.
pub(super) fn root(index: usize) -> String {
    format!("/vm.root{index}")
}

/// An attached disk, in the jail.
pub(super) fn attached(index: usize) -> String {
    format!("/vm.attached{index}")
}

/// A VM's jail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Jail {
    base: PathBuf,
    directory: PathBuf,
}

impl Jail {
    /// The jail of VM `id`, run by `program`, which is no link: the jailer goes by its real name.
    pub(crate) fn of(options: &FirecrackerOptions, program: &Path, id: &MachineId) -> Self {
        let name = program.file_name().unwrap_or(program.as_os_str());
        Self {
            base: options.chroot_base.clone(),
            directory: options.chroot_base.join(name).join(id.as_str()),
        }
    }

    /// What Firecracker has as its root.
    pub(super) fn root(&self) -> PathBuf {
        self.directory.join("root")
    }

    /// Where something of the jail is on the host.
    pub(super) fn outside(&self, inside: &str) -> PathBuf {
        self.root().join(inside.trim_start_matches('/'))
    }

    /// The file in which the jailer notes Firecracker's process id.
    #[cfg(feature = "testing")]
    pub(super) fn pid_file(&self, program: &Path) -> PathBuf {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        self.outside(&format!("{name}.pid"))
    }

    /// Checks that its socket can be connected to from the host.
    ///
    /// # Errors
    /// [`Error::SocketPath`], [`Error::Spec`].
    pub(super) fn check(&self) -> Result<(), Error> {
        if !self.base.is_absolute() {
            return Err(Error::Spec(format!(
                "the directory of jails `{}` is not an absolute path",
                self.base.display()
            )));
        }
        let path = self.outside(SOCKET);
        if path.as_os_str().len() > SOCKET_PATH_LIMIT {
            let root = self.base.clone();
            return Err(Error::SocketPath { path, root });
        }
        Ok(())
    }

    /// Makes the jail with all that `launch` brings into it, for `ids`.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Spec`].
    pub(super) fn fill(&self, launch: &Launch, ids: Ids) -> Result<Vec<Way>, Error> {
        let doing = || format!("make the jail `{}`", self.directory.display());
        self.make_base()?;
        // The jailer does not overwrite what another VM's life has left.
        self.remove().map_err(|source| Error::io(doing(), source))?;
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(self.directory.parent().unwrap_or(&self.base))
            .and_then(|()| {
                std::fs::DirBuilder::new()
                    .mode(0o700)
                    .create(&self.directory)
            })
            .and_then(|()| std::fs::DirBuilder::new().mode(0o700).create(self.root()));
        made.map_err(|source| Error::io(doing(), source))?;
        let log = self.outside(LOG);
        rustix::fs::mknodat(CWD, &log, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .and_then(|()| rustix::fs::chown(&log, Some(uid(ids)), Some(gid(ids))))
            .map_err(|source| Error::io(doing(), source))?;
        let mut files = vec![
            (&launch.kernel, KERNEL.to_owned(), Access::Read),
            (&launch.initramfs, INITRAMFS.to_owned(), Access::Read),
            (&launch.disk, DISK.to_owned(), Access::Write(ids)),
        ];
        for (index, image) in launch.roots.iter().enumerate() {
            files.push((image, root(index), Access::Read));
        }
        for (index, disk) in launch.attached.iter().enumerate() {
            let access = match disk.read_only {
                true => Access::Read,
                false => Access::Write(ids),
            };
            files.push((&disk.file, attached(index), access));
        }
        let mut ways = Vec::new();
        for (file, name, access) in files {
            let way = bring::bring(file, &self.outside(&name), access);
            let doing = || {
                format!(
                    "bring `{name}` into the jail `{}`",
                    self.directory.display()
                )
            };
            ways.push(way.map_err(|source| Error::io(doing(), source))?);
        }
        Ok(ways)
    }

    /// Others may not put anything in the place of a jail.
    fn make_base(&self) -> Result<(), Error> {
        let shown = self.base.display();
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&self.base)
            .map_err(|source| {
                Error::io(format!("make the directory of jails `{shown}`"), source)
            })?;
        let metadata = fs_err::metadata(&self.base)
            .map_err(|source| Error::io("look at the directory of jails", source))?;
        let own = rustix::process::geteuid().as_raw();
        if ![0, own].contains(&metadata.uid()) || metadata.mode() & 0o022 != 0 {
            return Err(Error::Spec(format!(
                "others can write to the directory of jails `{shown}`: it has to be root's, with mode 0755"
            )));
        }
        Ok(())
    }

    /// Removes the jail, if it is there. Nothing may run in it.
    ///
    /// # Errors
    /// Something cannot be unmounted or removed.
    pub(crate) fn remove(&self) -> io::Result<()> {
        if !self.directory.exists() {
            return Ok(());
        }
        // As long as what is mounted can be reached by its name here.
        self.take_back();
        for place in mounts_below(&self.directory)? {
            unmount(place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
        }
        match fs_err::remove_dir_all(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Makes the store's owner that of what is linked or mounted from there: the next VM may have the
    /// same user as this one.
    fn take_back(&self) {
        let entries = fs_err::read_dir(self.root())
            .into_iter()
            .flatten()
            .flatten();
        for entry in entries {
            let ours = entry.file_name().to_string_lossy().starts_with("vm.");
            // Of a mount, the directory's entry tells of what is below it: the path leads to the file.
            let file = fs_err::symlink_metadata(entry.path());
            let given = file.is_ok_and(|it| it.is_file() && it.uid() != 0);
            if ours && given {
                // What cannot be given back is as safe as before: nobody else gets to its name.
                let _ = std::os::unix::fs::lchown(entry.path(), Some(0), Some(0));
            }
        }
    }
}

/// The user of `ids`.
pub(super) fn uid(ids: Ids) -> rustix::fs::Uid {
    rustix::fs::Uid::from_raw(ids.uid)
}

/// The group of `ids`.
pub(super) fn gid(ids: Ids) -> rustix::fs::Gid {
    rustix::fs::Gid::from_raw(ids.gid)
}

/// What is mounted below a directory, the last first.
fn mounts_below(directory: &Path) -> io::Result<Vec<PathBuf>> {
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    let table = fs_err::read("/proc/self/mountinfo")?;
    let directory = fs_err::canonicalize(directory)?;
    let mut found = Vec::new();
    for line in table.split(|byte| *byte == b'\n') {
        let Some(place) = line.split(|byte| *byte == b' ').nth(4) else {
            continue;
        };
        let place = PathBuf::from(std::ffi::OsString::from_vec(unescape(place)));
        if place.starts_with(&directory) && place.as_os_str().as_bytes() != b"/" {
            found.insert(0, place);
        }
    }
    Ok(found)
}

/// A path of the table of mounts, in which some characters are octal numbers.
fn unescape(escaped: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some((&first, others)) = rest.split_first() {
        let octal = (first == b'\\').then(|| others.get(..3)).flatten();
        let octal = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &others[3..];
            }
            None => {
                bytes.push(first);
                rest = others;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> MachineId {
        MachineId::from_random([4; 20])
    }

    fn jail(base: &Path) -> Jail {
        let options = FirecrackerOptions {
            chroot_base: base.to_owned(),
            ..FirecrackerOptions::default()
        };
        Jail::of(&options, Path::new("/usr/bin/firecracker"), &id())
    }

    #[test]
    fn pitfall_01_a_base_that_is_too_long_is_told_with_length_limit_and_remedy() {
        let ours = "/firecracker//root/run/firecracker.socket".len() + id().as_str().len();
        let room = SOCKET_PATH_LIMIT - ours;
        let base = |length: usize| PathBuf::from(format!("/{}", "b".repeat(length - 1)));
        assert!(jail(&base(room)).check().is_ok());
        let error = jail(&base(room + 1)).check().unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("has 108 bytes; it can have 107"),
            "{error}"
        );
        let hint = error.hint().unwrap();
        assert!(
            hint.contains("shorter directory in place of `/bbb"),
            "{hint}"
        );
        let relative = jail(Path::new("jails")).check().unwrap_err();
        assert!(relative.to_string().contains("absolute"), "{relative}");
        // The original's documented default has room to spare.
        assert!(jail(Path::new("/srv/jailer")).check().is_ok());
    }

    #[test]
    fn a_base_that_others_can_write_to_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().join("jails");
        jail(&base).make_base().unwrap();
        assert_eq!(fs_err::metadata(&base).unwrap().mode() & 0o7777, 0o755);
        fs_err::set_permissions(&base, std::fs::Permissions::from_mode(0o775)).unwrap();
        let error = jail(&base).make_base().unwrap_err();
        assert!(error.to_string().contains("others can write"), "{error}");
    }

    #[test]
    fn paths_of_the_table_of_mounts() {
        for (escaped, path) in [
            ("/a", "/a"),
            ("/a\\040b", "/a b"),
            ("/a\\134\\012", "/a\\\n"),
            ("\\9", "\\9"),
            ("\\", "\\"),
        ] {
            assert_eq!(unescape(escaped.as_bytes()), path.as_bytes(), "{escaped}");
        }
    }

    #[test]
    fn pitfall_17_a_jail_goes_whatever_is_left_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let jail = jail(directory.path());
        jail.remove().unwrap();
        let stored = directory.path().join("stored file");
        fs_err::write(&stored, "kept").unwrap();
        for mounted in [true, false] {
            fs_err::create_dir_all(jail.outside("/run")).unwrap();
            fs_err::write(jail.outside(SOCKET), "").unwrap();
            fs_err::hard_link(&stored, jail.outside(DISK)).unwrap();
            std::os::unix::fs::chown(&stored, Some(700_001), Some(700_001)).unwrap();
            if mounted {
                fs_err::write(jail.outside(KERNEL), "").unwrap();
                rustix::mount::mount_bind(&stored, jail.outside(KERNEL)).unwrap();
            }
            jail.remove().unwrap();
            assert!(!jail.directory.exists());
            assert_eq!(fs_err::read_to_string(&stored).unwrap(), "kept");
            // The next VM with the same user has no claim to it.
            assert_eq!(fs_err::metadata(&stored).unwrap().uid(), 0);
            assert!(mounts_below(directory.path()).unwrap().is_empty());
        }
    }
}
