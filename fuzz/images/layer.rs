//! Any bytes are refused as a layer, or are entries that stay inside, within bounds, of which a tree
//! can be made; and unpacking them, compressed or not, gives the same.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "a finding is a panic; and tests include this as a module of their own"
)]

use std::fs::File;
use std::io::{Cursor, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use firebuild_core::layer::{Item, LayerReader, Limits};
use firebuild_core::tree::{Content, Tree};
use firebuild_oci::{Arriving, Error, ImportLimits, LayerIndex, Room, Unpacked, apply, unpack};
use flate2::Compression;
use flate2::write::GzEncoder;

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
    let data = with_checksums(data);
    check(&data);
    check_compressed(&data);
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
        let applied = apply(&mut tree, index.clone());
        if let Err(error) = &applied {
            check_error(error);
        }
        if applied.is_ok() {
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

/// However a layer is compressed, it is the same one, and lies at the same places.
fn check_compressed(data: &[u8]) {
    let is_compressed = |magic: &[u8]| data.starts_with(magic);
    let known: [&[u8]; 4] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ\0"];
    if known.into_iter().any(is_compressed) {
        return;
    }
    let plain = unpack_one(data).0;
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(data).unwrap();
    for packed in [gzip.finish().unwrap(), zstd::encode_all(data, 1).unwrap()] {
        let (unpacked, _) = unpack_one(&packed);
        match (&plain, unpacked) {
            (Ok(one), Ok(other)) => assert_eq!(
                (&one.index, &one.blocks, &one.headers, one.layer),
                (&other.index, &other.blocks, &other.headers, other.layer)
            ),
            (Err(_), Err(_)) => {}
            (one, other) => panic!("{one:?}, but compressed {other:?}"),
        }
    }
}

fn unpack_one(data: &[u8]) -> (Result<Unpacked, Error>, File) {
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
    let unpacked = unpack(vec![arriving], 0, &mut Counting(0), &file, &limits);
    let one = unpacked.map(|mut layers| {
        assert_eq!(layers.len(), 1);
        layers.remove(0)
    });
    (one, file)
}

/// An error is one line, and cannot do anything to a terminal.
fn check_error(error: &dyn std::error::Error) {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let text = error.to_string();
        assert!(!text.contains(char::is_control), "{text:?}");
        assert!(text.len() <= 2000, "{}", text.len());
        cause = error.source();
    }
}

/// Unpacks the bytes. If they are a layer as they are, `index` is what it holds.
fn unpacked(data: &[u8], index: Option<&LayerIndex>) {
    let (layer, file) = match unpack_one(data) {
        (Ok(layer), file) => (layer, file),
        (Err(error), _) => return check_error(&error),
    };
    let headers = layer.headers.as_slice();
    let again = LayerIndex::of_headers(headers, 0, limits()).unwrap();
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
    image: &File,
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
