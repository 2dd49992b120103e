//! Ordinary and extraordinary trees, read back through Linux.

use firebuild_core::ByteSize;
use firebuild_core::tree::{Device, Kind, Timestamp};
use firebuild_disk::ext4::Options;

use crate::judge::Image;
use crate::kernel;
use crate::read;
use crate::sample::{Sample, noise};

pub(crate) fn read_back(sample: &Sample, options: &Options) -> Image {
    let image = Image::of(&sample.tree, &sample.bytes, options);
    read::compare(sample, &image);
    {
        let mount = image.mount("ro");
        kernel::compare(sample, &mount);
    }
    image
}

#[test]
fn an_empty_tree() {
    let image = read_back(&Sample::default(), &Options::default());
    assert_eq!(image.summary.size, ByteSize::mib(1));
}

#[test]
fn a_little_of_everything() {
    let mut sample = Sample::default();
    let root = sample.root();
    let etc = sample.directory(root, "etc");
    sample.file(etc, "empty", b"");
    sample.file(etc, "small", b"hello\n");
    let large = sample.file(root, "large", &noise(5_000_000));
    sample.symlink(root, "fast", "x".repeat(59));
    sample.symlink(root, "slow", "x".repeat(60));
    sample.symlink(root, "longest", "x".repeat(4095));
    sample.tree.link(etc, b"other", large).unwrap();
    for (name, major, minor) in [("null", 1, 3), ("wide", 4095, 1_048_575), ("b", 8, 256)] {
        let device = Device { major, minor };
        sample.add(root, format!("c{name}"), Kind::CharacterDevice(device));
        sample.add(root, format!("b{name}"), Kind::BlockDevice(device));
    }
    sample.add(root, "fifo", Kind::Fifo);
    let socket = sample.add(root, "socket", Kind::Socket);
    let metadata = sample.tree.metadata_mut(socket);
    (metadata.uid, metadata.gid, metadata.mode) = (u32::MAX - 1, 65_536, 0o7777);
    metadata.mtime = Timestamp {
        seconds: -1,
        nanoseconds: 999_999_999,
    };
    read_back(&sample, &Options::default());
}

#[test]
fn files_with_holes() {
    let mut sample = Sample::default();
    let root = sample.root();
    sample.sparse(root, "only a hole", 5 << 30, &[]);
    let longest = ((1 << 32) - 1) * 4096;
    sample.sparse(root, "the longest", longest, &[(longest - 1, b"x")]);
    let pieces: [(u64, &[u8]); 4] = [
        (5, b"within"),
        (100, b"the same block"),
        (4090, b"and into the next"),
        (3 << 30, b"after gigabytes"),
    ];
    sample.sparse(root, "pieces", 4 << 30, &pieces);
    let image = read_back(&sample, &Options::default());
    let extents = image.debugfs("dump_extents /pieces");
    assert_eq!(extents.lines().count(), 3, "{extents}");
}
