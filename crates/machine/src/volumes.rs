//! What a VM's mounts are made of: drives of volumes, of its own anonymous ones, and of snapshots, and
//! directories that are shared.
//!
//! What must hold: which drive is the guest's first, second and so on depends on the VM's mounts alone
//! ([`Layout`]), so that the guest is told the same at every start.

use std::fs::File;
use std::path::{Path, PathBuf};

use firebuild_core::ByteSize;
use firebuild_disk::ext4;
use firebuild_protocol::mount::{self as told, Memory, drive_serial};
use firebuild_protocol::workload::Workload;
use firebuild_store::{Store, VolumeName};
use fs_err::os::unix::fs::OpenOptionsExt as _;

use crate::mount::{Mount, Source};
use crate::record::{self, Record};
use crate::spec::MachineSpec;
use crate::vmm::AttachedDisk;
use crate::{Error, snapshot};

/// The directory of a volume's drive that is mounted.
const DATA: &str = "data";

/// What a VM needs for its mounts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Its further drives, in their order.
    drives: Vec<Drive>,
    /// The host's directories that it sees, each with whether it can only read there. Their tags are
    /// [`share_tag`].
    pub(crate) shares: Vec<(PathBuf, bool)>,
    /// What the guest is told.
    mounts: Vec<told::Mount>,
}

#[derive(Debug, PartialEq, Eq)]
enum Drive {
    Volume {
        name: VolumeName,
        size: ByteSize,
        to_write: bool,
    },
    /// All anonymous volumes of a VM.
    Anonymous,
    Snapshot(PathBuf),
}

/// What the guest knows the host's directories by; 0 is the first.
pub(crate) fn share_tag(number: usize) -> String {
    format!("share{number}")
}

impl Layout {
    /// What these mounts need.
    pub(crate) fn of(mounts: &[Mount]) -> Self {
        let mut layout = Self::default();
        let mut anonymous = 0;
        for mount in mounts {
            let source = match &mount.source {
                Source::Volume { name, size } => layout.volume(name, *size, !mount.read_only),
                Source::Anonymous => {
                    let number = layout.drive(Drive::Anonymous);
                    let directory = anonymous.to_string();
                    anonymous += 1;
                    told::Source::Drive { number, directory }
                }
                Source::Snapshot(path) => told::Source::Drive {
                    number: layout.drive(Drive::Snapshot(path.clone())),
                    directory: DATA.to_owned(),
                },
                Source::Host(path) => layout.share(path, mount.read_only),
                Source::Memory {
                    size,
                    mode,
                    executable,
                } => told::Source::Memory(Memory {
                    size: size.map(|size| size.0),
                    mode: *mode,
                    executable: *executable,
                }),
            };
            layout.mounts.push(told::Mount {
                target: mount.target.clone(),
                source,
                read_only: mount.read_only || matches!(mount.source, Source::Snapshot(_)),
            });
        }
        layout
    }

    /// A volume that is mounted twice is one drive.
    fn volume(&mut self, name: &VolumeName, size: ByteSize, writes: bool) -> told::Source {
        let known = self
            .drives
            .iter()
            .position(|drive| matches!(drive, Drive::Volume { name: known, .. } if known == name));
        let number = match known {
            Some(index) => {
                if let Some(Drive::Volume { to_write, .. }) = self.drives.get_mut(index) {
                    *to_write |= writes;
                }
                u8::try_from(index).unwrap_or(u8::MAX)
            }
            None => self.drive(Drive::Volume {
                name: name.clone(),
                size,
                to_write: writes,
            }),
        };
        let directory = DATA.to_owned();
        told::Source::Drive { number, directory }
    }

    /// The number of a drive; of one that is there already, that one's. There are fewer than 256,
    /// because there are at most [`crate::mount::MOST_MOUNTS`] mounts.
    fn drive(&mut self, drive: Drive) -> u8 {
        let index = self.drives.iter().position(|known| *known == drive);
        let index = index.unwrap_or_else(|| {
            self.drives.push(drive);
            self.drives.len() - 1
        });
        u8::try_from(index).unwrap_or(u8::MAX)
    }

