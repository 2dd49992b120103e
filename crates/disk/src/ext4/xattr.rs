//! Extended attributes: in the inode if all fit there, else all in one block, with values that
//! are too large for it in inodes of their own (`ea_inode`).

use std::borrow::Cow;

use firebuild_core::tree::Xattrs;

use super::acl;
use super::checksum::Checksum;
use super::geometry::{BLOCK, BLOCK_SIZE};
use super::inode::XATTR_SIZE;
use super::record::{Record, low8, low16, low32};
use crate::XattrProblem;

pub(super) const MAGIC: u32 = 0xea02_0000;
/// Bytes before the first entry, in an inode and in a block.
pub(super) const INSIDE_HEADER: usize = 4;
pub(super) const BLOCK_HEADER: usize = 32;
/// Bytes of an entry before its name.
pub(super) const ENTRY: usize = 16;
/// Zeros behind the last entry.
const END: usize = 4;
/// The largest value that Linux takes.
pub(super) const LONGEST_VALUE: usize = 64 << 10;
/// The longest full name that Linux takes.
const LONGEST_NAME: usize = 255;
/// The most inodes that share a block.
pub(super) const MOST_SHARING: u32 = 1024;

/// One attribute as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attribute<'a> {
    namespace: u8,
    /// Without the namespace's prefix.
    name: &'a [u8],
    value: Cow<'a, [u8]>,
}

/// Where a set of attributes goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Placement {
    /// Nowhere: there are none.
    None,
    /// Into the inode.
    Inside,
    /// Into a block; the values of these, by place in the set, into inodes of their own.
    Block(Vec<usize>),
}

/// An attribute's full name and what is wrong with it.
pub(super) type Refused<'a> = (&'a [u8], XattrProblem);

/// Checks and sorts a node's attributes in the order that a block needs.
pub(super) fn parse(xattrs: &Xattrs) -> Result<Vec<Attribute<'_>>, Refused<'_>> {
    let mut attributes = Vec::with_capacity(xattrs.len());
    for (name, value) in xattrs {
        let attribute = attribute(name, value).map_err(|problem| (&**name, problem))?;
        attributes.extend(attribute);
    }
    attributes.sort_by(|a, b| a.order().cmp(&b.order()));
    Ok(attributes)
}

/// `None` for an access control list without entries, which is none.
fn attribute<'a>(name: &'a [u8], value: &'a [u8]) -> Result<Option<Attribute<'a>>, XattrProblem> {
    if name.len() > LONGEST_NAME || name.contains(&0) {
        return Err(XattrProblem::Name);
    }
    if value.len() > LONGEST_VALUE {
        return Err(XattrProblem::TooLong);
    }
    let (namespace, name) = split(name).ok_or(XattrProblem::Namespace)?;
    let is_acl = matches!(namespace, 2 | 3);
    if name.is_empty() != is_acl {
        return Err(XattrProblem::Name);
    }
    let value = if is_acl {
        let stored = acl::stored(value).ok_or(XattrProblem::Acl)?;
        if stored.is_empty() {
            return Ok(None);
        }
        Cow::Owned(stored)
    } else {
        Cow::Borrowed(value)
    };
    Ok(Some(Attribute {
        namespace,
        name,
        value,
    }))
}

/// The namespace's number and the rest of the name.
fn split(name: &[u8]) -> Option<(u8, &[u8])> {
    match name {
        b"system.posix_acl_access" => return Some((2, &[])),
        b"system.posix_acl_default" => return Some((3, &[])),
        _ => {}
    }
    let prefixes: [(u8, &[u8]); 3] = [(1, b"user."), (4, b"trusted."), (6, b"security.")];
    prefixes
        .into_iter()
        .find_map(|(number, prefix)| Some((number, name.strip_prefix(prefix)?)))
}

impl Attribute<'_> {
    pub(super) fn value(&self) -> &[u8] {
        &self.value
    }

    fn order(&self) -> (u8, usize, &[u8]) {
        (self.namespace, self.name.len(), self.name)
    }

    fn entry_size(&self) -> usize {
        ENTRY + self.name.len().next_multiple_of(4)
    }

    fn value_size(&self) -> usize {
        self.value.len().next_multiple_of(4)
    }

    /// The hash over the name, then over the words of what stands for the value.
    fn hash(&self, value: &[u8]) -> u32 {
        let name = self
            .name
            .iter()
            .fold(0_u32, |hash, byte| hash.rotate_left(5) ^ u32::from(*byte));
        value.chunks(4).fold(name, |hash, bytes| {
            let mut word = [0; 4];
            word[..bytes.len()].copy_from_slice(bytes);
            hash.rotate_left(16) ^ u32::from_le_bytes(word)
        })
    }
}

