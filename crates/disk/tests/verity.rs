//! Trees of hashes, judged by `veritysetup`, which Debian has in cryptsetup-bin.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what fails in a test's own steps fails the test"
)]

use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use firebuild_core::ByteSize;
use firebuild_disk::verity::{self, Verity};

const BLOCK: u64 = 4096;

/// Whether the judge finds that the image is what its tree says.
fn is_whole(image: &Path, verity: &Verity) -> bool {
    let output = Command::new("veritysetup")
        .arg("verify")
        .arg(image)
        .arg(image)
        .arg(verity.root_hash.hex())
        .arg(format!("--hash-offset={}", verity.hash_offset))
        .output();
    output.unwrap().status.success()
}

#[test]
fn veritysetup_agrees_and_finds_every_change() {
    for blocks in [1, 2, 127, 128, 129, 300, 128 * 128, 128 * 128 + 1] {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        for number in 0..blocks.min(200) {
            file.write_all(&[u8::try_from(number % 251).unwrap(); 4096])
                .unwrap();
        }
        let size = ByteSize(blocks * BLOCK);
        file.as_file().set_len(size.0).unwrap();
        let made = verity::append(file.as_file(), size, b"one").unwrap();
        assert_eq!((made.hash_offset, made.data_blocks), (size.0, blocks));
        assert!(is_whole(file.path(), &made), "{blocks}");
        let read = verity::read(file.as_file(), size).unwrap();
        assert_eq!(read.as_ref(), Some(&made), "{blocks}");
        assert_eq!(made.salt, *verity::salt_of(b"one").bytes());
        // The same once more, on what is there now.
        assert_eq!(verity::append(file.as_file(), size, b"one").unwrap(), made);
        let other = verity::append(file.as_file(), size, b"two").unwrap();
        assert_ne!(other.root_hash, made.root_hash);
        let mut wrong = other.clone();
        wrong.root_hash = made.root_hash;
        assert!(!is_whole(file.path(), &wrong));
        for at in [0, size.0 - 1, size.0 + BLOCK] {
            if at >= file.as_file().metadata().unwrap().len() {
                continue;
            }
            let mut byte = [0];
            file.as_file().read_exact_at(&mut byte, at).unwrap();
            file.as_file().write_all_at(&[byte[0] ^ 1], at).unwrap();
            assert!(!is_whole(file.path(), &other), "{blocks} {at}");
            let found = verity::check(file.as_file(), &other).unwrap();
            assert_eq!(found, Some(at / BLOCK), "{blocks}");
            file.as_file().write_all_at(&byte, at).unwrap();
        }
        assert!(is_whole(file.path(), &other), "{blocks}");
        assert_eq!(verity::check(file.as_file(), &other).unwrap(), None);
    }
}

#[test]
fn what_is_no_tree_of_ours_is_not_taken_for_one() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(300 * BLOCK).unwrap();
    let size = ByteSize(300 * BLOCK);
    assert_eq!(verity::read(&file, size).unwrap(), None);
    let made = verity::append(&file, size, b"one").unwrap();
    let length = file.metadata().unwrap().len();
    for (wrong, length) in [
        (ByteSize(299 * BLOCK), length),
        (ByteSize(301 * BLOCK), length),
        (ByteSize(300 * BLOCK + 1), length),
        (ByteSize(0), length),
        (ByteSize(u64::MAX - 4095), length),
        (size, length + 1),
        (size, length - BLOCK),
        (size, size.0 + 1),
        (size, 0),
    ] {
        file.set_len(length).unwrap();
        assert_eq!(verity::read(&file, wrong).unwrap(), None, "{wrong}");
    }
    // Whatever is changed in the superblock, it is another one or none at all.
    verity::append(&file, size, b"one").unwrap();
    for at in 0..BLOCK {
        let mut byte = [0];
        file.read_exact_at(&mut byte, size.0 + at).unwrap();
        file.write_all_at(&[byte[0] ^ 4], size.0 + at).unwrap();
        let read = verity::read(&file, size).unwrap();
        let is_uuid = (16..32).contains(&at);
        let same = read.is_some_and(|read| read.root_hash == made.root_hash);
        assert_eq!(same, is_uuid, "{at}");
        file.write_all_at(&byte, size.0 + at).unwrap();
    }
    assert_eq!(verity::read(&file, size).unwrap(), Some(made));
}

#[test]
fn only_whole_blocks_are_covered() {
    let file = tempfile::tempfile().unwrap();
    for size in [0, 1, 4095, 4097] {
        let error = verity::append(&file, ByteSize(size), b"").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    }
}