    fn share(&mut self, path: &Path, read_only: bool) -> told::Source {
        let wanted = (path.to_owned(), read_only);
        let index = self.shares.iter().position(|known| *known == wanted);
        let index = index.unwrap_or_else(|| {
            self.shares.push(wanted);
            self.shares.len() - 1
        });
        told::Source::Shared {
            tag: share_tag(index),
        }
    }

    /// How many devices that is.
    pub(crate) fn devices(&self) -> usize {
        self.drives.len() + self.shares.len()
    }
}

/// What the guest is told to run, its mounts included.
pub(crate) fn furnished(workload: Workload, spec: &MachineSpec) -> Workload {
    Workload {
        mounts: Layout::of(&spec.mounts).mounts,
        read_only: spec.read_only,
        ..workload
    }
}

/// Opens the VM's further drives, in their order; makes those that are not there yet. Each is the VM's
/// for as long as the file, or a copy of it, is open.
///
/// # Errors
/// [`firebuild_store::Error::VolumeInUse`]; whatever keeps a drive from being made.
pub(crate) fn open(store: &Store, record: &Record) -> Result<Vec<AttachedDisk>, Error> {
    let layout = Layout::of(&record.spec.mounts);
    let mut disks = Vec::new();
    for (number, drive) in (0..).zip(&layout.drives) {
        let (file, read_only) = match drive {
            Drive::Volume {
                name,
                size,
                to_write,
            } => {
                create(store, name, *size)?;
                let volume = store.volumes().open(name, *to_write)?;
                (volume.file, !volume.writable)
            }
            Drive::Anonymous => (anonymous(record)?, false),
            Drive::Snapshot(path) => (snapshot_of(record, path, number)?, true),
        };
        disks.push(AttachedDisk {
            serial: drive_serial(number),
            file,
            read_only,
        });
    }
    Ok(disks)
}

/// The same files once more, under the same locks.
pub(crate) fn duplicates(disks: &[AttachedDisk]) -> Result<Vec<File>, Error> {
    let duplicate = |disk: &AttachedDisk| disk.file.try_clone();
    let duplicates: std::io::Result<Vec<File>> = disks.iter().map(duplicate).collect();
    duplicates.map_err(|source| Error::io("hold on to volumes", source))
}

/// Makes a volume, if there is none of that name. Returns whether it was made.
///
/// # Errors
/// [`Error::Spec`] for a size that cannot be; [`Error::VolumeDisk`]; [`Error::Store`].
pub fn create(store: &Store, name: &VolumeName, size: ByteSize) -> Result<bool, Error> {
    crate::mount::check_size(size)?;
    let what = || format!("volume `{name}`");
    store
        .volumes()
        .create(name, size, |file| format(file, size, name.as_str(), what))
}

/// The VMs, running or not, that have a volume among their mounts, by their ids or names.
///
/// # Errors
/// [`Error::Store`], [`Error::Io`].
pub fn users(store: &Store, name: &VolumeName) -> Result<Vec<String>, Error> {
    let mut users = Vec::new();
    for identity in store.machines().identities()? {
        let record = match record::read(store, &identity.id) {
            // Removed in the meantime.
            Err(Error::Store(firebuild_store::Error::NoMachine(_))) => continue,
            other => other?,
        };
        let has =
            |mount: &Mount| matches!(&mount.source, Source::Volume { name: n, .. } if n == name);
        if record.spec.mounts.iter().any(has) {
            let named = record.spec.name.as_ref().map(ToString::to_string);
            users.push(named.unwrap_or_else(|| record.id.to_string()));
        }
    }
    Ok(users)
}

/// Removes a volume that no VM has, running or not.
///
/// # Errors
/// [`Error::VolumeHasUsers`]; those of [`firebuild_store::Volumes::remove`].
pub fn remove(store: &Store, name: &VolumeName) -> Result<(), Error> {
    // First what is clearer.
    store.volumes().get(name)?;
    let users = users(store, name)?;
    if !users.is_empty() {
        let name = name.clone();
        return Err(Error::VolumeHasUsers { name, users });
    }
    Ok(store.volumes().remove(name)?)
}

