//! Any documents of an image are refused in a line, with nothing left in the store, or are an image that
//! can be read, and given on as it came.
//!
//! An input is the documents of an OCI image layout, each ended by a byte 0: `index.json` first, then what
//! becomes blobs. A fuzzer does not find digests: `@N` in a document is the digest of the one `N` places
//! further on, and `#N` its length. A document `tar NAME…` is a layer with files of these names, and
//! `gzip NAME…` the same compressed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "a finding is a panic; and tests include this as a module of their own"
)]

use std::fs::File;
use std::io::Write as _;
use std::ops::Range;
use std::path::Path;

use firebuild_core::layer::LayerWriter;
use firebuild_core::tree::Metadata;
use firebuild_core::{Digest, Reference};
use firebuild_oci::{
    Destination, Error, Fill, Image, Lower, Result, Room, export_oci_dir, find_image, image_tree,
    import_oci_dir,
};
use firebuild_store::{Collected, Store};
use flate2::Compression;
use flate2::write::GzEncoder;

/// No error is longer, with all its causes.
const LONGEST_ERROR: usize = 2000;

/// The invariants; it panics where they do not hold.
pub fn manifest(data: &[u8]) {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let folder = folder.unwrap();
    let layout = folder.path().join("layout");
    write(&layout, data);
    let store = Store::open(&folder.path().join("store")).unwrap();
    let name: Reference = "fuzzed:1".parse().unwrap();
    let names = [name.clone()];
    let image = match import_oci_dir(&store, (&layout, None), &Blocks, &names) {
        Ok(image) => image,
        Err(error) => {
            check_error(&error);
            return check_empty(&store);
        }
    };
    check_same(&find_image(&store, &name).unwrap(), &image);
    check_given_on(&store, &image, folder.path());
}

/// Writes the documents, the last first: each may refer to those after it.
fn write(layout: &Path, data: &[u8]) {
    let blobs = layout.join("blobs/sha256");
    fs_err::create_dir_all(&blobs).unwrap();
    let mut documents: Vec<&[u8]> = data.split(|byte| *byte == 0).take(10).collect();
    let index = documents.remove(0);
    let mut known = Vec::new();
    for document in documents.iter().rev() {
        let bytes = layer(document).unwrap_or_else(|| filled(document, &known));
        let digest = Digest::of(&bytes);
        fs_err::write(blobs.join(digest.hex()), &bytes).unwrap();
        known.push((digest, bytes.len()));
    }
    fs_err::write(layout.join("index.json"), filled(index, &known)).unwrap();
}

/// The layer that a document stands for.
fn layer(document: &[u8]) -> Option<Vec<u8>> {
    let (form, names) = document.split_at_checked(5)?;
    let (names, is_plain) = match form {
        b"gzip " => (names, false),
        _ => (document.strip_prefix(b"tar ")?, true),
    };
    let mut writer = LayerWriter::new(Vec::new());
    for name in names.split(|byte| *byte == b' ') {
        let metadata = Metadata::root_owned(0o644);
        // What cannot be written is not in it.
        let _ = writer.file(name, &metadata, name.len() as u64, &mut &*name);
    }
    let bytes = writer.finish().unwrap();
    if is_plain {
        return Some(bytes);
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&bytes).unwrap();
    Some(encoder.finish().unwrap())
}

/// A document with digests and lengths in their places; `known` is what comes after it, the last first.
fn filled(document: &[u8], known: &[(Digest, usize)]) -> Vec<u8> {
    let mut filled = Vec::new();
    let mut bytes = document.iter().peekable();
    while let Some(byte) = bytes.next() {
        let digit = bytes.peek().filter(|digit| digit.is_ascii_digit());
        let place = digit.and_then(|digit| known.len().checked_sub(usize::from(**digit - b'0')));
        let Some((digest, length)) = place.and_then(|place| known.get(place)) else {
            filled.push(*byte);
            continue;
        };
        match byte {
            b'@' => filled.extend(digest.to_string().bytes()),
            b'#' => filled.extend(length.to_string().bytes()),
            _ => {
                filled.push(*byte);
                continue;
            }
        }
        bytes.next();
    }
    filled
}

/// An error is one line, and cannot do anything to a terminal.
fn check_error(error: &Error) {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    let mut length = 0;
    while let Some(error) = cause {
        let text = error.to_string();
        assert!(!text.contains(char::is_control), "{text:?}");
        length += text.len();
        cause = error.source();
    }
    assert!(length <= LONGEST_ERROR, "{length}");
}

fn check_empty(store: &Store) {
    assert!(store.tags().list().unwrap().is_empty());
    let none = Collected::Freed { blobs: 0, bytes: 0 };
    assert_eq!(store.collect().unwrap(), none);
    for directory in ["tmp", "rootfs", "layers"] {
        let path = store.path().join(directory);
        assert_eq!(fs_err::read_dir(path).unwrap().count(), 0, "{directory}");
    }
}

/// What is exported is the same image, and makes the same tree.
fn check_given_on(store: &Store, image: &Image, folder: &Path) {
    let (tree, _) = image_tree(store, image.diff_ids()).unwrap();
    let exported = folder.join("exported");
    let name: Reference = "fuzzed:1".parse().unwrap();
    export_oci_dir(store, image, &name, &exported).unwrap();
    let second = Store::open(&folder.join("second")).unwrap();
    let again = import_oci_dir(&second, (&exported, None), &Blocks, &[]).unwrap();
    check_same(&again, image);
    let (other, _) = image_tree(&second, again.diff_ids()).unwrap();
    let paths = |tree: &firebuild_core::tree::Tree| {
        let mut paths = Vec::new();
        tree.walk(&mut |path, _| paths.push(path.to_vec()));
        paths
    };
    assert_eq!(paths(&tree), paths(&other));
}

/// Names apart, it is the same image.
fn check_same(one: &Image, other: &Image) {
    assert_eq!(one.manifest.digest, other.manifest.digest);
    assert_eq!(
        (&one.config, &one.config_digest, &one.layers),
        (&other.config, &other.config_digest, &other.layers)
    );
}

/// Where layers are unpacked to: the blocks alone, without a file system around them.
struct Blocks;

struct Counting(u64);

impl Room for Counting {
    fn take(&mut self, most: u64) -> Option<Range<u64>> {
        self.0 += most;
        Some(self.0 - most..self.0)
    }
}

impl Destination for Blocks {
    fn make(
        &self,
        store: &Store,
        diff_ids: &[Digest],
        _: usize,
        fill: &mut Fill<'_>,
    ) -> Result<Digest> {
        let all: Vec<String> = diff_ids.iter().map(Digest::hex).collect();
        let key = Digest::of(all.concat().as_bytes());
        store.rootfs(&key, |output: &File| {
            fill(&Lower::default(), &mut Counting(10), output).map(drop)?;
            Ok::<(), Error>(())
        })?;
        Ok(key)
    }
}
