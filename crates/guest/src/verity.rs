//! A root file system whose every byte is verified as it is read: dm-verity over the drive.
//!
//! What to expect stands on the kernel's command line; nothing that the drive says is believed. A root
//! with another hash is refused before anything of it is mounted. Blocks are verified by the kernel
//! each time they are read from the drive: one that was changed cannot be read (`EIO`), whenever that
//! was.
//!
//! The form of the requests is that of `linux/dm-ioctl.h`, version 4; that of the table is in Linux's
//! `Documentation/admin-guide/device-mapper/verity.rst`.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use firebuild_core::digest::Hasher;
use firebuild_protocol::boot::RootVerity;
use rustix::fs::{major, minor};

use crate::error::{Doing as _, GuestError, Result};
use crate::sys;

const CONTROL: &str = "/dev/mapper/control";
const BLOCK: u64 = 4096;
const SECTOR: u64 = 512;

/// The device through which the drive is read, verified. To be called after the kernel's modules are
/// loaded.
pub(crate) fn open(drive: &Path, root: &RootVerity) -> Result<PathBuf> {
    refuse_another(drive, root)?;
    let mapper = Mapper::open()?;
    let device = mapper.create()?;
    mapper.load(&table(drive, root)?, root.data_blocks * (BLOCK / SECTOR))?;
    mapper.resume()?;
    Ok(device)
}

/// Refuses a drive with another root hash. The kernel would find it, too, but only say that something
/// cannot be read.
fn refuse_another(drive: &Path, root: &RootVerity) -> Result<()> {
    let top = highest(root.data_blocks);
    let mut block = [0; 4096];
    let read = fs_err::File::open(drive)
        .and_then(|drive| drive.file().read_exact_at(&mut block, top * BLOCK));
    read.doing(|| "read the root file system's tree of hashes".to_owned())?;
    let mut hasher = Hasher::new();
    hasher.update(root.salt.bytes());
    hasher.update(&block);
    let found = hasher.finish();
    if found == root.root_hash {
        return Ok(());
    }
    Err(GuestError::RootHash {
        found: found.hex(),
        wanted: root.root_hash.hex(),
    })
}

/// The number of the tree's highest block: the first behind the superblock, or the only one of data.
fn highest(data_blocks: u64) -> u64 {
    match data_blocks {
        1 => 0,
        more => more + 1,
    }
}

/// What the target `verity` is told.
fn table(drive: &Path, root: &RootVerity) -> Result<String> {
    let metadata = fs_err::metadata(drive).doing(|| "look at the root drive".to_owned())?;
    let device = (major(metadata.rdev()), minor(metadata.rdev()));
    Ok(parameters(device, root))
}

fn parameters((major, minor): (u32, u32), root: &RootVerity) -> String {
    let blocks = root.data_blocks;
    let tree = blocks + 1;
    let (hash, salt) = (root.root_hash.hex(), root.salt.hex());
    // Version of the form, data's and tree's device, sizes of blocks, where the tree begins.
    format!(
        "1 {major}:{minor} {major}:{minor} {BLOCK} {BLOCK} {blocks} {tree} sha256 {hash} {salt}"
    )
}

/// The kernel's device mapper, with the one device that is made here.
struct Mapper(File);

/// What it is asked to do.
#[derive(Debug, Clone, Copy)]
enum Command {
    Create = 3,
    /// Suspend, or without that flag: resume.
    Suspend = 6,
    Load = 9,
    TargetVersion = 17,
}

const READ_ONLY: u32 = 1;
const NAME: &str = "root";
const TARGET: &str = "verity";

