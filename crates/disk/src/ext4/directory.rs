//! Directories: entries in blocks, and from two blocks on an index by hash (`dir_index`).
//!
//! An indexed directory begins with its root block, then comes the second level of the index if
//! there is one, then the leaves in the order of their hashes. Every leaf is filled to the last
//! entry that fits.

use std::io;

use firebuild_core::tree::Name;

use super::checksum::Checksum;
use super::geometry::BLOCK_SIZE;
use super::hash::{self, Seed};
use super::record::{Record, low8, low16, low32};

/// Where a leaf's checksum is, in an entry of its own.
const TAIL: usize = BLOCK_SIZE - 12;
/// Bytes of `.` and of `..`.
const DOT: usize = 12;
/// The type that marks the entry of the checksum.
const TAIL_TYPE: u8 = 0xde;
/// Where the index entries of a root begin: behind `.`, `..`, and what is said about the index.
const ROOT_ENTRIES: usize = 32;
/// Where those of the second level begin: behind an empty entry.
const NODE_ENTRIES: usize = 8;
/// Where an index block's checksum is.
const INDEX_TAIL: usize = BLOCK_SIZE - 8;
const IN_ROOT: usize = (INDEX_TAIL - ROOT_ENTRIES) / 8;
const IN_NODE: usize = (INDEX_TAIL - NODE_ENTRIES) / 8;
/// Half MD4; the superblock's flags say that bytes are unsigned.
pub(super) const HASH_VERSION: u8 = 1;

/// A directory of more entries than two levels index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany;

/// One entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a Name,
    pub(super) inode: u32,
    pub(super) kind: EntryKind,
}

/// The type of file that an entry tells beside its inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum EntryKind {
    File = 1,
    Directory = 2,
    CharacterDevice = 3,
    BlockDevice = 4,
    Fifo = 5,
    Socket = 6,
    Symlink = 7,
}

/// How many blocks a directory of these names has, and so whether it is indexed: from 2 on.
pub(super) fn block_count<'a>(
    names: impl Iterator<Item = &'a Name> + Clone,
    seed: &Seed,
) -> Result<u64, TooMany> {
    let total: usize = names.clone().map(entry_size).sum();
    if 2 * DOT + total <= TAIL {
        return Ok(1);
    }
    let leaves = leaves(&sorted(names, seed)).len();
    let nodes = nodes(leaves)?;
    Ok((1 + nodes + leaves) as u64)
}

/// The inodes of a directory and of the one above it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers {
    pub(super) own: u32,
    pub(super) parent: u32,
}

/// What a directory's hashes and checksums begin with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seeds {
    pub(super) hash: Seed,
    pub(super) checksum: Checksum,
}

/// Makes the blocks of a directory in order.
pub(super) fn encode(
    numbers: Numbers,
    entries: &[Entry<'_>],
    seeds: &Seeds,
    emit: &mut dyn FnMut(&[u8; BLOCK_SIZE]) -> io::Result<()>,
) -> io::Result<()> {
    let seed = seeds.checksum;
    let total: usize = entries.iter().map(|entry| entry_size(entry.name)).sum();
    if 2 * DOT + total <= TAIL {
        let mut leaf = Leaf::new();
        leaf.push(b".", numbers.own, EntryKind::Directory);
        leaf.push(b"..", numbers.parent, EntryKind::Directory);
        for entry in entries {
            leaf.push(entry.name.as_bytes(), entry.inode, entry.kind);
        }
        return emit(&leaf.finish(seed));
    }
    let sorted = sorted(entries.iter().map(|entry| entry.name), &seeds.hash);
    let leaves = leaves(&sorted);
    let nodes = nodes(leaves.len()).unwrap_or(0);
    let first_leaf = 1 + nodes;
    let leaf_entries: Vec<_> = (first_leaf..)
        .zip(&leaves)
        .map(|(block, leaf)| (leaf.hash, low32(block as u64)))
        .collect();
    if nodes == 0 {
        emit(&root(numbers, &leaf_entries, 0, seed))?;
    } else {
        let chunks = leaf_entries.chunks(IN_NODE);
        let node_entries: Vec<_> = (1..)
            .zip(chunks.clone())
            .map(|(block, chunk)| (chunk[0].0, block))
            .collect();
        emit(&root(numbers, &node_entries, 1, seed))?;
        for chunk in chunks {
            emit(&node(chunk, seed))?;
        }
    }
    for span in &leaves {
        let mut leaf = Leaf::new();
        for hashed in &sorted[span.first..span.end] {
            let entry = &entries[hashed.index];
            leaf.push(entry.name.as_bytes(), entry.inode, entry.kind);
        }
        emit(&leaf.finish(seed))?;
    }
    Ok(())
}

fn entry_size(name: &Name) -> usize {
    8 + name.as_bytes().len().next_multiple_of(4)
}

/// A name's hash and place in the directory's own order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Hashed {
    hash: (u32, u32),
    index: usize,
    size: usize,
}

fn sorted<'a>(names: impl Iterator<Item = &'a Name>, seed: &Seed) -> Vec<Hashed> {
    let mut hashed: Vec<_> = names
        .enumerate()
        .map(|(index, name)| Hashed {
            hash: hash::half_md4(name.as_bytes(), seed),
            index,
            size: entry_size(name),
        })
        .collect();
    hashed.sort_unstable();
    hashed
}

