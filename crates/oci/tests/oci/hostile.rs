//! Archives and layouts that lie: each a clear error, and nothing of it in the store.

use std::path::{Path, PathBuf};
use std::process::Command;

use firebuild_core::Digest;
use firebuild_core::layer::{Entry, LayerWriter};
use firebuild_core::tree::Metadata;
use firebuild_oci::{
    Error, ImportLimits, export_oci_dir, import_layer, import_oci_dir, import_rootfs_tar,
};
use firebuild_store::{Collected, Store};

use crate::destination::Blocks;
use crate::images::{config, image, reference, run, store};
use crate::notation;

/// That nothing is there: no name, no blob, nothing half-made.
fn is_empty(store: &Store) {
    assert!(store.tags().list().unwrap().is_empty());
    let none = Collected::Freed { blobs: 0, bytes: 0 };
    assert_eq!(store.collect().unwrap(), none);
    let half_made = fs_err::read_dir(store.path().join("tmp")).unwrap().count();
    assert_eq!(half_made, 0);
}

/// The text of an error and of its causes.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn raw_path(path: &[u8]) -> Vec<u8> {
    let mut writer = LayerWriter::new(Vec::new());
    let metadata = Metadata::root_owned(0o644);
    writer.file(path, &metadata, 1, &mut &b"x"[..]).unwrap();
    writer.finish().unwrap()
}

fn raw_link(target: &[u8]) -> Vec<u8> {
    let mut writer = LayerWriter::new(Vec::new());
    let metadata = Metadata::root_owned(0o644);
    writer
        .entry(b"link", &metadata, Entry::HardLink(target))
        .unwrap();
    writer.finish().unwrap()
}

#[test]
fn a_lying_archive_leaves_nothing() {
    let good = notation::layer(&["d etc", "f etc/x 1"]);
    let mut corrupt = run(Command::new("gzip").arg("-c").arg(written(&good).path()));
    let middle = corrupt.len() / 2;
    corrupt[middle] ^= 0xff;
    let short = corrupt[..20].to_vec();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("climbs out", raw_path(b"../../etc/shadow"), "`..` part"),
        ("climbs within", raw_path(b"a/../../b"), "`..` part"),
        ("links out", raw_link(b"../../etc/shadow"), "`..` part"),
        ("links to nothing", raw_link(b"etc/shadow"), "`link`"),
        ("long name", raw_path(&[b'n'; 256]), "255 bytes"),
        ("no archive", vec![b'x'; 4096], "checksum"),
        ("cut off", good[..1536].to_vec(), "cut off"),
        ("cut off within", good[..1100].to_vec(), "ends at byte"),
        ("empty", Vec::new(), "cut off"),
        ("corrupt gzip", corrupt, "read the archive"),
        ("short gzip", short, "read the archive"),
    ];
    let (_directory, store) = store();
    for (what, bytes, expected) in cases {
        let name = reference("hostile");
        let error = import_rootfs_tar(&store, bytes.as_slice(), config(), &name).unwrap_err();
        let text = chain(&error);
        assert!(text.contains(expected), "{what}: {text}");
        is_empty(&store);
    }
}

fn written(bytes: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs_err::write(file.path(), bytes).unwrap();
    file
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let (_directory, store) = store();
    let lease = store.lease().unwrap();
    let limits = ImportLimits {
        layer: 10 << 20,
        ..ImportLimits::default()
    };
    let zeros = vec![0; 64 << 20];
    for program in ["gzip", "zstd", "xz"] {
        let bomb = run(Command::new(program).arg("-c").arg(written(&zeros).path()));
        assert!(bomb.len() < 1 << 20);
        let error = import_layer(&lease, bomb.as_slice(), "the bomb", &limits).unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    }
    // A sparse file claims what it does not have.
    let huge = tempfile::tempdir().unwrap();
    let file = fs_err::File::create(huge.path().join("huge")).unwrap();
    file.set_len(8 << 40).unwrap();
    let archive = run(Command::new("tar")
        .args(["--sparse", "--create", "--format=pax", "--directory"])
        .arg(huge.path())
        .arg("huge"));
    let error = import_layer(&lease, archive.as_slice(), "the bomb", &limits).unwrap_err();
    assert!(chain(&error).contains("bytes of file content"), "{error}");
    drop(lease);
    is_empty(&store);
}

/// A layout of an image of two layers.
fn layout(directory: &Path) -> PathBuf {
    let (_other, store) = store();
    let layers = [
        notation::layer(&["d etc", "f etc/x 1"]),
        notation::layer(&["f second 2"]),
    ];
    let image = image(&store, &layers, "good");
    let path = directory.join("layout");
    export_oci_dir(&store, &image, &reference("good"), &path).unwrap();
    path
}

