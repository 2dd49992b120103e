//! Extended attributes: in the inode, in a block, and values in inodes of their own.

use firebuild_core::tree::Xattrs;

use super::blocks;
use super::error::{Result, damaged};
use super::image::Image;
use super::inode::Inode;
use crate::ext4::acl;
use crate::ext4::fields::Fields;
use crate::ext4::xattr::{BLOCK_HEADER, ENTRY, INSIDE_HEADER, LONGEST_VALUE, MAGIC};

/// All attributes of an inode.
pub(super) fn of(image: &mut Image<'_>, inode: &Inode) -> Result<Xattrs> {
    let mut attributes = Xattrs::new();
    let inside = &inode.attributes;
    if inside.len() > INSIDE_HEADER && Fields(inside).u32(0) == MAGIC {
        let area = &inside[INSIDE_HEADER..];
        // Values are found from behind the header.
        entries(image, area, area, &mut attributes)?;
    }
    if inode.attribute_block != 0 {
        let block = image.shared_block(inode.attribute_block)?;
        if Fields(&block).u32(0) != MAGIC {
            return Err(damaged("a block of extended attributes is none"));
        }
        entries(image, &block[BLOCK_HEADER..], &block, &mut attributes)?;
    }
    Ok(attributes)
}

/// Reads entries until there is none; their values are in `values`.
fn entries(
    image: &mut Image<'_>,
    mut rest: &[u8],
    values: &[u8],
    attributes: &mut Xattrs,
) -> Result<()> {
    let broken = || damaged("extended attributes do not fit into their place");
    // Four zeros end them, and so does the end of the place.
    while rest.len() >= 4 && Fields(rest).u32(0) != 0 {
        if rest.len() < ENTRY {
            return Err(broken());
        }
        let fields = Fields(rest);
        let length = usize::from(rest[0]);
        let short = rest.get(ENTRY..ENTRY + length).ok_or_else(broken)?;
        let size = usize::try_from(fields.u32(8)).unwrap_or(usize::MAX);
        if size > LONGEST_VALUE {
            return Err(damaged("an extended attribute is too long"));
        }
        image.budget.attributes(size + ENTRY + length)?;
        let value = match fields.u32(4) {
            0 => {
                let at = usize::from(fields.u16(2));
                values.get(at..at + size).ok_or_else(broken)?.to_vec()
            }
            number => outside(image, number, size)?,
        };
        if let Some((name, value)) = shown(rest[1], short, value)? {
            attributes.insert(name.into(), value.into());
        }
        rest = rest
            .get(ENTRY + length.next_multiple_of(4)..)
            .unwrap_or_default();
    }
    Ok(())
}

/// A value in an inode of its own, which others may have as well.
fn outside(image: &mut Image<'_>, number: u32, size: usize) -> Result<Vec<u8>> {
    if let Some(known) = image
        .values
        .get(&number)
        .filter(|known| known.len() == size)
    {
        return Ok(known.clone());
    }
    let inode = image.inode(number)?;
    if inode.size != size as u64 {
        return Err(damaged("an extended attribute has another length"));
    }
    let value = blocks::content(image, &inode)?;
    image.values.insert(number, value.clone());
    Ok(value)
}

/// An attribute as Linux shows it; none if it shows none.
fn shown(namespace: u8, name: &[u8], value: Vec<u8>) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
    let prefix: &[u8] = match namespace {
        1 => b"user.",
        2 | 3 => {
            let name: &[u8] = match namespace {
                2 => b"system.posix_acl_access",
                _ => b"system.posix_acl_default",
            };
            let list = acl::shown(&value);
            let list = list.ok_or_else(|| damaged("an access control list is none"))?;
            return Ok(Some((name.to_vec(), list)));
        }
        4 => b"trusted.",
        6 => b"security.",
        // Those of the system itself (inline data, encryption, old Lustre).
        _ => return Ok(None),
    };
    Ok(Some(([prefix, name].concat(), value)))
}
