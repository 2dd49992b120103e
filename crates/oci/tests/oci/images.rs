//! Images into the store and out of it, with umoci, skopeo and GNU tar as judges.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use firebuild_core::tree::{Content, Kind, Metadata, Node, Timestamp};
use firebuild_core::{ImageConfig, Platform, Reference};
use firebuild_oci::{
    Changes, Error, Image, ImportLimits, Sources, export_oci_dir, export_rootfs_tar, find_image,
    image_tree, import_layer, import_oci_dir, import_rootfs_tar, write_image,
};
use firebuild_store::{Collected, Store};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::destination::{self, Blocks};
use crate::model::{archive, layers};
use crate::{listing, merge, notation};

pub(crate) fn store() -> (TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("store")).unwrap();
    (directory, store)
}

pub(crate) fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

pub(crate) fn config() -> ImageConfig {
    ImageConfig::scratch(Platform::host())
}

pub(crate) fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().expect("the judge is installed");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// An image of these layers, named `name`.
pub(crate) fn image(store: &Store, layers: &[Vec<u8>], name: &str) -> Image {
    let lease = store.lease().unwrap();
    let limits = ImportLimits::default();
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| {
            let (staged, _) = import_layer(&lease, layer.as_slice(), "layer", &limits).unwrap();
            staged.commit().unwrap()
        })
        .collect();
    write_image(&lease, config(), &[], &layers, &[reference(name)]).unwrap()
}

fn unpacked_by_umoci(store: &Store, image: &Image, scratch: &Path) -> std::path::PathBuf {
    let layout = scratch.join("layout");
    export_oci_dir(store, image, &reference("x:tag"), &layout).unwrap();
    let rootfs = scratch.join("rootfs");
    run(Command::new("umoci")
        .args(["raw", "unpack", "--image"])
        .arg(format!("{}:tag", layout.display()))
        .arg(&rootfs));
    rootfs
}

fn tree_lines(store: &Store, image: &Image, times: bool) -> Vec<String> {
    let (tree, sources) = image_tree(store, image.diff_ids()).unwrap();
    listing::of_tree(&tree, &sources, times)
}

