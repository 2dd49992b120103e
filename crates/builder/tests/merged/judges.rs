//! Images made of layers, unpacked by us and by umoci.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use firebuild_builder::rootfs::{self, Ext4};
use firebuild_core::{Digest, Reference};
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
        let [ours, theirs] = ["packed", "theirs"].map(|name| scratch.join(name));
        layout(&ours, &plain, &packed);
        let before = before(number, &plain, scratch);
        // umoci knows neither zstd nor bzip2 nor xz, nor the oldest form of sparse files.
        let plain: Vec<Vec<u8>> = layers.iter().map(|layer| archive(layer, false)).collect();
        layout(&theirs, &plain, &plain);
        Self {
            ours: by_us(&ours, None, &before, scratch),
            umoci: by_umoci(&format!("{}:x", theirs.display()), scratch),
        }
    }
}

/// The images that come to the store first: none, one with the same layers in another form, or one with
/// the lowest layer, one with the lowest two, and so on, so that the last lies on all the others.
fn before(number: u64, plain: &[Vec<u8>], scratch: &Path) -> Vec<PathBuf> {
    let counts = match number % 3 {
        0 => 0..0,
        1 => plain.len()..plain.len() + 1,
        _ => 1..plain.len(),
    };
    counts
        .map(|count| {
            let path = scratch.join(format!("before-{count}"));
            layout(&path, &plain[..count], &plain[..count]);
            path
        })
        .collect()
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

/// What the kernel shows of the file system that we make of an image, after others came.
fn by_us(layout: &Path, name: Option<&str>, before: &[PathBuf], scratch: &Path) -> Listing {
    let store = Store::open(&scratch.join("store")).unwrap();
    for layout in before {
        import_oci_dir(&store, (layout, None), &Ext4, &["before".parse().unwrap()]).unwrap();
    }
    let tag: Reference = "x".parse().unwrap();
    import_oci_dir(&store, (layout, name), &Ext4, std::slice::from_ref(&tag)).unwrap();
    let images = rootfs::of_image(&store, &tag).unwrap().images;
    let paths: Vec<PathBuf> = images.iter().map(|key| store.rootfs_path(key)).collect();
    let mounts: Vec<Mounted> = (0..)
        .zip(&paths)
        .map(|(n, path)| mounted(n, path, scratch))
        .collect();
    let lower: Vec<String> = mounts
        .iter()
        .rev()
        .map(|mount| mount.0.to_str().unwrap().to_owned())
        .collect();
    let mut ours = if let [only] = mounts.as_slice() {
        listing(&only.0)
    } else {
        let (at, options) = (
            scratch.join("ours"),
            format!("lowerdir={}", lower.join(":")),
        );
        listing(&Mounted::new("overlay", Path::new("overlay"), &options, &at).0)
    };
    // Every ext4 has it.
    ours.remove(b"lost+found".as_slice());
    ours
}

fn mounted(number: usize, image: &Path, scratch: &Path) -> Mounted {
    let mut check = Command::new("e2fsck");
    let checked = check.arg("-fn").arg(image).output().unwrap();
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{said}");
    Mounted::new(
        "ext4",
        image,
        "loop,ro",
        &scratch.join(format!("image-{number}")),
    )
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
    let ours = by_us(Path::new(directory), Some(name), &[], scratch);
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
