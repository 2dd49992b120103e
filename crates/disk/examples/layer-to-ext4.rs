//! Makes an ext4 image of one uncompressed layer and says how long it took: what is measured
//! against `mke2fs -d`.
#![allow(clippy::print_stdout, reason = "this is a command")]

use std::fs::File;
use std::io::BufReader;
use std::time::Instant;

use firebuild_core::layer::{Item, LayerEntry, LayerReader};
use firebuild_core::tree::{Kind, Metadata, Node, NodeId, Tree, TreeError};
use firebuild_disk::ext4::{self, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [layer, output] = &arguments[..] else {
        return Err("usage: layer-to-ext4 LAYER OUTPUT".into());
    };
    let start = Instant::now();
    let layer = fs_err::File::open(layer)?.into_file();
    let tree = read(&layer)?;
    let read = start.elapsed();
    let output = fs_err::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(output)?
        .into_file();
    let summary = ext4::write(&tree, &[layer][..], &output, &Options::default())?;
    let written = start.elapsed() - read;
    println!(
        "{} used of {}, {} inodes; layer read in {read:?}, image written in {written:?}",
        summary.used, summary.size, summary.used_inodes
    );
    Ok(())
}

/// The tree of a single layer, in which whiteouts have nothing to hide.
fn read(layer: &File) -> Result<Tree, Box<dyn std::error::Error>> {
    let mut reader = LayerReader::seekable(BufReader::with_capacity(1 << 16, layer));
    let mut tree = Tree::default();
    while let Some(entry) = reader.next_entry()? {
        add(&mut tree, entry)?;
    }
    Ok(tree)
}

fn add(tree: &mut Tree, entry: LayerEntry) -> Result<(), Box<dyn std::error::Error>> {
    let LayerEntry {
        path,
        metadata,
        item,
        ..
    } = entry;
    let (parent, name) = split(&path);
    let kind = match item {
        Item::Directory => {
            let id = directory(tree, &path)?;
            *tree.metadata_mut(id) = metadata;
            return Ok(());
        }
        Item::HardLink(target) => {
            let target = tree.lookup(&target).ok_or("a link to nothing")?;
            let parent = directory(tree, parent)?;
            return Ok(tree.link(parent, name, target)?);
        }
        Item::File(content) => Kind::File(content),
        Item::Symlink(target) => Kind::Symlink(target),
        Item::CharacterDevice(device) => Kind::CharacterDevice(device),
        Item::BlockDevice(device) => Kind::BlockDevice(device),
        Item::Fifo => Kind::Fifo,
        Item::Whiteout | Item::Opaque => return Ok(()),
    };
    let parent = directory(tree, parent)?;
    tree.insert(parent, name, Node { metadata, kind })?;
    Ok(())
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// The directory of a path, made if it is not there.
fn directory(tree: &mut Tree, path: &[u8]) -> Result<NodeId, TreeError> {
    if let Some(id) = tree.lookup(path) {
        return Ok(id);
    }
    let (parent, name) = split(path);
    let parent = directory(tree, parent)?;
    tree.insert(parent, name, Node::directory(Metadata::root_owned(0o755)))
}