#[test]
fn umoci_sees_the_cases_as_we_do() {
    let (directory, store) = store();
    for (number, case) in merge::CASES.iter().enumerate() {
        if !case.umoci {
            continue;
        }
        let layers: Vec<_> = case
            .layers
            .iter()
            .map(|lines| notation::layer(lines))
            .collect();
        let image = image(&store, &layers, "case");
        let scratch = directory.path().join(number.to_string());
        fs_err::create_dir(&scratch).unwrap();
        let rootfs = unpacked_by_umoci(&store, &image, &scratch);
        let expected = listing::of_directory(&rootfs, false);
        let ours = tree_lines(&store, &image, false);
        let difference = listing::difference(&ours, &expected);
        assert!(difference.is_empty(), "{}:\n{difference}", case.what);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn umoci_unpacks_what_the_tree_holds(layers in layers(), markers_last in any::<bool>()) {
        let (directory, store) = store();
        let archives: Vec<_> = layers.iter().map(|l| archive(l, markers_last)).collect();
        let image = image(&store, &archives, "random");
        let rootfs = unpacked_by_umoci(&store, &image, directory.path());
        let expected = listing::of_directory(&rootfs, false);
        let ours = tree_lines(&store, &image, false);
        prop_assert_eq!(listing::difference(&ours, &expected), "");
    }

    #[test]
    fn an_exported_archive_makes_the_same_tree(layers in layers()) {
        let (_directory, store) = store();
        let archives: Vec<_> = layers.iter().map(|l| archive(l, false)).collect();
        let merged = image(&store, &archives, "merged");
        let exported = export_rootfs_tar(&store, &merged, Vec::new()).unwrap();
        let flat = image(&store, std::slice::from_ref(&exported), "flat");
        prop_assert_eq!(tree_lines(&store, &merged, true), tree_lines(&store, &flat, true));
        let again = export_rootfs_tar(&store, &flat, Vec::new()).unwrap();
        prop_assert!(again == exported);

        let target = tempfile::tempdir().unwrap();
        let mut tar = Command::new("tar")
            .args(["--extract", "--preserve-permissions", "--numeric-owner", "--xattrs"])
            .args(["--xattrs-include=*", "--warning=no-timestamp", "--directory"])
            .arg(target.path())
            .stdin(Stdio::piped())
            .spawn()
            .expect("GNU tar is installed");
        tar.stdin.take().unwrap().write_all(&exported).unwrap();
        prop_assert!(tar.wait().unwrap().success());
        let expected = listing::of_directory(target.path(), true);
        let ours = tree_lines(&store, &merged, true);
        prop_assert_eq!(listing::difference(&ours, &expected), "");
    }
}

#[test]
fn an_image_goes_round_through_skopeo() {
    let (directory, store) = store();
    let layers = [
        notation::layer(&["d etc 755", "f etc/a 1", "f etc/b 2"]),
        notation::layer(&["w etc/a", "f c 3"]),
    ];
    let made = image(&store, &layers, "example:1");
    let exported = directory.path().join("exported");
    export_oci_dir(&store, &made, &reference("example:1"), &exported).unwrap();
    let text = run(Command::new("skopeo")
        .arg("inspect")
        .arg(format!("oci:{}:1", exported.display())));
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains(&made.layers[1].digest.to_string()), "{text}");
    for (format, name) in [("gzip", "by-gzip"), ("zstd", "by-zstd")] {
        let copied = directory.path().join(name);
        run(Command::new("skopeo")
            .args(["copy", "--dest-compress", "--dest-compress-format", format])
            .arg(format!(
                "oci:{}:docker.io/library/example:1",
                store.layout_path().display()
            ))
            .arg(format!("oci:{}:other", copied.display())));
        let index = fs_err::read_to_string(copied.join("index.json")).unwrap();
        assert!(index.contains("other"));
        let (_second, second) = self::store();
        let names = [reference("copy")];
        let imported = import_oci_dir(&second, (&copied, None), &Blocks, &names).unwrap();
        // It is what it was, byte for byte.
        assert!(
            index.contains(&imported.manifest.digest.to_string()),
            "{index}"
        );
        assert_eq!(imported.diff_ids(), made.diff_ids(), "{format}");
        assert_eq!(
            imported.plain_layers(&second).unwrap(),
            made.plain_layers(&store).unwrap()
        );
        assert_eq!(imported.config_digest, made.config_digest);
        assert_eq!(
            find_image(&second, &reference("copy:latest")).unwrap(),
            imported_tagged(&second)
        );
        assert_eq!(
            tree_lines(&second, &imported, true),
            tree_lines(&store, &made, true)
        );
        let none = Collected::Freed { blobs: 0, bytes: 0 };
        assert_eq!(second.collect().unwrap(), none);
        let again = import_oci_dir(&second, (&copied, None), &Blocks, &names).unwrap();
        assert_eq!(again, imported);
        // Without the blocks, the layers' own bytes are read.
        let key = destination::key(imported.diff_ids());
        assert!(second.rootfs_remove(&key).unwrap());
        assert_eq!(
            tree_lines(&second, &imported, true),
            tree_lines(&store, &made, true)
        );
        let plain = made.plain_layers(&store).unwrap();
        assert!(second.has_whole_blob(&plain[0]).unwrap());
    }
    // Where its root file system is there already, nothing is known of places in it.
    let key = destination::key(made.diff_ids());
    let there = store.rootfs(&key, |_| Ok::<_, Error>(()));
    there.unwrap();
    let copied = directory.path().join("by-gzip");
    import_oci_dir(&store, (&copied, None), &Blocks, &[reference("copy")]).unwrap();
    for diff_id in made.diff_ids() {
        let record = store.layers().get(diff_id).unwrap().unwrap();
        assert_eq!(record.placed, None);
    }
}

fn imported_tagged(store: &Store) -> Image {
    let tagged = store.tags().list().unwrap().pop().unwrap();
    firebuild_oci::read_image(store, &tagged.descriptor).unwrap()
}