/// The entries of one leaf, as a range of the sorted ones.
#[derive(Debug, Clone, Copy)]
struct Span {
    /// The lowest hash; bit 0 set if the leaf before has entries of the same hash.
    hash: u32,
    first: usize,
    end: usize,
}

fn leaves(sorted: &[Hashed]) -> Vec<Span> {
    let mut leaves: Vec<Span> = Vec::new();
    let mut room = 0;
    for (index, entry) in sorted.iter().enumerate() {
        if entry.size > room {
            let hash = entry.hash.0;
            let continued = index > 0 && sorted[index - 1].hash.0 == hash;
            leaves.push(Span {
                hash: hash | u32::from(continued),
                first: index,
                end: index,
            });
            room = TAIL;
        }
        room -= entry.size;
        if let Some(leaf) = leaves.last_mut() {
            leaf.end = index + 1;
        }
    }
    leaves
}

/// Blocks of the index's second level.
fn nodes(leaves: usize) -> Result<usize, TooMany> {
    match leaves.div_ceil(IN_NODE) {
        _ if leaves <= IN_ROOT => Ok(0),
        nodes if nodes <= IN_ROOT => Ok(nodes),
        _ => Err(TooMany),
    }
}

/// A block of entries being filled.
struct Leaf {
    block: [u8; BLOCK_SIZE],
    last: usize,
    end: usize,
}

impl Leaf {
    fn new() -> Self {
        Self {
            block: [0; BLOCK_SIZE],
            last: 0,
            end: 0,
        }
    }

    fn push(&mut self, name: &[u8], inode: u32, kind: EntryKind) {
        let size = 8 + name.len().next_multiple_of(4);
        put_entry(&mut self.block[self.end..], inode, size, name, kind);
        self.last = self.end;
        self.end += size;
    }

    /// Stretches the last entry over the rest and adds the checksum.
    fn finish(mut self, seed: Checksum) -> [u8; BLOCK_SIZE] {
        let length = length16(TAIL - self.last);
        Record(&mut self.block[self.last..]).u16(4, length);
        let checksum = seed.over(&self.block[..TAIL]);
        let mut tail = Record(&mut self.block[TAIL..]);
        tail.u16(4, length16(BLOCK_SIZE - TAIL));
        tail.u8(7, TAIL_TYPE);
        tail.u32(8, checksum.0);
        self.block
    }
}

fn put_entry(bytes: &mut [u8], inode: u32, size: usize, name: &[u8], kind: EntryKind) {
    let mut record = Record(bytes);
    record.u32(0, inode);
    record.u16(4, length16(size));
    record.u8(6, low8(name.len() as u64));
    record.u8(7, kind as u8);
    record.bytes(8, name);
}

fn root(numbers: Numbers, entries: &[(u32, u32)], levels: u8, seed: Checksum) -> [u8; BLOCK_SIZE] {
    let mut block = [0; BLOCK_SIZE];
    put_entry(&mut block, numbers.own, DOT, b".", EntryKind::Directory);
    put_entry(
        &mut block[DOT..],
        numbers.parent,
        BLOCK_SIZE - DOT,
        b"..",
        EntryKind::Directory,
    );
    let mut record = Record(&mut block);
    record.u8(28, HASH_VERSION);
    record.u8(29, 8);
    record.u8(30, levels);
    put_index(&mut block, ROOT_ENTRIES, entries, seed);
    block
}

fn node(entries: &[(u32, u32)], seed: Checksum) -> [u8; BLOCK_SIZE] {
    let mut block = [0; BLOCK_SIZE];
    Record(&mut block).u16(4, length16(BLOCK_SIZE));
    put_index(&mut block, NODE_ENTRIES, entries, seed);
    block
}

/// Entries of hash and block; in place of the first one's hash stand limit and count.
fn put_index(block: &mut [u8; BLOCK_SIZE], at: usize, entries: &[(u32, u32)], seed: Checksum) {
    let mut record = Record(block);
    for (index, (hash, target)) in entries.iter().enumerate() {
        record.u32(at + 8 * index, *hash);
        record.u32(at + 8 * index + 4, *target);
    }
    record.u16(at, length16((INDEX_TAIL - at) / 8));
    record.u16(at + 2, length16(entries.len()));
    // Over the entries in use, and over the tail with its checksum as zero.
    let checksum = seed.over(&block[..at + 8 * entries.len()]).over(&[0; 8]);
    Record(block).u32(INDEX_TAIL + 4, checksum.0);
}

/// A length within a block, which fits 16 bits.
fn length16(length: usize) -> u16 {
    low16(low32(length as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_has_two_levels_at_most() {
        let cases = [
            (2, Ok(0)),
            (507, Ok(0)),
            (508, Ok(1)),
            (511, Ok(2)),
            (507 * 510, Ok(507)),
            (507 * 510 + 1, Err(TooMany)),
        ];
        for (leaves, expected) in cases {
            assert_eq!(nodes(leaves), expected, "{leaves}");
        }
    }

    #[test]
    fn an_index_begins_where_one_block_is_full() {
        let names = |count: u8| -> Vec<Name> {
            let name = |index| Name::new(&[&[index], &[b'x'; 99][..]].concat()).unwrap();
            (b'A'..b'A' + count).map(name).collect()
        };
        // 108 bytes each, beside 24 for `.` and `..` and 12 for the checksum.
        for (count, expected) in [(0, 1), (37, 1), (38, 3)] {
            let names = names(count);
            assert_eq!(block_count(names.iter(), &[1; 4]), Ok(expected), "{count}");
        }
    }
}
