//! dm-verity: a tree of hashes behind a file system, whose root hash stands for all of its bytes.
//!
//! The form is that of `veritysetup format` (cryptsetup's wiki, "DMVerity"; Linux,
//! `Documentation/admin-guide/device-mapper/verity.rst`): a superblock of version 1, then the levels
//! of the tree, the highest first, each in whole blocks. A digest is that of the salt and a block.
//! The superblock is covered by nothing: what it says is good for finding the tree, and a changed one
//! gives another root hash.

use std::fs::File;
use std::io::{self, Write as _};
use std::ops::Range;
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

/// Where UUID and salt are in a superblock.
const UUID: Range<usize> = 16..32;
const SALT: Range<usize> = 88..120;

/// A tree of hashes.
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
    let salt = *salt_of(identity).bytes();
    let uuid = *Digest::of(&[b"firebuild verity uuid\0", identity].concat()).bytes();
    let tree = Tree::over(image, salt, blocks);
    image.set_len(size.0)?;
    image.set_len(tree.end())?;
    image.write_all_at(&superblock(&salt, &uuid, blocks)?, size.0)?;
    let root_hash = tree.write()?;
    Ok(Verity {
        root_hash,
        hash_offset: size.0,
        data_blocks: blocks,
        salt,
    })
}

/// The salt of the tree that [`append`] writes for this identity: no other identity has it, so a file
/// that is called by it tells whether it is the right one.
#[must_use]
pub fn salt_of(identity: &[u8]) -> Digest {
    Digest::of(&[b"firebuild verity\0", identity].concat())
}

/// What the tree behind the first `size` bytes of `image` says of itself: the root hash is that of its
/// highest block. None if there is no tree of the kind that [`append`] writes.
///
/// Nothing below the highest block is looked at; [`check`] does.
///
/// # Errors
/// Those of the file.
pub fn read(image: &File, size: ByteSize) -> io::Result<Option<Verity>> {
    let blocks = size.0 / BLOCK as u64;
    let length = image.metadata()?.len();
    if blocks == 0 || !size.0.is_multiple_of(BLOCK as u64) || length / BLOCK as u64 <= blocks {
        return Ok(None);
    }
    let mut bytes = vec![0; BLOCK];
    image.read_exact_at(&mut bytes, size.0)?;
    let (mut salt, mut uuid) = ([0; DIGEST], [0; DIGEST]);
    uuid[..16].copy_from_slice(&bytes[UUID]);
    salt.copy_from_slice(&bytes[SALT]);
    let tree = Tree::over(image, salt, blocks);
    if bytes != superblock(&salt, &uuid, blocks)? || length != tree.end() {
        return Ok(None);
    }
    Ok(Some(Verity {
        root_hash: tree.root_hash()?,
        hash_offset: size.0,
        data_blocks: blocks,
        salt,
    }))
}

/// Reads the whole tree and all data, from the highest block down, and tells the first block of the
/// file that is not what it should be, if there is one.
///
/// # Errors
/// Those of the file; `UnexpectedEof` if a part is missing.
pub fn check(image: &File, verity: &Verity) -> io::Result<Option<u64>> {
    let tree = Tree::over(image, verity.salt, verity.data_blocks);
    tree.first_wrong(&verity.root_hash)
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
    /// The data, and then the levels, the lowest first.
    levels: Vec<Level>,
}

impl<'f> Tree<'f> {
    /// The tree over so many blocks of data; the superblock lies between them.
    fn over(image: &'f File, salt: [u8; DIGEST], data: u64) -> Self {
        let mut all = vec![Level {
            start: 0,
            blocks: data,
        }];
        all.extend(levels(data, data + 1));
        Self {
            image,
            salt,
            levels: all,
        }
    }

    /// The length of the file with the tree in it, of which the lowest level is the last; a single
    /// block of data has none, and the superblock is the last.
    fn end(&self) -> u64 {
        let blocks = match &self.levels[..] {
            [_, lowest, ..] => lowest.start + lowest.blocks,
            data => data.iter().map(|data| data.blocks + 1).sum(),
        };
        blocks * BLOCK as u64
    }

    /// Writes all levels, each from the blocks of the one below, and gives the root's hash.
    fn write(&self) -> io::Result<Digest> {
        for (below, level) in self.levels.iter().zip(&self.levels[1..]) {
            self.digests(*below, |first, digests| {
                let at = level.start * BLOCK as u64 + first * DIGEST as u64;
                self.image.write_all_at(digests, at)?;
                Ok(None)
            })?;
        }
        self.root_hash()
    }

    /// The first block whose digest is not the one in the level above, which is sure by then.
    fn first_wrong(&self, root_hash: &Digest) -> io::Result<Option<u64>> {
        if self.root_hash()? != *root_hash {
            return Ok(Some(self.levels.last().map_or(0, |level| level.start)));
        }
        for (below, level) in self.levels.iter().zip(&self.levels[1..]).rev() {
            let wrong = self.digests(*below, |first, digests| {
                let mut expected = vec![0; digests.len()];
                let at = level.start * BLOCK as u64 + first * DIGEST as u64;
                self.image.read_exact_at(&mut expected, at)?;
                let pairs = digests.chunks(DIGEST).zip(expected.chunks(DIGEST));
                let equal = pairs.take_while(|(found, expected)| found == expected);
                let equal = equal.count() as u64;
                let differs = equal < (digests.len() / DIGEST) as u64;
                Ok(differs.then_some(below.start + first + equal))
            })?;
            if wrong.is_some() {
                return Ok(wrong);
            }
        }
        Ok(None)
    }

    /// The digest of the highest block.
    fn root_hash(&self) -> io::Result<Digest> {
        let mut top = vec![0; BLOCK];
        let start = self.levels.last().map_or(0, |level| level.start);
        self.image.read_exact_at(&mut top, start * BLOCK as u64)?;
        Ok(self.digest(&top))
    }

    /// Gives the digests of a level's blocks to `each`, many at once and with the number of the first
    /// within the level, until it returns something or there are no more.
    fn digests(
        &self,
        level: Level,
        mut each: impl FnMut(u64, &[u8]) -> io::Result<Option<u64>>,
    ) -> io::Result<Option<u64>> {
        let zero = self.digest(&[0; BLOCK]);
        let mut output = Vec::with_capacity(AT_ONCE * DIGEST);
        let mut input = vec![0; AT_ONCE * BLOCK];
        let mut next = 0;
        while next < level.blocks {
            let count = usize::try_from(level.blocks - next);
            let count = count.unwrap_or(AT_ONCE).min(AT_ONCE);
            let pieces = &mut input[..count * BLOCK];
            let at = (level.start + next) * BLOCK as u64;
            self.image.read_exact_at(pieces, at)?;
            for block in pieces.chunks_exact(BLOCK) {
                // Much of a disk is zeros.
                let is_zero = block.iter().all(|byte| *byte == 0);
                let digest = if is_zero { zero } else { self.digest(block) };
                output.extend_from_slice(digest.bytes());
            }
            let result = each(next, &output)?;
            if result.is_some() {
                return Ok(result);
            }
            next += count as u64;
            output.clear();
        }
        Ok(None)
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
