//! Trees that nobody would think of.

use firebuild_core::ByteSize;
use firebuild_core::tree::{Content, Kind, Segment, Timestamp};
use firebuild_disk::ext4::Options;

use crate::judge::Image;
use crate::sample::{Sample, noise};
use crate::trees::read_back;

#[test]
fn names_hash_as_debugfs_hashes_them() {
    let mut sample = Sample::default();
    let root = sample.root();
    // Enough for two leaves, whose first hash debugfs shows.
    for index in 0..300 {
        sample.file(root, format!("a name of some length {index}"), b"");
    }
    let image = read_back(&sample, &Options::default());
    let dump = image.debugfs("htree_dump /");
    assert!(dump.contains("Hash Version: 1"), "{dump}");
    assert!(!dump.contains("Bad"), "{dump}");
}

#[test]
fn names_of_every_length_and_byte() {
    let mut sample = Sample::default();
    let root = sample.root();
    for length in 1..=255 {
        sample.file(root, "n".repeat(length), b"");
        sample.file(root, vec![0xe9; length], b"");
    }
    for byte in (1..=255_u8).filter(|byte| !matches!(byte, b'/' | b'.')) {
        sample.tree.remove(root, &[byte]);
        sample.file(root, [byte], b"");
    }
    for index in 0..2000 {
        let name = format!("{index:0>255}");
        sample.file(root, name, b"");
    }
    read_back(&sample, &Options::default());
}

#[test]
fn a_hundred_thousand_entries_in_a_directory() {
    let mut sample = Sample::default();
    let root = sample.root();
    let directory = sample.directory(root, "d");
    for index in 0..100_000 {
        sample.file(directory, format!("{index}"), b"");
    }
    let image = read_back(&sample, &Options::default());
    let dump = image.debugfs("htree_dump /d");
    assert!(dump.contains("Indirect levels: 0"), "{}", &dump[..1000]);
}

#[test]
fn an_index_of_two_levels() {
    let mut sample = Sample::default();
    let root = sample.root();
    let directory = sample.directory(root, "d");
    let file = sample.file(root, "file", b"");
    for index in 0..20_000 {
        let name = format!("{index:0>250}");
        let file = if index % 2000 == 0 {
            sample.file(directory, name, b"")
        } else {
            sample.tree.link(directory, name.as_bytes(), file).unwrap();
            file
        };
        assert_ne!(file, root);
    }
    let image = read_back(&sample, &Options::default());
    let dump = image.debugfs("htree_dump /d");
    assert!(dump.contains("Indirect levels: 1"), "{}", &dump[..1000]);
}

#[test]
fn sixty_thousand_hard_links() {
    let mut sample = Sample::default();
    let root = sample.root();
    let file = sample.file(root, "first", b"one file");
    for index in 0..59_999 {
        let name = format!("{index}");
        sample.tree.link(root, name.as_bytes(), file).unwrap();
    }
    read_back(&sample, &Options::default());
}

#[test]
fn more_subdirectories_than_links_are_counted() {
    let mut sample = Sample::default();
    let root = sample.root();
    for (name, count) in [("most", 64_998), ("more", 64_999)] {
        let directory = sample.directory(root, name);
        for index in 0..count {
            sample.directory(directory, format!("{index}"));
        }
    }
    let image = read_back(&sample, &Options::default());
    assert!(image.debugfs("stat /most").contains("Links: 65000 "));
    assert!(image.debugfs("stat /more").contains("Links: 1 "));
}

#[test]
fn a_deep_tree() {
    let mut sample = Sample::default();
    let mut at = sample.root();
    for _ in 0..1500 {
        at = sample.directory(at, "d");
    }
    sample.file(at, "bottom", b"deep");
    read_back(&sample, &Options::default());
}

#[test]
fn extent_trees_of_every_depth() {
    let mut sample = Sample::default();
    let root = sample.root();
    sample.bytes.0 = noise(4096);
    for count in [4_u64, 5, 340, 341, 1360, 1361, 200_000] {
        let segments: Box<[Segment]> = (0..count)
            .map(|index| Segment {
                start: 8192 * index,
                offset: index % 4000,
                length: 1 + index % 96,
            })
            .collect();
        let content = Content {
            source: 0,
            length: 8192 * count + 1,
            segments,
        };
        sample.add(root, format!("{count}"), Kind::File(content));
    }
    let image = read_back(&sample, &Options::default());
    let stat = image.debugfs("dump_extents /1361");
    assert!(stat.contains(" 0/ 2") && !stat.contains(" 0/ 3"));
}

#[test]
fn a_file_over_many_groups() {
    let mut sample = Sample::default();
    let root = sample.root();
    sample.bytes.0 = noise(1 << 20);
    // Content of 640 MiB in five groups, as 640 times the same mebibyte.
    let segment = |index: u64| Segment {
        start: index << 20,
        offset: 0,
        length: 1 << 20,
    };
    let content = Content {
        source: 0,
        length: 640 << 20,
        segments: (0..640).map(segment).collect(),
    };
    sample.add(root, "large", Kind::File(content));
    sample.file(root, "behind", &noise(10_000));
    read_back(&sample, &Options::default());
}

#[test]
fn sizes_around_the_end_of_a_group() {
    let sample = Sample::default();
    for mebibytes in [127, 128, 129, 130, 255, 257, 2047, 2048, 2049, 2050, 2060] {
        let options = Options {
            minimum_size: ByteSize::mib(mebibytes),
            free_inodes: 30_000,
            ..Options::default()
        };
        let image = Image::of(&sample.tree, &sample.bytes, &options);
        assert!(image.summary.size >= options.minimum_size);
        assert!(image.summary.size.0 <= (mebibytes + 32) << 20);
        drop(image.mount("ro"));
    }
}

#[test]
fn more_inodes_than_blocks_for_data() {
    let sample = Sample::default();
    let options = Options {
        free_inodes: 1_000_000,
        ..Options::default()
    };
    let image = Image::of(&sample.tree, &sample.bytes, &options);
    assert!(image.summary.inodes > 1_000_000);
    drop(image.mount("ro"));
}

#[test]
fn times_of_five_centuries() {
    let mut sample = Sample::default();
    let root = sample.root();
    let seconds = [
        -(1_i64 << 31),
        -1,
        0,
        (1 << 31) - 1,
        1 << 31,
        1 << 32,
        (1 << 33) + 5,
        (1 << 34) - (1 << 31) - 1,
    ];
    for seconds in seconds {
        for nanoseconds in [0, 1, 999_999_999] {
            let file = sample.file(root, format!("{seconds}.{nanoseconds}"), b"");
            sample.tree.metadata_mut(file).mtime = Timestamp {
                seconds,
                nanoseconds,
            };
        }
    }
    read_back(&sample, &Options::default());
}
