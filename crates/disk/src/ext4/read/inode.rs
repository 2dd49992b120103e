//! Inodes, and what of a file stands in them.

use firebuild_core::tree::{Device, Metadata, Timestamp};

use super::attributes;
use super::blocks;
use super::error::{Result, damaged};
use super::image::Image;
use crate::ext4::extent::ROOT_SIZE;
use crate::ext4::fields::Fields;
use crate::ext4::inode::{EXTENTS_FLAG, LONGEST_FAST_SYMLINK};

/// The longest target of a symbolic link, in bytes, as in Linux.
const LONGEST_TARGET: u64 = 4095;
/// Where the inode's second part begins, which older ones do not have.
const EXTRA: usize = 128;

/// What an inode says.
#[derive(Debug, Clone)]
pub(super) struct Inode {
    mode: u16,
    uid: u32,
    gid: u32,
    pub(super) size: u64,
    flags: u32,
    mtime: Timestamp,
    /// Root of the extent tree, numbers of blocks, symbolic link's target, or device number.
    pub(super) root: [u8; ROOT_SIZE],
    /// The block of attributes; 0 for none.
    pub(super) attribute_block: u64,
    /// What lies behind the fields: attributes, perhaps.
    pub(super) attributes: Box<[u8]>,
}

/// What an inode can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Directory,
    File,
    Symlink,
    CharacterDevice,
    BlockDevice,
    Fifo,
    Socket,
}

impl Inode {
    /// Of at least 128 bytes.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let fields = Fields(bytes);
        let extra = match bytes.len() {
            EXTRA => 0,
            _ => usize::from(fields.u16(EXTRA)),
        };
        let mut root = [0; ROOT_SIZE];
        root.copy_from_slice(&bytes[0x28..0x28 + ROOT_SIZE]);
        let extra_time = match extra {
            0..12 => 0,
            _ => fields.u32(0x88),
        };
        Self {
            mode: fields.u16(0x00),
            uid: fields.split16(0x02, 0x78),
            gid: fields.split16(0x18, 0x7a),
            size: fields.split32(0x04, 0x6c),
            flags: fields.u32(0x20),
            mtime: time(fields.u32(0x10), extra_time),
            root,
            attribute_block: u64::from(fields.u32(0x68)) | u64::from(fields.u16(0x76)) << 32,
            attributes: bytes.get(EXTRA + extra..).unwrap_or_default().into(),
        }
    }

    pub(super) fn found(&self) -> Result<Found> {
        Ok(match self.mode & 0xf000 {
            0x1000 => Found::Fifo,
            0x2000 => Found::CharacterDevice,
            0x4000 => Found::Directory,
            0x6000 => Found::BlockDevice,
            0x8000 => Found::File,
            0xa000 => Found::Symlink,
            0xc000 => Found::Socket,
            _ => return Err(damaged("an inode is of no kind")),
        })
    }

    pub(super) fn is_directory(&self) -> bool {
        self.mode & 0xf000 == 0x4000
    }

    pub(super) fn has_extents(&self) -> bool {
        self.flags & EXTENTS_FLAG != 0
    }

    /// The number of a device, in the older of two forms if it fits that.
    pub(super) fn device(&self) -> Device {
        let fields = Fields(&self.root);
        match (fields.u32(0), fields.u32(4)) {
            (0, new) => Device {
                major: new >> 8 & 0xfff,
                minor: new & 0xff | new >> 12 & 0xf_ff00,
            },
            (old, _) => Device {
                major: old >> 8 & 0xff,
                minor: old & 0xff,
            },
        }
    }
}

/// Seconds are signed; two more bits of them stand below the nanoseconds.
fn time(seconds: u32, extra: u32) -> Timestamp {
    Timestamp {
        seconds: i64::from(seconds.cast_signed()) + (i64::from(extra & 3) << 32),
        nanoseconds: (extra >> 2).min(999_999_999),
    }
}

impl Image<'_> {
    pub(super) fn metadata(&mut self, inode: &Inode) -> Result<Metadata> {
        Ok(Metadata {
            mode: inode.mode & 0o7777,
            uid: inode.uid,
            gid: inode.gid,
            mtime: inode.mtime,
            xattrs: attributes::of(self, inode)?,
        })
    }

    /// Where a symbolic link leads to.
    pub(super) fn target(&mut self, inode: &Inode) -> Result<Box<[u8]>> {
        let fast = usize::try_from(inode.size)
            .ok()
            .filter(|length| *length <= LONGEST_FAST_SYMLINK && !inode.has_extents());
        if let Some(length) = fast {
            return Ok(inode.root[..length].into());
        }
        if inode.size > LONGEST_TARGET {
            return Err(damaged("a symbolic link's target is too long"));
        }
        Ok(blocks::content(self, inode)?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_and_after_2038() {
        let at = |seconds, nanoseconds| Timestamp {
            seconds,
            nanoseconds,
        };
        assert_eq!(time(0xffff_ffff, 5 << 2), at(-1, 5));
        assert_eq!(time(0x7fff_ffff, 0), at(0x7fff_ffff, 0));
        assert_eq!(time(0x8000_0000, 1), at(0x8000_0000, 0));
        assert_eq!(time(0, u32::MAX), at(3 << 32, 999_999_999));
    }
}
