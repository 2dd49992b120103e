//! What Linux shows of a mounted image, compared with the tree entry by entry.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use firebuild_core::tree::{Content, Kind, Metadata, NodeId, Tree, Xattrs};
use firebuild_disk::ContentSource;
use fs_err as fs;
use fs_err::os::unix::fs::FileExt;

use crate::judge::Mount;
use crate::sample::{Bytes, Sample};

/// Compares everything that is mounted with what was written.
pub(crate) fn compare(sample: &Sample, mount: &Mount) {
    let mut inodes = HashMap::new();
    let mut links: HashMap<NodeId, u64> = HashMap::new();
    let tree = &sample.tree;
    tree.walk(&mut |_, id| *links.entry(id).or_default() += 1);
    tree.walk(&mut |path, id| {
        let at = mount.path().join(OsStr::from_bytes(path));
        let found = fs::symlink_metadata(&at).unwrap();
        let inode = *inodes.entry(id).or_insert(found.ino());
        assert_eq!(
            inode,
            found.ino(),
            "{at:?} is the same file as its other names"
        );
        compare_metadata(&at, &tree.node(id).metadata, &found);
        compare_kind(&at, &sample.bytes, &tree.node(id).kind, &found);
        if tree.node(id).is_directory() {
            compare_names(tree, id, &at);
        } else {
            assert_eq!(found.nlink(), links[&id], "{at:?}");
        }
    });
}

fn compare_names(tree: &Tree, id: NodeId, at: &Path) {
    let entries = fs::read_dir(at).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().as_bytes().to_vec())
        .collect();
    names.sort_unstable();
    let expected = tree.entries(id).map(|(name, _)| name.as_bytes());
    assert!(names.iter().map(Vec::as_slice).eq(expected), "{at:?}");
}

fn compare_metadata(at: &Path, expected: &Metadata, found: &std::fs::Metadata) {
    let shown = (
        found.mode() & 0o7777,
        (found.uid(), found.gid()),
        (found.mtime(), found.mtime_nsec()),
    );
    let wanted = (
        u32::from(expected.mode),
        (expected.uid, expected.gid),
        (
            expected.mtime.seconds,
            i64::from(expected.mtime.nanoseconds),
        ),
    );
    assert_eq!(shown, wanted, "{at:?}");
    assert_eq!(xattrs(at), expected.xattrs, "{at:?}");
}

fn xattrs(at: &Path) -> Xattrs {
    let mut names = vec![0; 64 << 10];
    let length = rustix::fs::llistxattr(at, &mut names).unwrap();
    names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 64 << 10];
            let length = rustix::fs::lgetxattr(at, name, &mut value).unwrap();
            value.truncate(length);
            (name.into(), value.into())
        })
        .collect()
}

fn compare_kind(at: &Path, bytes: &Bytes, expected: &Kind, found: &std::fs::Metadata) {
    let kind = found.file_type();
    match expected {
        Kind::Directory(_) => assert!(kind.is_dir(), "{at:?}"),
        Kind::File(content) => {
            assert!(kind.is_file(), "{at:?}");
            compare_content(at, bytes, content);
        }
        Kind::Symlink(target) => {
            let found = fs::read_link(at).unwrap();
            assert_eq!(found.as_os_str().as_bytes(), &**target, "{at:?}");
        }
        Kind::CharacterDevice(device) | Kind::BlockDevice(device) => {
            let is_block = matches!(expected, Kind::BlockDevice(_));
            assert_eq!(kind.is_block_device(), is_block, "{at:?}");
            assert_eq!(kind.is_char_device(), !is_block, "{at:?}");
            let number = found.rdev();
            let found = (rustix::fs::major(number), rustix::fs::minor(number));
            assert_eq!(found, (device.major, device.minor), "{at:?}");
        }
        Kind::Fifo => assert!(kind.is_fifo(), "{at:?}"),
        Kind::Socket => assert!(kind.is_socket(), "{at:?}"),
    }
}

/// Compares segments with what is read, and holes by their place, so that gigabytes of them take
/// no time.
fn compare_content(at: &Path, bytes: &Bytes, content: &Content) {
    let file = fs::File::open(at).unwrap();
    assert_eq!(file.metadata().unwrap().len(), content.length, "{at:?}");
    let mut end = 0;
    for segment in &content.segments {
        compare_hole(at, &file, end..segment.start);
        let length = usize::try_from(segment.length).unwrap();
        let (mut expected, mut found) = (vec![0; length], vec![0; length]);
        bytes
            .read_exact_at(content.source, segment.offset, &mut expected)
            .unwrap();
        file.read_exact_at(&mut found, segment.start).unwrap();
        assert!(expected == found, "{at:?} at {}", segment.start);
        end = segment.start + segment.length;
    }
    compare_hole(at, &file, end..content.length);
}

/// Parts of blocks must be zeros; whole blocks must not be there at all.
fn compare_hole(at: &Path, file: &fs::File, hole: std::ops::Range<u64>) {
    let from = hole.start.next_multiple_of(4096).min(hole.end);
    let to = (hole.end / 4096 * 4096).max(from);
    for part in [hole.start..from, to..hole.end] {
        let mut found = vec![1; usize::try_from(part.end - part.start).unwrap()];
        file.read_exact_at(&mut found, part.start).unwrap();
        assert!(found.iter().all(|byte| *byte == 0), "{at:?} {part:?}");
    }
    if from < to {
        let data = rustix::fs::seek(file, rustix::fs::SeekFrom::Data(from));
        assert!(!data.is_ok_and(|data| data < to), "{at:?} {hole:?}");
    }
}
