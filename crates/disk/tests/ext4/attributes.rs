//! Extended attributes: in the inode, in a shared block, in inodes of their own.

use firebuild_core::tree::NodeId;
use firebuild_disk::ext4::Options;

use crate::sample::{Sample, noise};
use crate::trees::read_back;

fn set(sample: &mut Sample, id: NodeId, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
    let xattrs = &mut sample.tree.metadata_mut(id).xattrs;
    xattrs.insert(name.as_ref().into(), value.as_ref().into());
}

/// A list as system calls show it: `users` with a right each, beside the entries that must be.
fn acl(users: &[u32]) -> Vec<u8> {
    let entry = |tag: u16, permissions: u16, id: u32| {
        let [t0, t1] = tag.to_le_bytes();
        let [p0, p1] = permissions.to_le_bytes();
        [&[t0, t1, p0, p1], &id.to_le_bytes()[..]].concat()
    };
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    bytes.extend(entry(0x01, 6, u32::MAX));
    for user in users {
        bytes.extend(entry(0x02, 4, *user));
    }
    bytes.extend(entry(0x04, 4, u32::MAX));
    bytes.extend(entry(0x10, 4, u32::MAX));
    bytes.extend(entry(0x20, 0, u32::MAX));
    bytes
}

/// `cap_net_raw=ep` as version 2 stores it.
const CAPABILITY: [u8; 20] = [
    1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

#[test]
fn small_ones() {
    let mut sample = Sample::default();
    let root = sample.root();
    let ping = sample.file(root, "ping", b"ELF");
    set(&mut sample, ping, "security.capability", CAPABILITY);
    let shared = sample.directory(root, "shared");
    set(
        &mut sample,
        shared,
        "system.posix_acl_default",
        acl(&[1000]),
    );
    set(&mut sample, shared, "system.posix_acl_access", acl(&[1000]));
    sample.tree.metadata_mut(shared).mode = 0o640;
    set(&mut sample, root, "trusted.overlay.opaque", "y");
    let link = sample.symlink(root, "link", "nowhere");
    set(&mut sample, link, "trusted.empty", "");
    set(&mut sample, link, "security.note", "kept");
    let file = sample.file(root, "file", b"");
    set(&mut sample, file, "user.\u{e9}t\u{e9}", "not ascii");
    set(&mut sample, file, b"user.\xff\xfe", "not text");
    let image = read_back(&sample, &Options::default());
    let stat = image.debugfs("stat /ping");
    assert!(stat.contains("File ACL: 0"), "{stat}");
}

#[test]
fn ones_around_the_size_of_the_inode() {
    let mut sample = Sample::default();
    let root = sample.root();
    for length in 0..120 {
        let file = sample.file(root, format!("{length}"), b"");
        set(&mut sample, file, "user.x", noise(length));
    }
    read_back(&sample, &Options::default());
}

#[test]
fn ones_that_fill_a_block() {
    let mut sample = Sample::default();
    let root = sample.root();
    for length in 4000..4100 {
        let file = sample.file(root, format!("{length}"), b"");
        set(&mut sample, file, "user.x", noise(length));
        set(&mut sample, file, b"user.\xe9", "high bytes in a block");
    }
    let file = sample.file(root, "many", b"");
    for index in 0..150 {
        set(&mut sample, file, format!("user.{index}"), "v");
    }
    let file = sample.file(root, "all kinds", b"");
    let users: Vec<u32> = (1..100).collect();
    set(&mut sample, file, "system.posix_acl_access", acl(&users));
    sample.tree.metadata_mut(file).mode = 0o640;
    set(&mut sample, file, "security.capability", CAPABILITY);
    set(&mut sample, file, "trusted.a", noise(200));
    set(&mut sample, file, "user.b", noise(200));
    set(&mut sample, file, "user.aa", "");
    read_back(&sample, &Options::default());
}

#[test]
fn ones_larger_than_a_block() {
    let mut sample = Sample::default();
    let root = sample.root();
    for length in [4096, 65_535, 65_536] {
        let file = sample.file(root, format!("{length}"), b"content");
        set(&mut sample, file, "user.large", noise(length));
        set(&mut sample, file, "user.small", "v");
    }
    let file = sample.directory(root, "several");
    for index in 0..12 {
        set(
            &mut sample,
            file,
            format!("user.{index}"),
            noise(1000 * index),
        );
    }
    let users: Vec<u32> = (1..1000).collect();
    set(&mut sample, file, "system.posix_acl_default", acl(&users));
    let image = read_back(&sample, &Options::default());
    assert!(image.debugfs("features").contains("ea_inode"));
}

#[test]
fn equal_ones_are_shared() {
    let mut sample = Sample::default();
    let root = sample.root();
    for index in 0..2500 {
        let file = sample.file(root, format!("{index:04}"), b"");
        set(&mut sample, file, "user.same", noise(3000));
        set(&mut sample, file, "user.large", noise(6000));
    }
    let image = read_back(&sample, &Options::default());
    let stat = image.debugfs("stat /0000");
    let block = stat.split("File ACL: ").nth(1).unwrap();
    let block = block.split_whitespace().next().unwrap();
    assert!(
        image
            .debugfs("stat /1023")
            .contains(&format!("ACL: {block}"))
    );
    assert!(
        !image
            .debugfs("stat /1024")
            .contains(&format!("ACL: {block}"))
    );
    // Three blocks of attributes, and three inodes for the large values.
    assert_eq!(image.summary.used_inodes, 10 + 2500 + 3);
}