fn format(
    file: &File,
    size: ByteSize,
    label: &str,
    what: impl Fn() -> String,
) -> Result<(), Error> {
    let identity: [u8; 16] = crate::random()?;
    let options = ext4::Options {
        identity: identity.to_vec(),
        label: label.chars().take(16).filter(char::is_ascii).collect(),
        ..ext4::Options::default()
    };
    let written = ext4::write_empty(file, size, &options);
    written.map(drop).map_err(|source| Error::VolumeDisk {
        what: what(),
        source,
    })
}

/// The disk of all anonymous volumes, as large as the VM's own.
fn anonymous(record: &Record) -> Result<File, Error> {
    let path = record.directories.state.join("volumes.img");
    let what = || format!("the anonymous volumes of VM `{}`", record.id);
    made(&path, what, |file| {
        format(file, record.spec.disk, "anonymous", what)
    })
}

fn snapshot_of(record: &Record, directory: &Path, number: u8) -> Result<File, Error> {
    let path = record
        .directories
        .state
        .join(format!("snapshot-{number}.img"));
    let what = || format!("the snapshot of `{}`", directory.display());
    let file = made(&path, what, |file| snapshot::write(directory, DATA, file))?;
    drop(file);
    let opened = fs_err::File::open(path).map(|file| file.into_parts().0);
    opened.map_err(|source| Error::io(format!("open {}", what()), source))
}

/// Opens a disk of the VM's; if it is not there, it is made first, whole or not at all.
fn made(
    path: &Path,
    what: impl Fn() -> String,
    make: impl FnOnce(&File) -> Result<(), Error>,
) -> Result<File, Error> {
    let failed = |source| Error::io(format!("make {}", what()), source);
    match fs_err::OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => return Ok(file.into_parts().0),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(Error::io(format!("open {}", what()), source)),
    }
    let new = path.with_extension("new");
    let file = fs_err::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .map_err(failed)?
        .into_parts()
        .0;
    make(&file)?;
    fs_err::rename(&new, path).map_err(failed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(name: &str, target: &str, read_only: bool) -> Mount {
        let source = Source::Volume {
            name: name.parse().unwrap(),
            size: ByteSize::mib(64),
        };
        Mount {
            read_only,
            ..Mount::new(target, source)
        }
    }

    fn drives(layout: &Layout) -> Vec<(u8, String)> {
        let drive = |mount: &told::Mount| match &mount.source {
            told::Source::Drive { number, directory } => Some((*number, directory.clone())),
            _ => None,
        };
        layout.mounts.iter().filter_map(drive).collect()
    }

    #[test]
    fn a_volume_that_is_mounted_twice_is_one_drive() {
        let mounts = [
            volume("a", "/ro", true),
            volume("b", "/b", true),
            volume("a", "/rw", false),
        ];
        let layout = Layout::of(&mounts);
        let numbers: Vec<u8> = drives(&layout).into_iter().map(|(n, _)| n).collect();
        assert_eq!(numbers, [0, 1, 0]);
        assert!(matches!(
            layout.drives[0],
            Drive::Volume { to_write: true, .. }
        ));
        assert!(matches!(
            layout.drives[1],
            Drive::Volume {
                to_write: false,
                ..
            }
        ));
        assert_eq!(layout.devices(), 2);
    }

    #[test]
    fn anonymous_volumes_share_a_drive() {
        let mounts = [
            Mount::new("/a", Source::Anonymous),
            volume("v", "/v", false),
            Mount::new("/b", Source::Anonymous),
            Mount::new("/s", Source::Snapshot("/srv".into())),
        ];
        let layout = Layout::of(&mounts);
        let expected = [(0, "0"), (1, "data"), (0, "1"), (2, "data")];
        let expected = expected.map(|(number, name)| (number, name.to_owned()));
        assert_eq!(drives(&layout), expected);
        assert!(layout.mounts[3].read_only && !layout.mounts[0].read_only);
    }

    #[test]
    fn directories_of_the_host_are_devices_of_their_own() {
        let host = |target: &str, read_only| Mount {
            read_only,
            ..Mount::new(target, Source::Host("/srv".into()))
        };
        let layout = Layout::of(&[host("/a", false), host("/b", true), host("/c", false)]);
        assert_eq!(
            layout.shares,
            [("/srv".into(), false), ("/srv".into(), true)]
        );
        assert_eq!(layout.devices(), 2);
    }
}
