//! Any bytes are refused as a layer, or are entries that stay inside, within bounds, of which a tree
//! can be made; and unpacking them, compressed or not, gives the same.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "a finding is a panic; and tests include this as a module of their own"
)]

use std::io::Cursor;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use firebuild_core::layer::{Item, LayerReader, Limits};
use firebuild_core::tree::{Content, Tree};
use firebuild_oci::{Arriving, ImportLimits, LayerIndex, Room, apply, unpack};

const BLOCK: u64 = 4096;

fn limits() -> Limits {
    Limits {
        entries: 1000,
        names: 1 << 20,
        content: 1 << 24,
        ..Limits::default()
    }
}

/// The invariants; it panics where they do not hold.
pub fn layer(data: &[u8]) {
    check(data);
    check(&with_checksums(data));
}

/// The same bytes with what looks like a header made one: a fuzzer does not find checksums.
fn with_checksums(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    for block in data.chunks_exact_mut(512) {
        if block[257..262] == *b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    data
}

fn check(data: &[u8]) {
    let plain = LayerReader::new(data).limited(limits()).plain();
    let _ = all_entries(plain);
    let index = LayerIndex::read(Cursor::new(data), 0, limits());
    if let Ok(index) = &index {
        for entry in index.entries() {
            check_path(&entry.path);
            match &entry.item {
                Item::File(content) => check_content(content, data.len() as u64),
                Item::HardLink(target) => check_path(target),
                _ => {}
            }
        }
        let mut tree = Tree::default();
        if apply(&mut tree, index.clone()).is_ok() {
            let mut names = 0;
            tree.walk(&mut |path, _| {
                check_path(path);
                names += 1;
            });
            // Each entry makes itself and the directories above it.
            let parts: usize = index
                .entries()
                .iter()
                .map(|entry| 1 + slashes(&entry.path))
                .sum();
            assert!(names <= 1 + 41 * parts);
        }
    }
    unpacked(data, index.ok().as_ref());
}

fn all_entries(mut reader: LayerReader<&[u8]>) -> usize {
    let mut count = 0;
    while let Ok(Some(entry)) = reader.next_entry() {
        check_path(&entry.path);
        count += 1;
        assert!(count <= 1000);
    }
    count
}

fn slashes(path: &[u8]) -> usize {
    path.iter().filter(|byte| **byte == b'/').count()
}

fn check_path(path: &[u8]) {
    assert!(!path.starts_with(b"/") && !path.contains(&0));
    if path.is_empty() {
        return;
    }
    for part in path.split(|byte| *byte == b'/') {
        assert!(!part.is_empty() && part.len() <= 255);
        assert!(part != b"." && part != b"..");
    }
}

fn check_content(content: &Content, length: u64) {
    let mut end = 0;
    for segment in &content.segments {
        assert!(segment.start >= end && segment.length > 0);
        end = segment.start + segment.length;
        assert!(segment.offset + segment.length <= length);
    }
    assert!(end <= content.length);
}

/// One block after the other.
struct Counting(u64);

impl Room for Counting {
    fn take(&mut self, most: u64) -> Option<Range<u64>> {
        self.0 += most;
        Some(self.0 - most..self.0)
    }
}

/// Unpacks the bytes. If they are a layer as they are, `index` is what it holds.
fn unpacked(data: &[u8], index: Option<&LayerIndex>) {
    let file = tempfile::tempfile().unwrap();
    let limits = ImportLimits {
        layer: 1 << 24,
        entries: limits(),
        ..ImportLimits::default()
    };
    let arriving = Arriving {
        name: "the layer".to_owned(),
        open: Box::new(move || Ok(Box::new(data))),
        blob: None,
        diff_id: None,
        trusted: false,
    };
    let Ok(unpacked) = unpack(vec![arriving], 0, &mut Counting(0), &file, &limits) else {
        return;
    };
    let [layer] = unpacked.as_slice() else {
        panic!("one layer became {}", unpacked.len());
    };
    let headers = layer.headers.as_slice();
    let again = LayerIndex::of_headers(headers, 0, limits.entries).unwrap();
    assert_eq!(again, layer.index);
    let Some(index) = index.filter(|_| layer.layer == layer.blob) else {
        return;
    };
    assert_eq!(index.entries().len(), layer.index.entries().len());
    for (expected, found) in index.entries().iter().zip(layer.index.entries()) {
        assert_eq!(
            (&expected.path, &expected.metadata),
            (&found.path, &found.metadata)
        );
        let (Item::File(expected), Item::File(found)) = (&expected.item, &found.item) else {
            assert_eq!(expected.item, found.item);
            continue;
        };
        for segment in &expected.segments {
            let start = usize::try_from(segment.offset).unwrap();
            let bytes = &data[start..start + usize::try_from(segment.length).unwrap()];
            assert!(bytes == placed(&file, &layer.blocks, found, segment.start, bytes.len()));
        }
    }
}

/// What a file has from `start` on, where its content is in blocks.
fn placed(
    image: &std::fs::File,
    blocks: &[Range<u64>],
    content: &Content,
    start: u64,
    length: usize,
) -> Vec<u8> {
    let numbers: Vec<u64> = blocks.iter().cloned().flatten().collect();
    let mut bytes = vec![0; length];
    for (at, byte) in (start..).zip(&mut bytes) {
        let inside = |segment: &&firebuild_core::tree::Segment| {
            segment.start <= at && at < segment.start + segment.length
        };
        let segment = content.segments.iter().find(inside).unwrap();
        let offset = segment.offset + (at - segment.start);
        let block = numbers[usize::try_from(offset / BLOCK).unwrap()];
        let mut one = [0];
        image
            .read_exact_at(&mut one, block * BLOCK + offset % BLOCK)
            .unwrap();
        *byte = one[0];
    }
    bytes
}
