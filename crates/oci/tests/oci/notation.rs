//! Layers and trees as lines of text.
//!
//! `d PATH [MODE]`, `f PATH CONTENT`, `s PATH TARGET` (symbolic link), `h PATH TARGET` (hard link),
//! `p PATH` (pipe), `w PATH` (whiteout), `o PATH` (opaque). The root is `/`.

use std::collections::HashMap;
use std::io::{Cursor, Read};

use firebuild_core::layer::{Entry, LayerWriter, Limits};
use firebuild_core::tree::{Kind, Metadata, Node, Tree};
use firebuild_oci::{LayerIndex, Sources};

/// A layer's bytes.
pub(crate) fn layer(lines: &[&str]) -> Vec<u8> {
    let mut writer = LayerWriter::new(Vec::new());
    for line in lines {
        let mut words = line.splitn(3, ' ');
        let (kind, path) = (words.next().unwrap(), words.next().unwrap());
        let path = path.trim_matches('/').as_bytes();
        let rest = words.next().unwrap_or_default().as_bytes();
        let metadata = Metadata::root_owned(0o644);
        match kind {
            "d" => {
                let mode = if rest.is_empty() {
                    "755"
                } else {
                    words_of(rest)
                };
                let mode = u16::from_str_radix(mode, 8).unwrap();
                let metadata = Metadata::root_owned(mode);
                writer.entry(path, &metadata, Entry::Directory)
            }
            "f" => writer.file(path, &metadata, rest.len() as u64, &mut &rest[..]),
            "s" => writer.entry(path, &metadata, Entry::Symlink(rest)),
            "h" => writer.entry(path, &metadata, Entry::HardLink(rest)),
            "p" => writer.entry(path, &metadata, Entry::Fifo),
            "w" => writer.whiteout(path),
            "o" => writer.opaque(path),
            other => panic!("{other}"),
        }
        .unwrap();
    }
    writer.finish().unwrap()
}

fn words_of(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The tree of layers, lowest first.
pub(crate) fn merged(layers: &[Vec<u8>]) -> firebuild_oci::Result<(Tree, Sources)> {
    let mut tree = Tree::default();
    let mut sources = Sources::new();
    for bytes in layers {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, bytes).unwrap();
        let source = sources.add_file(file);
        let index = LayerIndex::read(Cursor::new(bytes), source, Limits::default()).unwrap();
        firebuild_oci::apply(&mut tree, index)?;
    }
    Ok((tree, sources))
}

/// A tree's lines. A hard link's target is the name that comes first; the mode of a directory is
/// shown if it is not 755, and the root is not shown then.
pub(crate) fn lines(tree: &Tree, sources: &Sources) -> Vec<String> {
    let mut lines = Vec::new();
    let mut names = HashMap::new();
    tree.walk(&mut |path, id| {
        let path = String::from_utf8_lossy(path).into_owned();
        let Node { metadata, kind } = tree.node(id);
        if let Some(first) = names.get(&id) {
            lines.push(format!("h {path} {first}"));
            return;
        }
        names.insert(id, path.clone());
        let line = match kind {
            Kind::Directory(_) if metadata.mode == 0o755 => format!("d {path}"),
            Kind::Directory(_) => format!("d {path} {:o}", metadata.mode),
            Kind::File(content) => {
                let mut text = String::new();
                let mut bytes = sources.open(content).unwrap();
                bytes.read_to_string(&mut text).unwrap();
                format!("f {path} {text}")
            }
            Kind::Symlink(target) => format!("s {path} {}", words_of(target)),
            Kind::Fifo => format!("p {path}"),
            other => panic!("{other:?}"),
        };
        lines.push(line);
    });
    lines.retain(|line| line != "d ");
    lines
}
