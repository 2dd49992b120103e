//! Inodes: 256 bytes each, of which the last 96 hold small extended attributes.

use firebuild_core::tree::{Device, Kind, Metadata, Timestamp};

use super::checksum::Checksum;
use super::directory::EntryKind;
use super::extent::ROOT_SIZE;
use super::geometry::INODE_SIZE;
use super::record::{Record, low16, low32};

/// The root directory's number.
pub(super) const ROOT: u32 = 2;
/// The journal's number.
pub(super) const JOURNAL: u32 = 8;
/// The first number that is not reserved.
pub(super) const FIRST: u32 = 11;

/// Bytes behind the first 128 that have a meaning; attributes come after them.
pub(super) const EXTRA_SIZE: u16 = 32;
/// Where the attributes begin.
pub(super) const XATTR_AREA: usize = 128 + EXTRA_SIZE as usize;

/// The directory has an index.
pub(super) const INDEX_FLAG: u32 = 0x1000;
/// The blocks are found by an extent tree.
pub(super) const EXTENTS_FLAG: u32 = 0x8_0000;
/// The inode holds the value of an extended attribute.
pub(super) const EA_INODE_FLAG: u32 = 0x20_0000;

/// The longest target that stands in the inode itself.
pub(super) const LONGEST_FAST_SYMLINK: usize = ROOT_SIZE - 1;

/// The first and last second that 34 bits hold; Linux clamps to them as well.
const SECONDS: (i64, i64) = (-(1 << 31), (1 << 34) - (1 << 31) - 1);

/// Bytes for attributes.
pub(super) const XATTR_SIZE: usize = INODE_SIZE - XATTR_AREA;

/// What an inode says, beside its number.
#[derive(Debug, Clone)]
pub(super) struct Inode {
    /// Type and permissions.
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    /// Names of it; 1 for a directory with more than the format counts.
    pub(super) links: u16,
    /// Blocks of data, of the extent tree, and of attributes.
    pub(super) blocks: u64,
    pub(super) flags: u32,
    /// Used for every time but those of attribute inodes.
    pub(super) time: Timestamp,
    /// Root of the extent tree, symbolic link's target, or device number.
    pub(super) root: [u8; ROOT_SIZE],
    /// The block of attributes; 0 for none.
    pub(super) xattr_block: u64,
    /// What the last 96 bytes hold.
    pub(super) xattrs: [u8; XATTR_SIZE],
    /// For an attribute inode: the hash of its value.
    pub(super) value_hash: Option<u32>,
}

impl Inode {
    /// An inode with a mode and everything else zero.
    pub(super) fn empty(mode: u16) -> Self {
        Self {
            mode,
            uid: 0,
            gid: 0,
            size: 0,
            links: 1,
            blocks: 0,
            flags: 0,
            time: Timestamp::default(),
            root: [0; ROOT_SIZE],
            xattr_block: 0,
            xattrs: [0; XATTR_SIZE],
            value_hash: None,
        }
    }

    /// An inode with a node's metadata, and with what of its content needs no blocks.
    pub(super) fn of(metadata: &Metadata, kind: &Kind) -> Self {
        let mut inode = Self {
            uid: metadata.uid,
            gid: metadata.gid,
            time: metadata.mtime,
            ..Self::empty(file_type(kind).0 | metadata.mode)
        };
        match kind {
            Kind::File(content) => inode.size = content.length,
            Kind::Symlink(target) => {
                inode.size = target.len() as u64;
                if target.len() <= LONGEST_FAST_SYMLINK {
                    inode.root[..target.len()].copy_from_slice(target);
                }
            }
            Kind::CharacterDevice(device) | Kind::BlockDevice(device) => {
                inode.root = device_root(*device);
            }
            Kind::Directory(_) | Kind::Fifo | Kind::Socket => {}
        }
        inode
    }