/// Decides where attributes go. `None` if not even their names fit.
pub(super) fn place(attributes: &[Attribute<'_>]) -> Option<Placement> {
    if attributes.is_empty() {
        return Some(Placement::None);
    }
    let entries: usize = attributes.iter().map(Attribute::entry_size).sum();
    let values: usize = attributes.iter().map(Attribute::value_size).sum();
    if INSIDE_HEADER + entries + END + values <= XATTR_SIZE {
        return Some(Placement::Inside);
    }
    let room = BLOCK_SIZE.checked_sub(BLOCK_HEADER + entries + END)?;
    let mut by_size: Vec<usize> = (0..attributes.len()).collect();
    by_size.sort_by_key(|index| attributes[*index].value_size());
    let mut outside = Vec::new();
    let mut left = values;
    while left > room {
        let index = by_size.pop()?;
        left -= attributes[index].value_size();
        outside.push(index);
    }
    outside.sort_unstable();
    Some(Placement::Block(outside))
}

/// What stands in the inode.
pub(super) fn encode_inside(attributes: &[Attribute<'_>]) -> [u8; XATTR_SIZE] {
    let mut bytes = [0; XATTR_SIZE];
    Record(&mut bytes).u32(0, MAGIC);
    put(&mut bytes[INSIDE_HEADER..], 0, attributes, |_| None);
    bytes
}

/// A block of attributes.
pub(super) struct XattrBlock<'a> {
    pub(super) attributes: &'a [Attribute<'a>],
    /// Those whose values are elsewhere: place in the set, and number of the inode.
    pub(super) outside: &'a [(usize, u32)],
    /// How many inodes have it.
    pub(super) references: u32,
    /// The block's own number.
    pub(super) block: u64,
}

impl XattrBlock<'_> {
    pub(super) fn encode(&self, seed: Checksum) -> [u8; BLOCK_SIZE] {
        let mut bytes = [0; BLOCK_SIZE];
        let outside = |index: usize| {
            let found = self.outside.iter().find(|(at, _)| *at == index)?;
            let hash = value_hash(self.attributes[index].value(), seed);
            Some((found.1, hash))
        };
        let hash = put(&mut bytes, BLOCK_HEADER, self.attributes, outside);
        let mut record = Record(&mut bytes);
        record.u32(0, MAGIC);
        record.u32(4, self.references);
        record.u32(8, 1);
        record.u32(12, hash);
        let checksum = seed.over(&self.block.to_le_bytes()).over(record.0);
        record.u32(16, checksum.0);
        bytes
    }
}

/// The hash that the inode of a value carries.
pub(super) fn value_hash(value: &[u8], seed: Checksum) -> u32 {
    seed.over(value).0
}

/// Blocks of an inode for a value.
pub(super) fn value_blocks(value: &[u8]) -> u64 {
    (value.len() as u64).div_ceil(BLOCK)
}

/// Entries from `at` upwards, values from the end downwards; returns the hash over all entries.
fn put(
    bytes: &mut [u8],
    mut at: usize,
    attributes: &[Attribute<'_>],
    outside: impl Fn(usize) -> Option<(u32, u32)>,
) -> u32 {
    let mut end = bytes.len();
    let mut hashes = Vec::with_capacity(attributes.len());
    for (index, attribute) in attributes.iter().enumerate() {
        let elsewhere = outside(index);
        let hash = match elsewhere {
            Some((_, hash)) => attribute.hash(&hash.to_le_bytes()),
            None => attribute.hash(&attribute.value),
        };
        hashes.push(hash);
        let mut offset = 0;
        if elsewhere.is_none() && !attribute.value.is_empty() {
            end -= attribute.value_size();
            offset = end;
            Record(bytes).bytes(end, &attribute.value);
        }
        let mut record = Record(&mut bytes[at..]);
        record.u8(0, low8(attribute.name.len() as u64));
        record.u8(1, attribute.namespace);
        record.u16(2, low16(low32(offset as u64)));
        record.u32(4, elsewhere.map_or(0, |(inode, _)| inode));
        record.u32(8, low32(attribute.value.len() as u64));
        record.u32(12, hash);
        record.bytes(ENTRY, attribute.name);
        at += attribute.entry_size();
    }
    if hashes.contains(&0) {
        return 0;
    }
    let mix = |sum: u32, hash: &u32| sum.rotate_left(16) ^ hash;
    hashes.iter().fold(0, mix)
}