#[test]
fn a_root_file_system_comes_in_every_compression() {
    let (directory, store) = store();
    let plain = notation::layer(&["d etc", "f etc/x 1"]);
    let file = directory.path().join("rootfs.tar");
    fs_err::write(&file, &plain).unwrap();
    let mut digests = Vec::new();
    for program in ["cat", "gzip", "zstd", "xz"] {
        let bytes = run(Command::new(program)
            .args(if program == "cat" { &[][..] } else { &["-c"] })
            .arg(&file));
        let name = reference(program);
        let image = import_rootfs_tar(&store, bytes.as_slice(), config(), &name).unwrap();
        assert_eq!(image.config.rootfs.diff_ids.len(), 1);
        digests.push(image.manifest.digest);
    }
    digests.dedup();
    assert_eq!(digests.len(), 1, "the bytes inside are the same");
    let expected = firebuild_core::Digest::of(&plain);
    assert!(store.has_blob(&expected).unwrap());
}

#[test]
fn an_export_does_not_overwrite() {
    let (directory, store) = store();
    let image = image(&store, &[notation::layer(&["f a 1"])], "a");
    let target = directory.path().join("taken");
    fs_err::create_dir(&target).unwrap();
    export_oci_dir(&store, &image, &reference("a"), &target).unwrap();
    let again = export_oci_dir(&store, &image, &reference("a"), &target);
    assert!(matches!(again, Err(Error::Exists(_))));
    let file = directory.path().join("file");
    fs_err::write(&file, b"x").unwrap();
    let onto_a_file = export_oci_dir(&store, &image, &reference("a"), &file);
    assert!(matches!(onto_a_file, Err(Error::Exists(_))));
    let missing = find_image(&store, &reference("nobody:x"));
    assert!(matches!(missing, Err(Error::NoImage(_))));
}

#[test]
fn changes_become_a_layer_that_makes_them() {
    let (directory, store) = store();
    let lower = notation::layer(&[
        "d etc 711",
        "f etc/old 1",
        "d opt",
        "f opt/x 2",
        "d var 700",
    ]);
    let below = image(&store, std::slice::from_ref(&lower), "below");
    let (tree, _) = image_tree(&store, below.diff_ids()).unwrap();

    let host = directory.path().join("host");
    fs_err::write(&host, b"from the host").unwrap();
    let mut blob = tempfile::tempfile().unwrap();
    blob.write_all(b"0123456789").unwrap();
    let mut sources = Sources::new();
    let (blob, host) = (sources.add_file(blob), sources.add_path(host));
    let metadata = Metadata {
        mode: 0o640,
        uid: 7,
        gid: 8,
        mtime: Timestamp {
            seconds: 12,
            nanoseconds: 34,
        },
        ..Metadata::default()
    };
    let file = |content| Node {
        metadata: metadata.clone(),
        kind: Kind::File(content),
    };
    let make = |reversed: bool| {
        let mut changes = Changes::over(&tree);
        assert!(changes.is_empty());
        let mut step = |number| match number {
            0 => changes.insert(b"etc/new/part", file(Content::whole(blob, 3, 4))),
            1 => changes.insert(b"etc/host", file(Content::whole(host, 0, 13))),
            2 => changes.remove(b"etc/old"),
            3 => changes.opaque(b"opt"),
            _ => changes.directory(b"srv", Metadata::root_owned(0o2755)),
        };
        for number in 0..5 {
            step(if reversed { 4 - number } else { number }).unwrap();
        }
        changes.link(b"srv/again", b"etc/host").unwrap();
        assert!(changes.get(b"etc/old").is_none());
        assert!(changes.get(b"etc/host").is_some());
        changes.write(&sources, Vec::new()).unwrap()
    };
    let layer = make(false);
    assert!(layer == make(true), "the same changes, the same bytes");
    let (tree, sources) = notation::merged(&[lower, layer]).unwrap();
    let expected = [
        "d etc 711",
        "f etc/host from the host",
        "d etc/new",
        "f etc/new/part 3456",
        "d opt",
        "d srv 2755",
        "h srv/again etc/host",
        "d var 700",
    ];
    assert_eq!(notation::lines(&tree, &sources), expected);
    let node = tree.node(tree.lookup(b"etc/host").unwrap());
    assert_eq!(node.metadata, metadata);
}

