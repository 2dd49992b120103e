//! The content of what a copy takes, as one digest: what decides whether it was copied before.
//!
//! It covers names, kinds, modes, owners, attributes, link targets and bytes, and no times: a
//! touched file is the same file.

use std::io;

use firebuild_core::tree::{Content, Kind, NodeId, Tree};
use firebuild_core::{Digest, Hasher};
use firebuild_oci::Sources;

use crate::copy::Match;

/// How much of a file is read at a time, in bytes.
const PIECE: usize = 256 << 10;

/// The digest of everything that these sources are, in their order.
pub(crate) fn of(sources: &[Match<'_>], contents: &Sources) -> io::Result<Digest> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; PIECE];
    for source in sources {
        field(&mut hasher, &source.name);
        node(
            &mut hasher,
            &source.tree,
            source.node,
            contents,
            &mut buffer,
        )?;
    }
    Ok(hasher.finish())
}

fn node(
    hasher: &mut Hasher,
    tree: &Tree,
    id: NodeId,
    contents: &Sources,
    buffer: &mut [u8],
) -> io::Result<()> {
    let node = tree.node(id);
    let metadata = &node.metadata;
    number(hasher, u64::from(metadata.mode));
    number(hasher, u64::from(metadata.uid));
    number(hasher, u64::from(metadata.gid));
    number(hasher, metadata.xattrs.len() as u64);
    for (name, value) in &metadata.xattrs {
        field(hasher, name);
        field(hasher, value);
    }
    match &node.kind {
        Kind::Directory(entries) => {
            field(hasher, b"directory");
            number(hasher, entries.len() as u64);
            for (name, child) in entries {
                field(hasher, name.as_bytes());
                self::node(hasher, tree, *child, contents, buffer)?;
            }
        }
        Kind::File(content) => {
            field(hasher, b"file");
            bytes(hasher, content, contents, buffer)?;
        }
        Kind::Symlink(target) => {
            field(hasher, b"symlink");
            field(hasher, target);
        }
        Kind::CharacterDevice(device) => field(
            hasher,
            format!("character {} {}", device.major, device.minor).as_bytes(),
        ),
        Kind::BlockDevice(device) => field(
            hasher,
            format!("block {} {}", device.major, device.minor).as_bytes(),
        ),
        Kind::Fifo => field(hasher, b"fifo"),
        Kind::Socket => field(hasher, b"socket"),
    }
    Ok(())
}

fn bytes(
    hasher: &mut Hasher,
    content: &Content,
    contents: &Sources,
    buffer: &mut [u8],
) -> io::Result<()> {
    number(hasher, content.length);
    let mut reader = contents.open(content)?;
    loop {
        match io::Read::read(&mut reader, buffer)? {
            0 => return Ok(()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// Bytes with their length before them, so that no two lists of fields hash alike.
fn field(hasher: &mut Hasher, bytes: &[u8]) {
    number(hasher, bytes.len() as u64);
    hasher.update(bytes);
}

fn number(hasher: &mut Hasher, number: u64) {
    hasher.update(&number.to_le_bytes());
}
