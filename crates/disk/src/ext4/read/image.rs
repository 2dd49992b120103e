//! The image: superblock, where inodes are, and how much of it may still be read.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::error::{ReadError, Result, damaged};
use super::inode::Inode;
use crate::ext4::fields::Fields;

const SUPERBLOCK: u64 = 1024;
const SUPERBLOCK_SIZE: usize = 1024;
const MAGIC: u16 = 0xef53;

/// Incompatible features that change nothing of what is read here, or that are understood: entries
/// with types, extents, 64 bits, multiple mount protection, flexible groups, values in inodes, seeds
/// of checksums, large directories, directories that ignore case.
const UNDERSTOOD: u32 = 0x2 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000 | 0x2_0000;
/// The journal has to be replayed.
const RECOVER: u32 = 0x4;
const IS_64BIT: u32 = 0x80;

/// A file system that is being read.
pub(super) struct Image<'a> {
    file: &'a File,
    pub(super) block_size: u64,
    pub(super) blocks: u64,
    inodes: u32,
    inodes_per_group: u32,
    inode_size: u16,
    descriptor_size: u64,
    /// The block of the first group descriptor.
    descriptors: u64,
    pub(super) budget: Budget,
    /// Values of attributes that are in inodes of their own, by those.
    pub(super) values: HashMap<u32, Vec<u8>>,
}

/// What may still be taken, of all that there can be.
pub(super) struct Budget {
    /// Blocks: of a sound file system, none is read or referred to twice.
    blocks: u64,
    /// Bytes of extended attributes, whose blocks may be shared.
    attributes: u64,
}

/// All attributes of a file system together: some hundred thousand of the usual ones.
const MOST_ATTRIBUTES: u64 = 256 << 20;
/// All content and directories together, in bytes. An image may be sparse, and what looks like much
/// data be none.
const MOST_BYTES: u64 = 1 << 36;

impl Budget {
    pub(super) fn blocks(&mut self, count: u64) -> Result<()> {
        let left = self.blocks.checked_sub(count);
        let much = "content of more than 64 GiB, or of more than all its blocks";
        self.blocks = left.ok_or(ReadError::TooMuch(much))?;
        Ok(())
    }

    pub(super) fn attributes(&mut self, bytes: usize) -> Result<()> {
        let left = self.attributes.checked_sub(bytes as u64);
        self.attributes = left.ok_or(ReadError::TooMuch(
            "extended attributes of more than 256 MiB",
        ))?;
        Ok(())
    }
}

impl<'a> Image<'a> {
    pub(super) fn open(file: &'a File) -> Result<Self> {
        let length = file.metadata()?.len();
        if length < SUPERBLOCK + SUPERBLOCK_SIZE as u64 {
            return Err(ReadError::NotExt4);
        }
        let mut bytes = [0; SUPERBLOCK_SIZE];
        file.read_exact_at(&mut bytes, SUPERBLOCK)?;
        let fields = Fields(&bytes);
        if fields.u16(0x38) != MAGIC {
            return Err(ReadError::NotExt4);
        }
        let features = fields.u32(0x60);
        if features & RECOVER != 0 {
            return Err(ReadError::InUse);
        }
        if features & !UNDERSTOOD != 0 {
            return Err(ReadError::Features(features & !UNDERSTOOD));
        }
        let image = Self::of(file, &fields, features & IS_64BIT != 0)?;
        let expected = image.blocks.checked_mul(image.block_size);
        let expected = expected.ok_or_else(|| damaged("its size is none"))?;
        if length < expected {
            let actual = length;
            return Err(ReadError::CutOff { actual, expected });
        }
        Ok(image)
    }

    fn of(file: &'a File, fields: &Fields<'_>, is_64bit: bool) -> Result<Self> {
        let log = fields.u32(0x18);
        // The first version of the format had neither sizes of inodes nor features.
        let inode_size = match fields.u32(0x4c) {
            0 => 128,
            _ => fields.u16(0x58),
        };
        let descriptor_size = match is_64bit {
            true => fields.u16(0xfe),
            false => 32,
        };
        let sound = log <= 6
            && (128..=4096).contains(&inode_size)
            && inode_size.is_power_of_two()
            && (32..=1024).contains(&descriptor_size)
            && fields.u32(0x28) > 0;
        if !sound {
            return Err(damaged("its superblock says what cannot be"));
        }
        let blocks = match is_64bit {
            true => fields.split32(0x04, 0x150),
            false => fields.u32(0x04).into(),
        };
        Ok(Self {
            file,
            block_size: 1024 << log,
            blocks,
            inodes: fields.u32(0x00),
            inodes_per_group: fields.u32(0x28),
            inode_size,
            descriptor_size: descriptor_size.into(),
            // The first data block, which has the superblock, and then the descriptors.
            descriptors: u64::from(fields.u32(0x14)) + 1,
            budget: Budget {
                blocks: blocks.min(MOST_BYTES / (1024 << log)),
                attributes: MOST_ATTRIBUTES,
            },
            values: HashMap::new(),
        })
    }

    pub(super) fn inode(&self, number: u32) -> Result<Inode> {
        let index = number.checked_sub(1).filter(|_| number <= self.inodes);
        let index = index.ok_or_else(|| damaged("an entry names an inode that is not there"))?;
        let (group, within) = (
            u64::from(index / self.inodes_per_group),
            u64::from(index % self.inodes_per_group),
        );
        let mut descriptor = [0; 64];
        let descriptor = match self.descriptor_size {
            0..64 => &mut descriptor[..32],
            _ => &mut descriptor[..],
        };
        let at = self.descriptors * self.block_size + group * self.descriptor_size;
        self.read_at(descriptor, at)?;
        let fields = Fields(descriptor);
        let table = match descriptor.len() {
            64 => fields.split32(0x08, 0x28),
            _ => fields.u32(0x08).into(),
        };
        let at = self.place(table)? + within * u64::from(self.inode_size);
        let mut bytes = vec![0; usize::from(self.inode_size)];
        self.read_at(&mut bytes, at)?;
        Ok(Inode::of(&bytes))
    }

    /// Where a block begins, in bytes.
    pub(super) fn place(&self, block: u64) -> Result<u64> {
        if block == 0 || block >= self.blocks {
            return Err(damaged("it names a block that is not there"));
        }
        Ok(block * self.block_size)
    }

    /// A block that nothing else has.
    pub(super) fn block(&mut self, block: u64) -> Result<Vec<u8>> {
        self.budget.blocks(1)?;
        self.shared_block(block)
    }

    pub(super) fn shared_block(&self, block: u64) -> Result<Vec<u8>> {
        let at = self.place(block)?;
        let length = usize::try_from(self.block_size).unwrap_or_default();
        let mut bytes = vec![0; length];
        self.read_at(&mut bytes, at)?;
        Ok(bytes)
    }

    fn read_at(&self, bytes: &mut [u8], at: u64) -> Result<()> {
        let end = at.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| end > self.blocks.saturating_mul(self.block_size)) {
            return Err(damaged("it names a block that is not there"));
        }
        Ok(self.file.read_exact_at(bytes, at)?)
    }

    /// Fills `bytes`, which lie within the file system, as far as segments have been checked.
    pub(super) fn content(&self, bytes: &mut [u8], at: u64) -> Result<()> {
        self.read_at(bytes, at)
    }
}