fn blob(layout: &Path, digest: &str) -> PathBuf {
    let hex = digest.strip_prefix("sha256:").unwrap();
    layout.join("blobs/sha256").join(hex)
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs_err::read(path).unwrap()).unwrap()
}

/// The path of the manifest, and what it says.
fn manifest(layout: &Path) -> (PathBuf, serde_json::Value) {
    let index = json(&layout.join("index.json"));
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    let path = blob(layout, digest);
    let value = json(&path);
    (path, value)
}

/// Puts another manifest in the place of the one, with the right digest and length.
fn set_manifest(layout: &Path, value: &serde_json::Value) {
    let bytes = serde_json::to_vec(value).unwrap();
    let digest = Digest::of(&bytes).to_string();
    fs_err::write(blob(layout, &digest), &bytes).unwrap();
    let mut index = json(&layout.join("index.json"));
    index["manifests"][0]["digest"] = digest.into();
    index["manifests"][0]["size"] = bytes.len().into();
    set_index(layout, &index);
}

fn set_index(layout: &Path, index: &serde_json::Value) {
    let bytes = serde_json::to_vec(index).unwrap();
    fs_err::write(layout.join("index.json"), bytes).unwrap();
}

fn layer_path(layout: &Path, number: usize) -> PathBuf {
    let (_, manifest) = manifest(layout);
    blob(
        layout,
        manifest["layers"][number]["digest"].as_str().unwrap(),
    )
}

type Lie = fn(&Path);

const LIES: &[(&str, Lie, &str)] = &[
    (
        "a layer's bytes are others",
        |layout| {
            let path = layer_path(layout, 1);
            let mut bytes = fs_err::read(&path).unwrap();
            bytes[2000] ^= 1;
            fs_err::write(&path, bytes).unwrap();
        },
        "has the digest",
    ),
    (
        "a layer is longer than it says",
        |layout| {
            let path = layer_path(layout, 1);
            let mut bytes = fs_err::read(&path).unwrap();
            bytes.extend([0; 512]);
            fs_err::write(&path, bytes).unwrap();
        },
        "bytes, but the image says",
    ),
    (
        "a layer is an endless hole",
        |layout| {
            let path = layer_path(layout, 1);
            fs_err::OpenOptions::new()
                .write(true)
                .open(path)
                .and_then(|file| file.set_len(1 << 42))
                .unwrap();
            let (_, mut value) = manifest(layout);
            value["layers"][1]["size"] = (1_u64 << 42).into();
            set_manifest(layout, &value);
        },
        "larger than the limit",
    ),
    (
        "a layer is shorter than it says",
        |layout| {
            let (_, mut value) = manifest(layout);
            value["layers"][1]["size"] = 1_000_000.into();
            set_manifest(layout, &value);
        },
        "but the image says 1000000",
    ),
    (
        "a layer is missing",
        |layout| fs_err::remove_file(layer_path(layout, 1)).unwrap(),
        "No such file",
    ),
    (
        "a layer is a link to a file of the host",
        |layout| {
            let path = layer_path(layout, 1);
            fs_err::remove_file(&path).unwrap();
            fs_err::os::unix::fs::symlink("/etc/passwd", path).unwrap();
        },
        "read layer",
    ),
    (
        "a layer is a pipe that nobody writes to",
        |layout| {
            let path = layer_path(layout, 1);
            fs_err::remove_file(&path).unwrap();
            run(Command::new("mkfifo").arg(path));
        },
        "not a regular file",
    ),
    (
        "the layers are in another order than the configuration says",
        |layout| {
            let (_, mut value) = manifest(layout);
            value["layers"].as_array_mut().unwrap().reverse();
            set_manifest(layout, &value);
        },
        "uncompressed, has the digest",
    ),
    (
        "there are fewer layers than the configuration says",
        |layout| {
            let (_, mut value) = manifest(layout);
            value["layers"].as_array_mut().unwrap().pop();
            set_manifest(layout, &value);
        },
        "lists 2 layers, but the manifest 1",
    ),
    (
        "the manifest is no manifest",
        |layout| set_manifest(layout, &serde_json::json!({"schemaVersion": 2})),
        "is not valid",
    ),
    (
        "the manifest is changed",
        |layout| {
            let (path, _) = manifest(layout);
            fs_err::write(path, b"{}").unwrap();
        },
        "has the digest",
    ),
    (
        "a digest climbs out",
        |layout| {
            let (_, mut value) = manifest(layout);
            value["layers"][0]["digest"] = "sha256:../../../../etc/passwd".into();
            set_manifest(layout, &value);
        },
        "is not valid",
    ),
    (
        "the index is for another machine",
        |layout| {
            let mut index = json(&layout.join("index.json"));
            let inner = serde_json::json!({"schemaVersion": 2, "manifests": [{
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": index["manifests"][0]["digest"], "size": 1,
                "platform": {"architecture": "s390x", "os": "linux"}}]});
            let bytes = serde_json::to_vec(&inner).unwrap();
            let digest = Digest::of(&bytes).to_string();
            fs_err::write(blob(layout, &digest), &bytes).unwrap();
            let entry = &mut index["manifests"][0];
            entry["mediaType"] = "application/vnd.oci.image.index.v1+json".into();
            entry["digest"] = digest.into();
            entry["size"] = bytes.len().into();
            set_index(layout, &index);
        },
        "has none for linux/",
    ),
    (
        "what the index lists is no image",
        |layout| {
            let mut index = json(&layout.join("index.json"));
            index["manifests"][0]["mediaType"] = "application/x-unknown".into();
            set_index(layout, &index);
        },
        "which is no image",
    ),
    (
        "the index is not JSON",
        |layout| fs_err::write(layout.join("index.json"), b"<html>").unwrap(),
        "index.json",
    ),
    (
        "the index is huge",
        |layout| {
            let file = fs_err::File::create(layout.join("index.json")).unwrap();
            file.set_len(1 << 40).unwrap();
        },
        "larger than the limit",
    ),
    (
        "a layer climbs out",
        |layout| {
            let bytes = raw_path(b"../x");
            let digest = Digest::of(&bytes).to_string();
            fs_err::write(blob(layout, &digest), &bytes).unwrap();
            let (_, mut value) = manifest(layout);
            value["layers"][1]["digest"] = digest.into();
            value["layers"][1]["size"] = bytes.len().into();
            set_manifest(layout, &value);
        },
        "`..` part",
    ),
];