#[test]
fn changes_refuse_what_no_layer_can_say() {
    let (directory, _store) = store();
    let file = Node {
        metadata: Metadata::default(),
        kind: Kind::Fifo,
    };
    let mut changes = Changes::new();
    for path in [&b".wh.x"[..], b"d/.wh..wh..opq", b"d/.wh.y"] {
        let refused = changes.insert(path, file.clone());
        assert!(matches!(refused, Err(Error::Change { .. })));
    }
    for path in [&b".."[..], b"", b"d/..", b"a\0b"] {
        assert!(changes.insert(path, file.clone()).is_err());
    }
    assert!(changes.link(b"a", b"missing").is_err());

    let path = directory.path().join("file");
    fs_err::write(&path, b"long enough").unwrap();
    let mut sources = Sources::new();
    let source = sources.add_path(path.clone());
    let mut changes = Changes::new();
    let node = Node {
        metadata: Metadata::default(),
        kind: Kind::File(Content::whole(source, 0, 11)),
    };
    changes.insert(b"file", node).unwrap();
    assert!(changes.write(&sources, Vec::new()).is_ok());
    fs_err::write(&path, b"another length").unwrap();
    let error = changes.write(&sources, Vec::new()).unwrap_err();
    assert!(error.to_string().contains("`file`"), "{error}");
    fs_err::remove_file(&path).unwrap();
    fs_err::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
    assert!(changes.write(&sources, Vec::new()).is_err());
}

#[test]
fn a_hole_is_read_as_zeros() {
    use firebuild_core::tree::Segment;
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"abcdef").unwrap();
    let mut sources = Sources::new();
    let source = sources.add_file(file);
    let segment = |start, offset, length| Segment {
        start,
        offset,
        length,
    };
    let content = Content {
        source,
        length: 12,
        segments: [segment(2, 4, 2), segment(4, 0, 1), segment(9, 1, 2)].into(),
    };
    let mut bytes = Vec::new();
    let mut reader = sources.open(&content).unwrap();
    std::io::Read::read_to_end(&mut reader, &mut bytes).unwrap();
    assert_eq!(bytes, b"\0\0efa\0\0\0\0bc\0");
}

#[test]
fn capabilities_with_any_bytes_survive() {
    // VFS_CAP_REVISION_2, effective, with bits that make a line feed and an equals sign.
    const CAPABILITY: &[u8] = b"\x01\0\0\x02\x0a=\0\0\x0a\0\0\0\0\0\0\0\0\0\0\0";
    const NAME: &str = "security.capability";
    let (directory, store) = store();
    let host = directory.path().join("host");
    fs_err::create_dir(&host).unwrap();
    fs_err::write(host.join("ping"), b"x").unwrap();
    xattr::set(host.join("ping"), NAME, CAPABILITY).unwrap();
    let archive = run(Command::new("tar")
        .args(["--create", "--xattrs", "--xattrs-include=*", "--directory"])
        .arg(&host)
        .arg("."));
    let name = reference("caps");
    let image = import_rootfs_tar(&store, archive.as_slice(), config(), &name).unwrap();
    let (tree, _) = image_tree(&store, image.diff_ids()).unwrap();
    let xattrs = &tree.node(tree.lookup(b"ping").unwrap()).metadata.xattrs;
    assert_eq!(xattrs[NAME.as_bytes()].as_ref(), CAPABILITY);

    let exported = export_rootfs_tar(&store, &image, Vec::new()).unwrap();
    let archive = directory.path().join("exported.tar");
    fs_err::write(&archive, exported).unwrap();
    let back = directory.path().join("back");
    fs_err::create_dir(&back).unwrap();
    run(Command::new("tar")
        .args(["--extract", "--xattrs", "--xattrs-include=*", "--directory"])
        .arg(&back)
        .arg("--file")
        .arg(&archive));
    let unpacked = unpacked_by_umoci(&store, &image, directory.path());
    for place in [back, unpacked] {
        let value = xattr::get(place.join("ping"), NAME).unwrap();
        assert_eq!(value.as_deref(), Some(CAPABILITY), "{place:?}");
    }
}
