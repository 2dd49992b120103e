//! Layers as lists of entries, in the order in which an archive has them.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use firebuild_core::tree::{Device, Metadata};

/// A path without slashes at its ends; empty for the root directory.
pub(crate) type Path = Vec<u8>;

#[derive(Debug, Clone)]
pub(crate) enum Item {
    Directory,
    File(File),
    HardLink(Path),
    Symlink(Vec<u8>),
    Character(Device),
    Block(Device),
    Fifo,
    Whiteout,
    Opaque,
}

/// A file's bytes: runs of data at their places, in order.
#[derive(Debug, Clone)]
pub(crate) struct File {
    pub(crate) length: u64,
    pub(crate) runs: Vec<(u64, Vec<u8>)>,
}

impl File {
    pub(crate) fn is_sparse(&self) -> bool {
        let [(0, bytes)] = self.runs.as_slice() else {
            return self.length > 0;
        };
        (bytes.len() as u64) < self.length
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.length).unwrap()];
        for (start, run) in &self.runs {
            let start = usize::try_from(*start).unwrap();
            bytes[start..start + run.len()].copy_from_slice(run);
        }
        bytes
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) path: Path,
    pub(crate) metadata: Metadata,
    pub(crate) item: Item,
}

/// How an archive says what does not fit into its headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Pax,
    Gnu,
}

#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub(crate) form: Form,
    pub(crate) compression: &'static str,
    pub(crate) entries: Vec<Entry>,
}

impl Layer {
    /// The entry of a path that is no marker.
    pub(crate) fn entry(&self, path: &[u8]) -> Option<&Entry> {
        let mut entries = self.entries.iter();
        entries.find(|entry| entry.path == path && !entry.is_marker())
    }

    pub(crate) fn has(&self, path: &[u8], marker: fn(&Item) -> bool) -> bool {
        let mut entries = self.entries.iter();
        entries.any(|entry| entry.path == path && marker(&entry.item))
    }

    /// Whether the layer has something at a path that is no directory.
    pub(crate) fn replaces(&self, path: &[u8]) -> bool {
        let entry = self.entry(path);
        entry.is_some_and(|entry| !matches!(entry.item, Item::Directory))
    }

    /// Whether the layer hides what lower layers have at a path, by itself or with what is around it.
    pub(crate) fn hides(&self, path: &[u8]) -> bool {
        let whiteout = |item: &Item| matches!(item, Item::Whiteout);
        self.has(path, whiteout)
            || above(path)
                .iter()
                .any(|path| self.has(path, whiteout) || self.has(path, Item::is_opaque))
    }
}

impl Item {
    pub(crate) fn is_opaque(&self) -> bool {
        matches!(self, Item::Opaque)
    }
}

impl Entry {
    pub(crate) fn is_marker(&self) -> bool {
        matches!(self.item, Item::Whiteout | Item::Opaque)
    }
}

/// The directories above a path, the root first; none for the root.
pub(crate) fn above(path: &[u8]) -> Vec<&[u8]> {
    if path.is_empty() {
        return Vec::new();
    }
    let slashes = (0..path.len()).filter(|at| path[*at] == b'/');
    std::iter::once(&b""[..])
        .chain(slashes.map(|at| &path[..at]))
        .collect()
}

/// The directories that some layer needs and does not list.
pub(crate) fn unlisted(layers: &[Layer]) -> BTreeSet<Path> {
    let mut unlisted = BTreeSet::new();
    for layer in layers {
        let listed: BTreeSet<&[u8]> = layer
            .entries
            .iter()
            .filter(|entry| matches!(entry.item, Item::Directory))
            .map(|entry| entry.path.as_slice())
            .collect();
        for entry in &layer.entries {
            let mut needed = above(&entry.path);
            if entry.item.is_opaque() {
                needed.push(&entry.path);
            }
            let needed = needed.into_iter().filter(|path| !listed.contains(path));
            unlisted.extend(needed.map(<[u8]>::to_vec));
        }
    }
    unlisted
}

/// What [`shown`] says of everything that layers can have.
pub(crate) const WORDS: &[&str] = &[
    "directory",
    "file",
    "sparse",
    "hard link",
    "hard link to a lower layer",
    "symbolic link",
    "character device",
    "block device",
    "fifo",
    "whiteout",
    "opaque",
    "security.capability",
    "system.posix_acl_access",
    "trusted.",
    "user.",
    "\\xff",
    "4294967294",
    "Pax, gzip",
    "Pax, zstd",
    "Pax, bzip2",
    "Pax, xz",
    "Pax, cat",
    "Gnu, gzip",
    "before 1970",
    "set-id",
    "long name",
];

/// All of it, for people.
pub(crate) fn shown(layers: &[Layer]) -> String {
    let mut text = String::new();
    for (number, layer) in layers.iter().enumerate() {
        let (form, compression) = (layer.form, layer.compression);
        writeln!(text, "layer {number} ({form:?}, {compression})").unwrap();
        for entry in &layer.entries {
            writeln!(text, "  {}", line(layer, entry)).unwrap();
        }
    }
    text
}

fn line(layer: &Layer, entry: &Entry) -> String {
    let metadata = &entry.metadata;
    let mut line = format!("`{}` ", entry.path.escape_ascii());
    line.push_str(&match &entry.item {
        Item::Directory => "directory".to_owned(),
        Item::File(file) if file.is_sparse() => format!("sparse file of {}", file.length),
        Item::File(file) => format!("file of {}", file.length),
        Item::HardLink(to) if layer.entry(to).is_some() => {
            format!("hard link to `{}`", to.escape_ascii())
        }
        Item::HardLink(to) => format!("hard link to a lower layer's `{}`", to.escape_ascii()),
        Item::Symlink(to) => format!("symbolic link to `{}`", to.escape_ascii()),
        Item::Character(device) => format!("character device {device:?}"),
        Item::Block(device) => format!("block device {device:?}"),
        Item::Fifo => "fifo".to_owned(),
        Item::Whiteout => "whiteout".to_owned(),
        Item::Opaque => "opaque".to_owned(),
    });
    if entry.path.len() > 100 {
        line.push_str(", long name");
    }
    if entry.is_marker() || matches!(entry.item, Item::HardLink(_)) {
        return line;
    }
    let Metadata { uid, gid, mode, .. } = metadata;
    write!(line, ", {mode:o} {uid}:{gid} {:?}", metadata.mtime).unwrap();
    if metadata.mtime.seconds < 0 {
        line.push_str(" before 1970");
    }
    if metadata.mode & 0o6000 != 0 {
        line.push_str(" set-id");
    }
    for (name, value) in &metadata.xattrs {
        write!(line, " {}={}", name.escape_ascii(), value.escape_ascii()).unwrap();
    }
    line
}