    /// The bytes in the inode table.
    pub(super) fn encode(&self, number: u32, seed: Checksum) -> [u8; INODE_SIZE] {
        let mut bytes = [0; INODE_SIZE];
        let mut record = Record(&mut bytes);
        record.u16(0x00, self.mode);
        record.split16(0x02, 0x78, self.uid);
        record.split16(0x18, 0x7a, self.gid);
        record.split32(0x04, 0x6c, self.size);
        record.u16(0x1a, self.links);
        // In units of 512 bytes, 48 bits of them.
        let sectors = self.blocks * 8;
        record.u32(0x1c, low32(sectors));
        record.u16(0x74, low16(low32(sectors >> 32)));
        record.u32(0x20, self.flags);
        record.bytes(0x28, &self.root);
        record.u32(0x68, low32(self.xattr_block));
        record.u16(0x76, low16(low32(self.xattr_block >> 32)));
        record.u16(0x80, EXTRA_SIZE);
        self.put_times(&mut record);
        record.bytes(XATTR_AREA, &self.xattrs);
        let checksum = seed.of_inode(number).over(record.0).0;
        record.split16(0x7c, 0x82, checksum);
        bytes
    }

    fn put_times(&self, record: &mut Record<'_>) {
        if let Some(hash) = self.value_hash {
            // Access time holds the value's hash; version and change time count references.
            record.u32(0x08, hash);
            record.u32(0x24, 1);
            return;
        }
        let (seconds, extra) = time(self.time);
        for (low, high) in [(0x08, 0x8c), (0x0c, 0x84), (0x10, 0x88), (0x90, 0x94)] {
            record.u32(low, seconds);
            record.u32(high, extra);
        }
    }
}

/// 32 bits of seconds, and 30 bits of nanoseconds above two more bits of seconds.
fn time(time: Timestamp) -> (u32, u32) {
    let seconds = time.seconds.clamp(SECONDS.0, SECONDS.1);
    // The low 32 bits count as signed, and the two bits count from there.
    let epoch = (seconds + (1 << 31)) >> 32;
    let low = (seconds & 0xffff_ffff) as u32;
    let epoch = (epoch & 3) as u32;
    (low, time.nanoseconds << 2 | epoch)
}

/// The bits of the mode, and the type in a directory's entry.
pub(super) fn file_type(kind: &Kind) -> (u16, EntryKind) {
    match kind {
        Kind::Fifo => (0o010_000, EntryKind::Fifo),
        Kind::CharacterDevice(_) => (0o020_000, EntryKind::CharacterDevice),
        Kind::Directory(_) => (0o040_000, EntryKind::Directory),
        Kind::BlockDevice(_) => (0o060_000, EntryKind::BlockDevice),
        Kind::File(_) => (0o100_000, EntryKind::File),
        Kind::Symlink(_) => (0o120_000, EntryKind::Symlink),
        Kind::Socket => (0o140_000, EntryKind::Socket),
    }
}

/// A device's number as it stands in place of the extent tree: 16 bits if it fits, else 32.
fn device_root(device: Device) -> [u8; ROOT_SIZE] {
    let Device { major, minor } = device;
    let mut root = [0; ROOT_SIZE];
    let mut record = Record(&mut root);
    if major < 256 && minor < 256 {
        record.u32(0, major << 8 | minor);
    } else {
        record.u32(4, minor & 0xff | major << 8 | (minor & !0xff) << 12);
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_34_bits_of_seconds() {
        let cases = [
            (0, 0, (0, 0)),
            (-1, 999_999_999, (0xffff_ffff, 999_999_999 << 2)),
            (-(1 << 31), 0, (0x8000_0000, 0)),
            ((1 << 31) - 1, 1, (0x7fff_ffff, 4)),
            (1 << 31, 0, (0x8000_0000, 1)),
            (1 << 32, 0, (0, 1)),
            ((1 << 34) - (1 << 31) - 1, 0, (0x7fff_ffff, 3)),
            (i64::MAX, 0, (0x7fff_ffff, 3)),
            (i64::MIN, 0, (0x8000_0000, 0)),
        ];
        for (seconds, nanoseconds, expected) in cases {
            let timestamp = Timestamp {
                seconds,
                nanoseconds,
            };
            assert_eq!(time(timestamp), expected, "{seconds}");
        }
    }
}
