//! dm-verity: a tree of hashes behind a file system, whose root hash stands for all of its bytes.
//!
//! The form is that of `veritysetup format` (cryptsetup's wiki, "DMVerity"; Linux,
//! `Documentation/admin-guide/device-mapper/verity.rst`): a superblock of version 1, then the levels
//! of the tree, the highest first, each in whole blocks. A digest is that of the salt and a block.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;

use firebuild_core::{ByteSize, Digest, Hasher};

/// Bytes in a block of data and of hashes.
const BLOCK: usize = 4096;
/// Bytes in a digest.
const DIGEST: usize = 32;
/// Digests in a block.
const PER_BLOCK: u64 = (BLOCK / DIGEST) as u64;
/// Blocks of data that are read at once.
const AT_ONCE: usize = 256;

/// A tree of hashes that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verity {
    /// Stands for all bytes of the data. Who knows it can trust a device that matches it.
    pub root_hash: Digest,
    /// Where the superblock is in the file, in bytes: `veritysetup`'s `--hash-offset`.
    pub hash_offset: u64,
    /// Blocks of 4096 bytes that are covered.
    pub data_blocks: u64,
    /// What every digest begins with.
    pub salt: [u8; DIGEST],
}

/// Adds a tree of hashes behind the first `size` bytes of `image`, which are a file system of whole
/// blocks. `identity` tells it from others: salt and UUID follow from it. The same bytes and identity
/// give the same tree.
///
/// # Errors
/// Those of the file; `InvalidInput` for a size that is not a multiple of 4096 above 0.
pub fn append(image: &File, size: ByteSize, identity: &[u8]) -> io::Result<Verity> {
    let blocks = size.0 / BLOCK as u64;
    if blocks == 0 || !size.0.is_multiple_of(BLOCK as u64) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let salt = *Digest::of(&[b"firebuild verity\0", identity].concat()).bytes();
    let uuid = *Digest::of(&[b"firebuild verity uuid\0", identity].concat()).bytes();
    let tree = Tree {
        image,
        salt,
        levels: levels(blocks, size.0 / BLOCK as u64 + 1),
    };
    let end = tree.levels.first().map_or(0, |_| tree.end());
    image.set_len(size.0)?;
    image.set_len(end.max(size.0 + BLOCK as u64))?;
    image.write_all_at(&superblock(&salt, &uuid, blocks)?, size.0)?;
    let root_hash = tree.write(blocks)?;
    Ok(Verity {
        root_hash,
        hash_offset: size.0,
        data_blocks: blocks,
        salt,
    })
}

/// A level of the tree: its first block in the file and how many it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Level {
    start: u64,
    blocks: u64,
}

/// The levels of a tree over so many blocks, the lowest first; the highest begins at `start`.
fn levels(data: u64, start: u64) -> Vec<Level> {
    let mut counts = Vec::new();
    let mut below = data;
    while below > 1 {
        below = below.div_ceil(PER_BLOCK);
        counts.push(below);
    }
    let mut next = start;
    let mut levels: Vec<Level> = counts
        .into_iter()
        .rev()
        .map(|blocks| {
            let start = next;
            next += blocks;
            Level { start, blocks }
        })
        .collect();
    levels.reverse();
    levels
}

struct Tree<'f> {
    image: &'f File,
    salt: [u8; DIGEST],
    levels: Vec<Level>,
}

impl Tree<'_> {
    /// The length of the file with the tree in it: the lowest level is the last.
    fn end(&self) -> u64 {
        let last = self.levels.first();
        last.map_or(0, |level| (level.start + level.blocks) * BLOCK as u64)
    }

    /// Writes all levels, each from the blocks of the one below, and gives the root's hash.
    fn write(&self, data: u64) -> io::Result<Digest> {
        let mut below = Level {
            start: 0,
            blocks: data,
        };
        for level in &self.levels {
            self.write_level(below, *level)?;
            below = *level;
        }
        let mut top = vec![0; BLOCK];
        self.image
            .read_exact_at(&mut top, below.start * BLOCK as u64)?;
        Ok(self.digest(&top))
    }

    fn write_level(&self, below: Level, level: Level) -> io::Result<()> {
        let zero = self.digest(&[0; BLOCK]);
        let mut output = Vec::with_capacity(AT_ONCE * DIGEST);
        let mut at = level.start * BLOCK as u64;
        let mut input = vec![0; AT_ONCE * BLOCK];
        let mut next = below.start;
        let end = below.start + below.blocks;
        while next < end {
            let count = usize::try_from(end - next).unwrap_or(AT_ONCE).min(AT_ONCE);
            let pieces = &mut input[..count * BLOCK];
            self.image.read_exact_at(pieces, next * BLOCK as u64)?;
            for block in pieces.chunks_exact(BLOCK) {
                // Much of a disk is zeros.
                let is_zero = block.iter().all(|byte| *byte == 0);
                let digest = if is_zero { zero } else { self.digest(block) };
                output.extend_from_slice(digest.bytes());
            }
            next += count as u64;
            self.image.write_all_at(&output, at)?;
            at += output.len() as u64;
            output.clear();
        }
        Ok(())
    }

    fn digest(&self, block: &[u8]) -> Digest {
        let mut hasher = Hasher::new();
        hasher.update(&self.salt);
        hasher.update(block);
        hasher.finish()
    }
}

/// The superblock, which has a block of its own.
fn superblock(salt: &[u8; DIGEST], uuid: &[u8; DIGEST], blocks: u64) -> io::Result<Vec<u8>> {
    let size = u32::try_from(BLOCK).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(BLOCK);
    bytes.write_all(b"verity\0\0")?;
    bytes.write_all(&1_u32.to_le_bytes())?; // Version,
    bytes.write_all(&1_u32.to_le_bytes())?; // and the type of hash: the salt comes first.
    bytes.write_all(&uuid[..16])?;
    let mut algorithm = [0; 32];
    algorithm[..6].copy_from_slice(b"sha256");
    bytes.write_all(&algorithm)?;
    bytes.write_all(&size.to_le_bytes())?; // A block of data,
    bytes.write_all(&size.to_le_bytes())?; // and of hashes.
    bytes.write_all(&blocks.to_le_bytes())?;
    bytes.write_all(
        &u16::try_from(DIGEST)
            .map_err(io::Error::other)?
            .to_le_bytes(),
    )?;
    bytes.write_all(&[0; 6])?;
    bytes.write_all(salt)?;
    bytes.resize(BLOCK, 0);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_level_comes_first() {
        let plain = |data| {
            levels(data, 100)
                .into_iter()
                .map(|level| (level.start, level.blocks))
                .collect::<Vec<_>>()
        };
        assert_eq!(plain(1), []);
        assert_eq!(plain(2), [(100, 1)]);
        assert_eq!(plain(128), [(100, 1)]);
        assert_eq!(plain(129), [(101, 2), (100, 1)]);
        assert_eq!(plain(128 * 128 + 1), [(103, 129), (101, 2), (100, 1)]);
    }
}
