//! Layers unpacked to blocks: what comes out is what they hold, whatever came in.

use std::fs::File;
use std::io::{Cursor, Read, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use firebuild_core::Digest;
use firebuild_core::layer::{Entry, Item, LayerWriter, Limits};
use firebuild_core::tree::Metadata;
use firebuild_oci::{
    Arriving, Error, ImportLimits, LayerIndex, Open, Room, Sources, Unpacked, unpack,
};
use firebuild_store::Blob;
use proptest::prelude::*;

const BLOCK: u64 = 4096;

/// Room with a gap after every 1000 blocks.
struct Gaps(u64);

impl Room for Gaps {
    fn take(&mut self, most: u64) -> Option<Range<u64>> {
        if self.0.is_multiple_of(1000) {
            self.0 += 7;
        }
        let start = self.0;
        self.0 = (start + most).min((start / 1000 + 1) * 1000);
        Some(start..self.0)
    }
}

struct NoRoom(u64);

impl Room for NoRoom {
    fn take(&mut self, most: u64) -> Option<Range<u64>> {
        self.0 = self.0.checked_sub(most)?;
        Some(self.0..self.0 + most)
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

fn blob(bytes: &[u8]) -> Blob {
    Blob {
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
    }
}

fn opening<'a>(bytes: impl Read + Send + 'a) -> Open<'a> {
    Box::new(move || Ok(Box::new(bytes)))
}

fn arriving<'a>(name: &str, bytes: &'a [u8]) -> Arriving<'a> {
    Arriving {
        name: name.to_owned(),
        open: opening(bytes),
        blob: Some(blob(bytes)),
        diff_id: None,
        trusted: false,
    }
}

fn run(layers: Vec<Arriving<'_>>) -> (firebuild_oci::Result<Vec<Unpacked>>, File) {
    let file = tempfile::tempfile().unwrap();
    let limits = ImportLimits {
        layer: 64 << 20,
        ..ImportLimits::default()
    };
    let unpacked = unpack(layers, 0, &mut Gaps(0), &file, &limits);
    (unpacked, file)
}

fn bytes_of(image: &File, layer: &Unpacked, offset: u64, length: u64) -> Vec<u8> {
    let numbers: Vec<u64> = layer.blocks.iter().cloned().flatten().collect();
    let mut bytes = Vec::new();
    let mut at = offset;
    while at < offset + length {
        let block = numbers[usize::try_from(at / BLOCK).unwrap()];
        let size = (BLOCK - at % BLOCK).min(offset + length - at);
        let mut piece = vec![0; usize::try_from(size).unwrap()];
        image
            .read_exact_at(&mut piece, block * BLOCK + at % BLOCK)
            .unwrap();
        bytes.extend(piece);
        at += size;
    }
    bytes
}

/// Compares what was unpacked with the layer's own bytes.
fn compare(image: &File, number: usize, unpacked: &Unpacked, layer: &[u8]) {
    assert_eq!(unpacked.layer, blob(layer));
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(layer).unwrap();
    let mut sources = Sources::new();
    let source = sources.add_file(file);
    let expected = LayerIndex::read(Cursor::new(layer), source, Limits::default()).unwrap();
    assert_eq!(expected.entries().len(), unpacked.index.entries().len());
    for (expected, found) in expected.entries().iter().zip(unpacked.index.entries()) {
        assert_eq!(
            (&expected.path, &expected.metadata),
            (&found.path, &found.metadata)
        );
        let (Item::File(expected), Item::File(found)) = (&expected.item, &found.item) else {
            assert_eq!(expected.item, found.item);
            continue;
        };
        assert_eq!(found.source as usize, number);
        let mut bytes = Vec::new();
        sources
            .open(expected)
            .unwrap()
            .read_to_end(&mut bytes)
            .unwrap();
        let mut placed = vec![0; usize::try_from(found.length).unwrap()];
        for segment in &found.segments {
            let start = usize::try_from(segment.start).unwrap();
            let piece = bytes_of(image, unpacked, segment.offset, segment.length);
            placed[start..start + piece.len()].copy_from_slice(&piece);
        }
        assert!(bytes == placed, "{:?}", expected);
    }
    let source = u32::try_from(number).unwrap();
    let headers = unpacked.headers.as_slice();
    let again = LayerIndex::of_headers(headers, source, Limits::default()).unwrap();
    assert_eq!(again, unpacked.index);
}