#[test]
fn a_lying_layout_leaves_nothing() {
    let (directory, store) = store();
    for (number, (what, lie, expected)) in LIES.iter().enumerate() {
        let scratch = directory.path().join(number.to_string());
        fs_err::create_dir(&scratch).unwrap();
        let layout = layout(&scratch);
        lie(&layout);
        let result = import_oci_dir(&store, (&layout, None), &Blocks, &[reference("hostile")]);
        let text = chain(&result.expect_err(what));
        assert!(text.contains(expected), "{what}: {text}");
        is_empty(&store);
    }
}

#[test]
fn a_name_that_is_not_there_is_an_error_that_lists_the_names() {
    let (directory, store) = store();
    let layout = layout(directory.path());
    let name = reference("x");
    let error = import_oci_dir(
        &store,
        (&layout, Some("bad")),
        &Blocks,
        std::slice::from_ref(&name),
    )
    .unwrap_err();
    let text = error.to_string();
    assert!(text.contains("no image `bad`; it has `latest`"), "{text}");
    for good in [None, Some("latest"), Some("docker.io/library/good:latest")] {
        assert!(
            import_oci_dir(
                &store,
                (&layout, good),
                &Blocks,
                std::slice::from_ref(&name)
            )
            .is_ok()
        );
    }
    let mut index = json(&layout.join("index.json"));
    let entries = index["manifests"].as_array_mut().unwrap();
    let mut second = entries[0].clone();
    second["annotations"] = serde_json::json!({});
    entries.push(second);
    set_index(&layout, &index);
    let error = import_oci_dir(
        &store,
        (&layout, None),
        &Blocks,
        std::slice::from_ref(&name),
    )
    .unwrap_err();
    assert!(error.to_string().contains("2 images"), "{error}");
    let error = import_oci_dir(
        &store,
        (directory.path(), None),
        &Blocks,
        std::slice::from_ref(&name),
    )
    .unwrap_err();
    assert!(chain(&error).contains("index.json"));
}

/// A small file system in memory, unmounted when it is dropped.
struct Small(tempfile::TempDir);

impl Small {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
            .arg(directory.path()));
        Self(directory)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: a child that another test has just forked may still have a file of it open.
        run(Command::new("umount").arg("--lazy").arg(self.0.path()));
    }
}

#[test]
fn no_space_for_an_image_is_a_plain_error() {
    let small = Small::new();
    let store = Store::open(small.0.path()).unwrap();
    let text = format!("f big {}", "x".repeat(4 << 20));
    let layer = notation::layer(&[&text]);
    let error =
        import_rootfs_tar(&store, layer.as_slice(), config(), &reference("big")).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("no space left"), "{text}");
    assert!(error.hint().unwrap().contains("--root"));
    is_empty(&store);
}