impl Mapper {
    fn open() -> Result<Self> {
        let control = fs_err::OpenOptions::new()
            .read(true)
            .write(true)
            .open(CONTROL);
        let mapper = match control {
            Ok(control) => Self(control.into_parts().0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(GuestError::Kernel("device mapper (`CONFIG_BLK_DEV_DM`)"));
            }
            other => {
                return Err(GuestError::System {
                    action: "open the device mapper".to_owned(),
                    source: other.err().unwrap_or_else(io::Error::last_os_error),
                });
            }
        };
        // Older kernels cannot be asked; they say it when the table is loaded.
        match mapper.request(Command::TargetVersion, TARGET, 0, &[0; 256]) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                Err(GuestError::Kernel("dm-verity (`CONFIG_DM_VERITY`)"))
            }
            _ => Ok(mapper),
        }
    }

    /// Makes the device, which can do nothing yet.
    fn create(&self) -> Result<PathBuf> {
        let answer = self.request(Command::Create, NAME, 0, &[]);
        let number = answer.doing(|| "make the verified root device".to_owned())?;
        Ok(PathBuf::from(format!("/dev/dm-{number}")))
    }

    fn load(&self, table: &str, sectors: u64) -> Result<()> {
        let target = target(table, sectors);
        match self.request(Command::Load, NAME, READ_ONLY, &target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(GuestError::Kernel("SHA-256 (`CONFIG_CRYPTO_SHA256`)"))
            }
            other => other
                .map(drop)
                .doing(|| "set up the verification of the root".to_owned()),
        }
    }

    fn resume(&self) -> Result<()> {
        self.request(Command::Suspend, NAME, READ_ONLY, &[])
            .map(drop)
            .doing(|| "start the verification of the root".to_owned())
    }

    /// Makes a request about the device or target `name`. The result is the device's minor number.
    fn request(&self, command: Command, name: &str, flags: u32, data: &[u8]) -> io::Result<u64> {
        let mut request = request(name, flags, u32::from(!data.is_empty()), data);
        sys::map_devices(&self.0, command as u8, &mut request)?;
        let device = request
            .get(DEVICE..DEVICE + 8)
            .and_then(|d| d.try_into().ok());
        let device = u64::from_le_bytes(device.unwrap_or_default());
        Ok(device & 0xff | (device >> 12) & 0xf_ff00)
    }
}

/// Where the device's number is in a request.
const DEVICE: usize = 40;

/// `struct dm_ioctl` with what follows it.
fn request(name: &str, flags: u32, targets: u32, data: &[u8]) -> Vec<u8> {
    let mut request = vec![0; sys::MAP_REQUEST.into()];
    let mut put = |at: usize, value: u32| {
        request[at..at + 4].copy_from_slice(&value.to_le_bytes());
    };
    put(0, 4); // The version, of which the other parts may be lower than the kernel's.
    put(16, sys::MAP_REQUEST.into()); // Where the data begin.
    put(20, targets);
    put(28, flags);
    request[48..48 + name.len()].copy_from_slice(name.as_bytes());
    request.extend_from_slice(data);
    request
}

/// `struct dm_target_spec` with its parameters, NUL-terminated and aligned.
fn target(table: &str, sectors: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&0_u64.to_le_bytes()); // The first sector,
    bytes.extend_from_slice(&sectors.to_le_bytes()); // and how many.
    bytes.extend_from_slice(&[0; 8]); // Status, and where the next would be.
    let mut kind = [0; 16];
    kind[..TARGET.len()].copy_from_slice(TARGET.as_bytes());
    bytes.extend_from_slice(&kind);
    bytes.extend_from_slice(table.as_bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use firebuild_core::Digest;

    use super::*;

    #[test]
    fn the_tree_begins_behind_its_superblock() {
        let root = RootVerity {
            root_hash: Digest::from_bytes([0xab; 32]),
            salt: Digest::from_bytes([0x01; 32]),
            data_blocks: 300,
        };
        let (hash, salt) = ("ab".repeat(32), "01".repeat(32));
        let expected = format!("1 254:0 254:0 4096 4096 300 301 sha256 {hash} {salt}");
        assert_eq!(parameters((254, 0), &root), expected);
        assert_eq!((highest(300), highest(2), highest(1)), (301, 3, 0));
    }

    #[test]
    fn requests_have_the_kernels_form() {
        let target = target("12345", 8);
        assert_eq!((target.len(), &target[24..31]), (48, &b"verity\0"[..]));
        assert_eq!((&target[40..46], target[8]), (&b"12345\0"[..], 8));
        let request = request("root", READ_ONLY, 1, &target);
        assert_eq!(request.len(), 312 + 48);
        assert_eq!((request[0], request[20], request[28]), (4, 1, 1));
        assert_eq!(
            (&request[16..18], &request[48..53]),
            (&[0x38, 1][..], &b"root\0"[..])
        );
    }

    #[test]
    fn a_drive_with_another_tree_is_refused() {
        let drive = tempfile::NamedTempFile::new().unwrap();
        drive.as_file().set_len(4 * BLOCK).unwrap();
        let salt = Digest::of(b"salt");
        let mut hasher = Hasher::new();
        hasher.update(salt.bytes());
        hasher.update(&[0; 4096]);
        let mut root = RootVerity {
            root_hash: hasher.finish(),
            salt,
            data_blocks: 2,
        };
        refuse_another(drive.path(), &root).unwrap();
        drive.as_file().write_all_at(b"x", 3 * BLOCK + 7).unwrap();
        let error = refuse_another(drive.path(), &root).unwrap_err();
        assert!(error.to_string().contains(&root.root_hash.hex()), "{error}");
        root.data_blocks = 3;
        let error = refuse_another(drive.path(), &root).unwrap_err();
        assert!(matches!(error, GuestError::System { .. }), "{error}");
    }
}
