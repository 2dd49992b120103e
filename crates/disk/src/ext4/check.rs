//! Whether an image still is what was written here: superblock, group descriptors and bitmaps, each
//! held against its checksum, and the length.
//!
//! All metadata but the superblock lie behind all data, so an image that lost its end, or a part of
//! it, shows. Inodes, directories and files' bytes are not read: a file system has no checksum of
//! what its files hold.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use firebuild_core::ByteSize;

use super::checksum::Checksum;
use super::fields::Fields;
use super::geometry::{BLOCK, BLOCK_SIZE, BLOCKS_PER_GROUP, DESCRIPTOR_SIZE};
use super::superblock::{OFFSET, SIZE};
use super::{Options, identify};

/// Why an image is not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// It ends too early, or too late.
    #[error("it has another length than its superblock says")]
    Length,
    /// The superblock's checksum, or what marks it as one.
    #[error("its superblock is damaged")]
    Superblock,
    /// It is another file system than it should be.
    #[error("it is another file system")]
    Identity,
    /// A group descriptor's checksum.
    #[error("its group descriptors are damaged")]
    Descriptor,
    /// A bitmap's checksum.
    #[error("a bitmap of it is damaged")]
    Bitmap,
}

/// Looks at a file system that [`super::write`] or [`super::finish`] wrote with this
/// [`Options::identity`] and that nobody has written to since.
///
/// # Errors
/// If it cannot be read.
pub fn check(image: &File, identity: &[u8]) -> io::Result<Option<Damage>> {
    let length = image.metadata()?.len();
    if length < BLOCK {
        return Ok(Some(Damage::Length));
    }
    let Some(bytes) = superblock(image)? else {
        return Ok(Some(Damage::Superblock));
    };
    let superblock = Fields(&bytes);
    let blocks = superblock.split32(0x04, 0x150);
    if blocks.checked_mul(BLOCK) != Some(length) {
        return Ok(Some(Damage::Length));
    }
    let uuid = identify(&Options {
        identity: identity.to_vec(),
        ..Options::default()
    })
    .uuid;
    if bytes[0x68..0x78] != uuid {
        return Ok(Some(Damage::Identity));
    }
    let groups = Groups {
        image,
        seed: Checksum::of_file_system(&uuid),
        inode_bytes: superblock.u32(0x28) as usize / 8,
        blocks,
    };
    for number in 0..blocks.div_ceil(BLOCKS_PER_GROUP) {
        if let Some(damage) = groups.check(number)? {
            return Ok(Some(damage));
        }
    }
    Ok(None)
}

/// How large the file system at the beginning of `image` says it is, if its superblock is sound.
///
/// # Errors
/// If it cannot be read.
pub fn size_of(image: &File) -> io::Result<Option<ByteSize>> {
    if image.metadata()?.len() < BLOCK {
        return Ok(None);
    }
    let bytes = superblock(image)?;
    let size = bytes.and_then(|bytes| Fields(&bytes).split32(0x04, 0x150).checked_mul(BLOCK));
    Ok(size.map(ByteSize))
}

/// The superblock, if its checksum and what marks it as one are right.
fn superblock(image: &File) -> io::Result<Option<[u8; SIZE]>> {
    let mut bytes = [0; SIZE];
    image.read_exact_at(&mut bytes, OFFSET)?;
    let fields = Fields(&bytes);
    let sound =
        fields.u16(0x38) == 0xef53 && fields.u32(0x3fc) == Checksum::START.over(&bytes[..0x3fc]).0;
    Ok(sound.then_some(bytes))
}

struct Groups<'a> {
    image: &'a File,
    seed: Checksum,
    /// Bytes of an inode bitmap that are in use.
    inode_bytes: usize,
    blocks: u64,
}

impl Groups<'_> {
    fn check(&self, number: u64) -> io::Result<Option<Damage>> {
        let mut bytes = [0; DESCRIPTOR_SIZE];
        let at = BLOCK + number * DESCRIPTOR_SIZE as u64;
        self.image.read_exact_at(&mut bytes, at)?;
        let expected = Fields(&bytes).u16(0x1e);
        let mut unsigned = bytes;
        unsigned[0x1e..0x20].fill(0);
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let seed = self.seed.over(&number.to_le_bytes());
        if seed.over(&unsigned).0 & 0xffff != u32::from(expected) {
            return Ok(Some(Damage::Descriptor));
        }
        let group = Fields(&bytes);
        let flags = group.u16(0x12);
        // (not written, where, its checksum, its length)
        for (unwritten, place, checksum, length) in [
            (0x2, (0x00, 0x20), (0x18, 0x38), BLOCK_SIZE),
            (0x1, (0x04, 0x24), (0x1a, 0x3a), self.inode_bytes),
        ] {
            let block = group.split32(place.0, place.1);
            if flags & unwritten != 0 {
                continue;
            }
            if block >= self.blocks || length > BLOCK_SIZE {
                return Ok(Some(Damage::Descriptor));
            }
            let mut bitmap = vec![0; length];
            self.image.read_exact_at(&mut bitmap, block * BLOCK)?;
            if self.seed.over(&bitmap).0 != group.split16(checksum.0, checksum.1) {
                return Ok(Some(Damage::Bitmap));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::super::write_empty;
    use super::*;

    #[test]
    fn every_change_of_what_is_looked_at_shows() {
        let file = tempfile::tempfile().unwrap();
        // Three groups, the last of which is not whole.
        let size = ByteSize::mib(300);
        let options = Options {
            identity: b"this".to_vec(),
            ..Options::default()
        };
        write_empty(&file, size, &options).unwrap();
        assert_eq!(check(&file, b"this").unwrap(), None);
        assert_eq!(size_of(&file).unwrap(), Some(size));
        assert_eq!(check(&file, b"that").unwrap(), Some(Damage::Identity));
        let mut descriptor = [0; DESCRIPTOR_SIZE];
        file.read_exact_at(&mut descriptor, BLOCK).unwrap();
        let bitmap = |at| u64::from(Fields(&descriptor).u32(at)) * BLOCK;
        for (at, damage) in [
            (OFFSET + 0x0c, Damage::Superblock),
            (OFFSET + 0x38, Damage::Superblock),
            (BLOCK + 2 * 64 + 0x0c, Damage::Descriptor),
            (bitmap(0x00) + 100, Damage::Bitmap),
            (bitmap(0x04), Damage::Bitmap),
        ] {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[!byte[0]], at).unwrap();
            assert_eq!(check(&file, b"this").unwrap(), Some(damage), "{at}");
            file.write_all_at(&byte, at).unwrap();
        }
        assert_eq!(check(&file, b"this").unwrap(), None);
        for length in [size.0 + 4096, size.0 - 1, 4096, 4095, 0] {
            file.set_len(length).unwrap();
            assert_eq!(check(&file, b"this").unwrap(), Some(Damage::Length));
        }
    }
}