fn layer(files: &[(u8, usize)], seed: usize) -> Vec<u8> {
    let mut writer = LayerWriter::new(Vec::new());
    let metadata = Metadata::root_owned(0o644);
    for (index, (kind, size)) in files.iter().enumerate() {
        let path = format!("{}/file{index}", "directory".repeat(1 + index % 14));
        let path = path.as_bytes();
        match kind {
            0 => writer.entry(path, &metadata, Entry::Directory).unwrap(),
            1 => writer
                .entry(path, &metadata, Entry::Symlink(b"elsewhere"))
                .unwrap(),
            2 => writer.whiteout(path).unwrap(),
            _ => {
                let bytes: Vec<u8> = (0..*size)
                    .map(|at| (at * 7 + seed + at / 256).to_le_bytes()[0])
                    .collect();
                writer
                    .file(path, &metadata, *size as u64, &mut bytes.as_slice())
                    .unwrap();
            }
        }
    }
    writer.finish().unwrap()
}

fn layers() -> impl Strategy<Value = Vec<(Vec<u8>, u8)>> {
    let size = prop_oneof![
        0..10_usize,
        4090..4100_usize,
        0..30_000_usize,
        1_000_000..1_100_000_usize,
        3_000_000..3_000_001_usize
    ];
    let files = prop::collection::vec((0..12_u8, size), 0..12);
    prop::collection::vec((files, any::<u8>()), 1..9).prop_map(|layers| {
        let layers = layers.into_iter().enumerate();
        layers
            .map(|(seed, (files, form))| (layer(&files, seed), form % 3))
            .collect()
    })
}

