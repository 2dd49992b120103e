//! The same input gives the same bytes.

use std::io::Write;

use firebuild_core::ByteSize;
use firebuild_core::tree::{Kind, Metadata, Node};
use firebuild_disk::ext4::{self, Options};

use crate::judge::Image;
use crate::sample::{Sample, noise};

fn bytes(image: &Image) -> Vec<u8> {
    fs_err::read(image.path()).unwrap()
}

fn sample(order: impl Iterator<Item = usize>) -> Sample {
    let mut sample = Sample::default();
    let root = sample.root();
    sample.bytes.0 = noise(20_000);
    for index in order {
        let content = firebuild_core::tree::Content::whole(0, 10 * index as u64, 7000);
        let file = sample.add(root, format!("{index}"), Kind::File(content));
        let xattrs = &mut sample.tree.metadata_mut(file).xattrs;
        xattrs.insert((*b"user.x").into(), noise(60 + index % 3).into());
    }
    sample
}

#[test]
fn whatever_was_in_the_file_before() {
    let sample = sample(0..500);
    let options = Options::default();
    let first = Image::of(&sample.tree, &sample.bytes, &options);
    let second = Image::with(|mut file| {
        file.write_all(&noise(9_000_000)).unwrap();
        ext4::write(&sample.tree, &sample.bytes, file, &options).unwrap()
    });
    assert_eq!(first.summary, second.summary);
    assert!(bytes(&first) == bytes(&second));
}

#[test]
fn however_the_tree_came_about() {
    let options = Options::default();
    let first = sample(0..500);
    let mut second = sample((0..500).rev());
    let root = second.root();
    let gone = Node::directory(Metadata::root_owned(0o700));
    second.tree.insert(root, b"gone", gone).unwrap();
    second.tree.remove(root, b"gone");
    let first = Image::of(&first.tree, &first.bytes, &options);
    let second = Image::of(&second.tree, &second.bytes, &options);
    assert!(bytes(&first) == bytes(&second));
}

#[test]
fn another_identity_is_another_file_system() {
    let sample = sample(0..500);
    let write = |identity: &[u8]| {
        let options = Options {
            identity: identity.to_vec(),
            label: "sixteen bytes ok".into(),
            minimum_size: ByteSize::mib(200),
            ..Options::default()
        };
        Image::of(&sample.tree, &sample.bytes, &options)
    };
    let (first, second) = (write(b"one"), write(b"other"));
    assert_ne!(first.summary.uuid, second.summary.uuid);
    assert!(first.debugfs("stats").contains("sixteen bytes ok"));
}
