//! Directories: whatever index they have, their entries stand in a row.

use super::blocks;
use super::error::{Result, damaged};
use super::image::Image;
use super::inode::Inode;
use crate::ext4::fields::Fields;

/// Bytes of an entry before its name.
const HEADER: usize = 8;

/// A name in a directory, and what has it.
pub(super) struct Entry {
    pub(super) inode: u32,
    pub(super) name: Box<[u8]>,
}

/// The entries of a directory but for itself and its parent.
pub(super) fn entries(image: &mut Image<'_>, directory: &Inode) -> Result<Vec<Entry>> {
    let bytes = blocks::content(image, directory)?;
    let size = usize::try_from(image.block_size).unwrap_or(usize::MAX);
    let mut entries = Vec::new();
    for block in bytes.chunks(size) {
        let mut rest = block;
        while !rest.is_empty() {
            let (entry, behind) = first(rest, size)?;
            entries.extend(entry);
            rest = behind;
        }
    }
    Ok(entries)
}

/// The first entry of the rest of a block, if it is in use, and what comes behind it.
fn first(rest: &[u8], block_size: usize) -> Result<(Option<Entry>, &[u8])> {
    let broken = || damaged("a directory's entries do not fit into their block");
    if rest.len() < HEADER {
        return Err(broken());
    }
    let fields = Fields(rest);
    let length = match fields.u16(4) {
        // The two ways to say 65536.
        0 | u16::MAX if block_size > usize::from(u16::MAX) => block_size,
        length => usize::from(length),
    };
    let name = HEADER..HEADER + usize::from(rest[6]);
    if length < HEADER || length > rest.len() || name.end > length {
        return Err(broken());
    }
    let (entry, behind) = rest.split_at(length);
    let (inode, name) = (fields.u32(0), &entry[name]);
    let is_other = inode != 0 && name != b"." && name != b"..";
    let entry = is_other.then(|| Entry {
        inode,
        name: name.into(),
    });
    Ok((entry, behind))
}