fn compressed((bytes, form): &(Vec<u8>, u8)) -> Vec<u8> {
    match form {
        0 => bytes.clone(),
        1 => gzip(bytes),
        _ => zstd(bytes),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_unpacked_is_what_was_packed(layers in layers()) {
        let packed: Vec<Vec<u8>> = layers.iter().map(compressed).collect();
        let arrive = |packed: &'static str, bytes| arriving(packed, bytes);
        let (unpacked, image) = run(packed.iter().map(|bytes| arrive("a layer", bytes)).collect());
        let unpacked = unpacked.unwrap();
        for (number, (unpacked, (layer, _))) in unpacked.iter().zip(&layers).enumerate() {
            compare(&image, number, unpacked, layer);
        }
        // However they are compressed, they lie at the same places.
        let (again, _) = run(layers.iter().map(|(bytes, _)| arrive("a layer", bytes)).collect());
        for (one, other) in unpacked.iter().zip(again.unwrap()) {
            prop_assert_eq!(&one.blocks, &other.blocks);
            prop_assert_eq!(&one.index, &other.index);
        }
    }
}

/// A layer's bytes that count who is open.
struct Counted<'a>(&'a [u8], &'a AtomicUsize);

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn of_many_layers_few_are_open() {
    let (open, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (open, most) = (&open, &most);
    let bytes = vec![0; 4 << 20];
    let layers = (0..40).map(|_| {
        let counted = || {
            let before = open.fetch_add(1, Ordering::SeqCst);
            most.fetch_max(before + 1, Ordering::SeqCst);
            let counted = Counted(&bytes, open);
            Ok(Box::new(counted) as Box<dyn Read + Send>)
        };
        Arriving {
            open: Box::new(counted),
            ..arriving("empty", &bytes)
        }
    });
    let (unpacked, _) = run(layers.collect());
    assert_eq!(unpacked.unwrap().len(), 40);
    assert_eq!(open.load(Ordering::SeqCst), 0);
    let most = most.load(Ordering::SeqCst);
    assert!((1..=4).contains(&most), "{most}");
}

#[test]
fn sparse_files_of_other_tools() {
    let directory = tempfile::tempdir().unwrap();
    let (file, _) = fs_err::File::create(directory.path().join("sparse"))
        .unwrap()
        .into_parts();
    file.set_len(200 << 10).unwrap();
    for (start, length) in [(3, 5), (4090, 10), (50_000, 20_000), (150_000, 1)] {
        file.write_all_at(&vec![b'x'; length], start).unwrap();
    }
    for version in ["0.0", "0.1", "1.0"] {
        let bytes = crate::images::run(
            std::process::Command::new("tar")
                .args(["--create", "--format=pax", "--sparse"])
                .arg(format!("--sparse-version={version}"))
                .arg("--directory")
                .arg(directory.path())
                .arg("."),
        );
        let (unpacked, image) = run(vec![arriving("sparse", &bytes)]);
        compare(&image, 0, &unpacked.unwrap()[0], &bytes);
    }
}

/// The error for layers of which the second is wrong in some way, while others go on.
fn refused(change: impl FnOnce(&mut Arriving<'_>)) -> String {
    let large = layer(&[(9, 9_000_000)], 1);
    let small = layer(&[(9, 100)], 2);
    let mut layers: Vec<_> = (0..6).map(|_| arriving("a good layer", &large)).collect();
    layers.insert(1, arriving("the layer", &small));
    change(&mut layers[1]);
    let error = run(layers).0.unwrap_err();
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
    format!("{error}{}", cause.unwrap_or_default())
}

#[test]
fn a_layer_that_is_not_what_it_should_be_is_refused() {
    let other = Digest::of(b"something else");
    let text = refused(|layer| layer.blob.as_mut().unwrap().digest = other);
    assert!(text.contains("the layer has the digest"), "{text}");
    let text = refused(|layer| layer.diff_id = Some(other));
    assert!(
        text.contains("the layer, uncompressed, has the digest"),
        "{text}"
    );
    let text = refused(|layer| layer.blob.as_mut().unwrap().size -= 1);
    assert!(text.contains("the layer has more than"), "{text}");
    // An endless one ends where it should have ended.
    let text = refused(|layer| layer.open = opening(std::io::repeat(0)));
    assert!(text.contains("the layer has more than"), "{text}");
    let text = refused(|layer| {
        layer.blob = None;
        layer.open = opening(std::io::repeat(0).take(1 << 30));
    });
    assert!(text.contains("larger than the limit"), "{text}");
    // What is wrong with the bytes is of less interest than that they are the wrong ones.
    let cut = gzip(&layer(&[(9, 100_000)], 3));
    let half = cut[..cut.len() / 2].to_vec();
    let text = refused(|layer| layer.open = opening(Cursor::new(half.clone())));
    assert!(text.contains("the layer has the digest"), "{text}");
    let text = refused(|layer| {
        layer.open = opening(Cursor::new(half.clone()));
        layer.blob = None;
    });
    assert!(text.contains("the layer is not a valid layer"), "{text}");
}

#[test]
fn garbage_in_and_behind_layers() {
    let good = layer(&[(9, 100_000)], 3);
    let cases = [
        (
            "garbage behind gzip",
            [gzip(&good), b"garbage".to_vec()].concat(),
            false,
        ),
        (
            "garbage behind zstd",
            [zstd(&good), b"garbage".to_vec()].concat(),
            false,
        ),
        (
            "zeros behind plain",
            [good.clone(), vec![0; 10_000]].concat(),
            true,
        ),
        (
            "two members",
            [gzip(&good[..1000]), gzip(&good[1000..])].concat(),
            true,
        ),
        ("cut off within a file", gzip(&good[..50_000]), false),
        ("no archive", gzip(&[b'x'; 2000]), false),
    ];
    for (what, bytes, fits) in cases {
        let (result, _) = run(vec![arriving("the layer", &bytes)]);
        assert_eq!(result.is_ok(), fits, "{what}: {result:?}");
    }
}

#[test]
fn a_reader_that_fails_is_named_and_ends_all() {
    struct Fails;
    impl Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the line is dead"))
        }
    }
    let bytes = layer(&[(9, 1_000_000)], 1);
    for good in [600, 50_000, 400_000] {
        let input = Cursor::new(bytes.clone()).take(good).chain(Fails);
        let text = refused(|layer| {
            layer.blob = None;
            layer.open = opening(input);
        });
        assert!(
            text.contains("read the layer") && text.contains("the line is dead"),
            "{good}: {text}"
        );
    }
    let text = refused(|layer| layer.open = opening(Fails));
    assert!(
        text.contains("read the layer") && text.contains("the line is dead"),
        "{text}"
    );
}

#[test]
fn many_layers_may_not_list_more_than_one() {
    let small = layer(&[(0, 0), (0, 0), (0, 0)], 1);
    let many = |count| -> Vec<_> { (0..count).map(|_| arriving("a layer", &small)).collect() };
    let limits = ImportLimits {
        headers: 20 * 512,
        ..ImportLimits::default()
    };
    let file = tempfile::tempfile().unwrap();
    let run = |layers| unpack(layers, 0, &mut Gaps(0), &file, &limits);
    assert!(run(many(3)).is_ok());
    let error = run(many(30)).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
}

#[test]
fn no_more_room() {
    let large = layer(&[(9, 9_000_000)], 1);
    let layers = (0..6).map(|_| arriving("a layer", &large)).collect();
    let file = tempfile::tempfile().unwrap();
    let error = unpack(
        layers,
        0,
        &mut NoRoom(2000),
        &file,
        &ImportLimits::default(),
    );
    assert!(matches!(error, Err(Error::NoRoom)), "{error:?}");
}
