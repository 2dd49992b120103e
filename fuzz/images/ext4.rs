//! Any tree is refused, or becomes a file system in which `e2fsck` finds nothing.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    missing_docs,
    unreachable_pub,
    reason = "a finding is a panic; and tests include this as a module of their own"
)]

use std::fs::File;
use std::io;
use std::process::Command;

use firebuild_core::ByteSize;
use firebuild_core::tree::{
    Content, Device, Kind, Metadata, Node, NodeId, Segment, Timestamp, Tree,
};
use firebuild_disk::ContentSource;
use firebuild_disk::ext4::{self, Blocks, Options, Room};

const BLOCK: u64 = 4096;

/// Bytes that say what a tree is like.
struct Words<'d>(&'d [u8]);

impl Words<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for _ in 0..1 + self.byte()? % 8 {
            number = number << 8 | u64::from(self.byte()?);
        }
        Some(number)
    }

    fn bytes(&mut self) -> Option<Vec<u8>> {
        let length = usize::from(self.byte()?);
        let length = length.min(self.0.len());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(bytes.to_vec())
    }
}

/// Content that is the same wherever it is read.
struct Pattern(Vec<Blocks>);

impl ContentSource for Pattern {
    fn read_exact_at(&self, _: u32, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        for (at, byte) in (offset..).zip(buffer) {
            *byte = (at % 251) as u8;
        }
        Ok(())
    }

    fn placed(&self, source: u32) -> Option<&Blocks> {
        self.0.get(usize::try_from(source).ok()?.checked_sub(1)?)
    }
}

/// The invariants; it panics where they do not hold.
pub fn ext4(data: &[u8]) {
    let mut words = Words(data);
    let mut room = Room::new();
    let mut placed = Blocks::new();
    for _ in 0..words.byte().unwrap_or(0) % 4 {
        if let Some(blocks) = words.byte().and_then(|most| room.take(1 + u64::from(most))) {
            placed.push(blocks);
        }
    }
    let source = Pattern(vec![placed]);
    let mut tree = Tree::default();
    let mut directories = vec![tree.root()];
    let mut others = Vec::new();
    let mut left = 64 << 20;
    while step(
        &mut words,
        &mut tree,
        &mut directories,
        &mut others,
        &mut left,
    )
    .is_some()
    {}
    let options = Options {
        identity: data.to_vec(),
        minimum_size: ByteSize(u64::from(words.byte().unwrap_or(0)) << 20),
        free_inodes: u32::from(words.byte().unwrap_or(0)),
        ..Options::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .unwrap();
    let Ok(summary) = ext4::finish(&tree, &source, &room, &file, &options) else {
        return;
    };
    assert_eq!(file.metadata().unwrap().len(), summary.size.0);
    let output = Command::new("e2fsck")
        .arg("-fn")
        .arg(&path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    let found = ext4::read(&file, 0).unwrap();
    assert_eq!(names(&found), names(&tree));
}

/// Every path, and what is the same whatever its content's place is.
fn names(tree: &Tree) -> Vec<(Vec<u8>, u32, u64)> {
    let mut names = Vec::new();
    tree.walk(&mut |path, id| {
        let node = tree.node(id);
        let length = match &node.kind {
            Kind::File(content) => content.length,
            Kind::Symlink(target) => target.len() as u64,
            _ => 0,
        };
        names.push((path.to_vec(), node.metadata.uid, length));
    });
    names
}

/// Does one thing to the tree; none when the words are used up.
fn step(
    words: &mut Words<'_>,
    tree: &mut Tree,
    directories: &mut Vec<NodeId>,
    others: &mut Vec<NodeId>,
    left: &mut u64,
) -> Option<()> {
    let what = words.byte()?;
    let parent = directories[usize::from(words.byte()?) % directories.len()];
    let name = words.bytes()?;
    if what % 16 == 0 {
        let target = *others.get(usize::from(words.byte()?) % others.len().max(1))?;
        let _ = tree.link(parent, &name, target);
        return Some(());
    }
    let kind = kind(words, what, left)?;
    let is_directory = matches!(kind, Kind::Directory(_));
    let node = Node {
        metadata: metadata(words)?,
        kind,
    };
    if tree.child(parent, &name).is_some() {
        return Some(());
    }
    if let Ok(id) = tree.insert(parent, &name, node) {
        if is_directory {
            directories.push(id)
        } else {
            others.push(id)
        }
    }
    Some(())
}

fn kind(words: &mut Words<'_>, what: u8, left: &mut u64) -> Option<Kind> {
    Some(match what % 16 {
        1..=4 => Kind::Directory(Default::default()),
        5 => Kind::Symlink(
            words
                .bytes()?
                .repeat(1 + usize::from(words.byte()? % 20))
                .into(),
        ),
        6 => Kind::CharacterDevice(device(words)?),
        7 => Kind::BlockDevice(device(words)?),
        8 => Kind::Fifo,
        9 => Kind::Socket,
        _ => Kind::File(content(words, left)?),
    })
}

fn device(words: &mut Words<'_>) -> Option<Device> {
    Some(Device {
        major: words.number()? as u32,
        minor: words.number()? as u32,
    })
}

fn content(words: &mut Words<'_>, left: &mut u64) -> Option<Content> {
    let length = words.number()?;
    let source = u32::from(words.byte()? % 2);
    let unit = if source == 1 { BLOCK } else { 1 };
    let mut segments = Vec::new();
    for _ in 0..words.byte()? % 8 {
        let segment = Segment {
            start: words.number()?.wrapping_mul(unit),
            offset: words.number()?.wrapping_mul(unit),
            length: words.number()?,
        };
        // What is written is bounded; what is refused need not be.
        let is_placed_or_small = source == 1 || segment.length <= *left;
        if is_placed_or_small {
            *left = left.saturating_sub(segment.length);
            segments.push(segment);
        }
    }
    Some(Content {
        source,
        length,
        segments: segments.into(),
    })
}

fn metadata(words: &mut Words<'_>) -> Option<Metadata> {
    let flags = words.byte()?;
    let mut metadata = Metadata::root_owned(0o644);
    if flags & 1 != 0 {
        metadata.mode = words.number()? as u16;
        metadata.uid = words.number()? as u32;
        metadata.gid = words.number()? as u32;
    }
    if flags & 2 != 0 {
        metadata.mtime = Timestamp {
            seconds: words.number()? as i64,
            nanoseconds: words.number()? as u32,
        };
    }
    for _ in 0..flags >> 2 & 7 {
        let prefix: &[u8] = match words.byte()? % 5 {
            0 => b"user.",
            1 => b"security.",
            2 => b"trusted.",
            3 => b"system.posix_acl_access",
            _ => b"",
        };
        let name = [prefix, &words.bytes()?].concat();
        let value = words.bytes()?.repeat(1 + usize::from(words.byte()? % 64));
        metadata.xattrs.insert(name.into(), value.into());
    }
    Some(metadata)
}
