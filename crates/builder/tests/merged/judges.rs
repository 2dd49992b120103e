//! Images made of layers, unpacked by us and by umoci.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use firebuild_builder::rootfs::Ext4;
use firebuild_core::Digest;
use firebuild_oci::import_oci_dir;
use firebuild_store::Store;
use serde_json::{Value, json};

use crate::archive::archive;
use crate::model::Layer;
use crate::overlay::Mounted;
use crate::seen::{Listing, listing};

/// What two made of the same layers.
pub(crate) struct Unpacked {
    pub(crate) ours: Listing,
    pub(crate) umoci: Listing,
}

impl Unpacked {
    pub(crate) fn of(number: u64, layers: &[Layer], scratch: &Path) -> Self {
        let plain: Vec<Vec<u8>> = layers.iter().map(|layer| archive(layer, true)).collect();
        let packed: Vec<Vec<u8>> = plain
            .iter()
            .zip(layers)
            .map(|(bytes, layer)| compressed(bytes, layer.compression))
            .collect();
        let [ours, first, theirs] = ["packed", "plain", "theirs"].map(|name| scratch.join(name));
        layout(&ours, &plain, &packed);
        layout(&first, &plain, &plain);
        // umoci knows neither zstd nor bzip2 nor xz, nor the oldest form of sparse files.
        let plain: Vec<Vec<u8>> = layers.iter().map(|layer| archive(layer, false)).collect();
        layout(&theirs, &plain, &plain);
        // Every other image comes to a store that has its layers in another form.
        let first = (number.is_multiple_of(2)).then_some(first.as_path());
        Self {
            ours: by_us(&ours, None, first, scratch),
            umoci: by_umoci(&format!("{}:x", theirs.display()), scratch),
        }
    }
}

fn compressed(bytes: &[u8], program: &str) -> Vec<u8> {
    if program == "cat" {
        return bytes.to_vec();
    }
    let mut child = Command::new(program)
        .args(["-c", "-1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(bytes).unwrap());
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{program}");
    output.stdout
}

fn put(directory: &Path, bytes: &[u8], media_type: &str) -> Value {
    let digest = Digest::of(bytes);
    let path = directory.join("blobs/sha256").join(digest.hex());
    fs_err::write(path, bytes).unwrap();
    json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()})
}

/// Writes an OCI image layout with one image, `x`.
fn layout(directory: &Path, plain: &[Vec<u8>], packed: &[Vec<u8>]) {
    fs_err::create_dir_all(directory.join("blobs/sha256")).unwrap();
    let marker = br#"{"imageLayoutVersion":"1.0.0"}"#;
    fs_err::write(directory.join("oci-layout"), marker).unwrap();
    let kind = |name: &str| format!("application/vnd.oci.image.{name}");
    let host = firebuild_core::Platform::host();
    let diff_ids: Vec<String> = plain
        .iter()
        .map(|bytes| Digest::of(bytes).to_string())
        .collect();
    let config = json!({
        "architecture": host.architecture, "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = put(
        directory,
        config.to_string().as_bytes(),
        &kind("config.v1+json"),
    );
    let layers: Vec<Value> = packed
        .iter()
        .map(|bytes| {
            let is_gzip = bytes.starts_with(&[0x1f, 0x8b]);
            let form = if is_gzip {
                "layer.v1.tar+gzip"
            } else {
                "layer.v1.tar"
            };
            put(directory, bytes, &kind(form))
        })
        .collect();
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
    let manifest = manifest.to_string();
    let mut manifest = put(directory, manifest.as_bytes(), &kind("manifest.v1+json"));
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "x"});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs_err::write(directory.join("index.json"), index.to_string()).unwrap();
}

/// What the kernel shows of the file system that we make of an image.
fn by_us(layout: &Path, name: Option<&str>, first: Option<&Path>, scratch: &Path) -> Listing {
    let store = Store::open(&scratch.join("store")).unwrap();
    if let Some(first) = first {
        import_oci_dir(&store, (first, None), &Ext4, &[]).unwrap();
    }
    let image = import_oci_dir(&store, (layout, name), &Ext4, &["x".parse().unwrap()]).unwrap();
    assert_eq!(image.layers.len(), image.diff_ids().len());
    let image = rootfs(&store);
    let checked = Command::new("e2fsck")
        .arg("-fn")
        .arg(&image)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{said}");
    let mounted = Mounted::new("ext4", &image, "loop,ro", &scratch.join("ours"));
    let mut ours = listing(&mounted.0);
    // Every ext4 has it.
    ours.remove(b"lost+found".as_slice());
    ours
}

fn rootfs(store: &Store) -> PathBuf {
    let directory = fs_err::read_dir(store.path().join("rootfs")).unwrap();
    let mut images: Vec<PathBuf> = directory
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|name| name == "img"))
        .collect();
    assert_eq!(images.len(), 1, "{images:?}");
    images.remove(0)
}

fn by_umoci(image: &str, scratch: &Path) -> Listing {
    let rootfs = scratch.join("umoci");
    let mut umoci = Command::new("umoci");
    umoci.args(["raw", "unpack", "--image", image]).arg(&rootfs);
    let output = umoci.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{image}: {said}");
    listing(&rootfs)
}

/// An image of an OCI image layout, `DIRECTORY:NAME`, as we unpack it and as umoci does.
pub(crate) fn of_layout(image: &str, scratch: &Path) -> (Listing, Listing) {
    let (directory, name) = image.rsplit_once(':').unwrap();
    let ours = by_us(Path::new(directory), Some(name), None, scratch);
    (ours, by_umoci(image, scratch))
}

/// A layout with an image made of what this host has installed: GNU tar's archives of real files.
pub(crate) fn of_this_host(scratch: &Path) -> String {
    let layers: Vec<Vec<u8>> = [
        &["etc/alternatives", "usr/share/doc"][..],
        &["etc", "usr/sbin"],
    ]
    .iter()
    .map(|paths| {
        let mut tar = Command::new("tar");
        tar.args([
            "-c",
            "--format=pax",
            "--xattrs",
            "--xattrs-include=*",
            "-C",
            "/",
        ]);
        // The directories above are listed, too.
        let above = ["--no-recursion", ".", "usr", "usr/share", "--recursion"];
        tar.args(["--sparse", "--numeric-owner"]).args(above);
        let output = tar.args(*paths).output().unwrap();
        assert!(output.status.success());
        output.stdout
    })
    .collect();
    let packed: Vec<Vec<u8>> = layers
        .iter()
        .map(|bytes| compressed(bytes, "gzip"))
        .collect();
    let directory = scratch.join("host");
    layout(&directory, &layers, &packed);
    format!("{}:x", directory.display())
}
