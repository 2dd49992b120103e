//! Root file systems of several images, with Linux's overlay file system and `e2fsck` as judges.
//! Needs root.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    dead_code,
    reason = "a test fails by panicking, and what it shares with other crates' has more than it needs"
)]

#[path = "../../../oci/tests/oci/listing.rs"]
mod listing;
#[path = "../../../oci/tests/oci/merge.rs"]
mod merge;
#[path = "../../../oci/tests/oci/model.rs"]
mod model;
#[path = "../../../oci/tests/oci/notation.rs"]
mod notation;

use std::path::{Path, PathBuf};
use std::process::Command;

use firebuild_builder::rootfs;
use firebuild_core::{Digest, ImageConfig, Platform, Reference};
use firebuild_oci::{ImportLimits, image_tree, import_layer, write_image};
use firebuild_store::Store;
use proptest::prelude::*;

fn run(command: &mut Command) {
    let output = command.output().expect("the judge is installed");
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&said)
    );
}

/// File systems that are mounted, unmounted in the opposite order.
#[derive(Default)]
struct Mounted(Vec<PathBuf>);

impl Mounted {
    /// Mounts images over each other as a guest does, and returns where.
    fn of(&mut self, images: &[PathBuf], scratch: &Path) -> PathBuf {
        let mut lowers: Vec<String> = Vec::new();
        for (number, image) in images.iter().enumerate() {
            run(Command::new("e2fsck").args(["-f", "-n"]).arg(image));
            let at = scratch.join(number.to_string());
            fs_err::create_dir(&at).unwrap();
            run(Command::new("mount")
                .args(["-t", "ext4", "-o", "ro,loop"])
                .args([image, &at]));
            lowers.insert(0, at.to_str().unwrap().to_owned());
            self.0.push(at);
        }
        if images.len() == 1 {
            return self.0[0].clone();
        }
        let at = scratch.join("all");
        fs_err::create_dir(&at).unwrap();
        let options = format!(
            "lowerdir={},index=off,metacopy=off,redirect_dir=off",
            lowers.join(":")
        );
        run(Command::new("mount")
            .args(["-t", "overlay", "overlay", "-o", &options])
            .arg(&at));
        self.0.push(at.clone());
        at
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        for at in self.0.iter().rev() {
            // Lazily: a child that another test has just forked may still have a file of it open.
            run(Command::new("umount").arg("--lazy").arg(at));
        }
    }
}

struct Tried {
    directory: tempfile::TempDir,
    store: Store,
    diff_ids: Vec<Digest>,
}

impl Tried {
    fn new(layers: &[Vec<u8>]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let lease = store.lease().unwrap();
        let limits = ImportLimits::default();
        let mut blobs = Vec::new();
        for (number, layer) in layers.iter().enumerate() {
            let (staged, _) = import_layer(&lease, layer.as_slice(), "layer", &limits).unwrap();
            blobs.push(staged.commit().unwrap());
            let config = ImageConfig::scratch(Platform::host());
            let name = Self::name(number + 1);
            write_image(&lease, config, &[], &blobs, &[name]).unwrap();
        }
        Self {
            directory,
            store,
            diff_ids: blobs.iter().map(|blob| blob.digest).collect(),
        }
    }

    /// The name of the image of the lowest `count` layers.
    fn name(count: usize) -> Reference {
        format!("layers:{count}").parse().unwrap()
    }

    /// The images of the root file system of the lowest `count` layers.
    fn images(&self, count: usize) -> Vec<PathBuf> {
        let made = rootfs::of_image(&self.store, &Self::name(count)).unwrap();
        let path = |key| self.store.rootfs_path(key);
        made.images.iter().map(path).collect()
    }

    /// Holds what is mounted against the tree of the layers. Returns how many images there are.
    fn judge(&self, count: usize) -> usize {
        let (tree, sources) = image_tree(&self.store, &self.diff_ids[..count]).unwrap();
        let expected = listing::of_tree(&tree, &sources, true);
        let images = self.images(count);
        let scratch = tempfile::tempdir_in(self.directory.path()).unwrap();
        let mut mounted = Mounted::default();
        let at = mounted.of(&images, scratch.path());
        let seen = listing::of_directory(&at, true);
        let difference = listing::difference(&seen, &expected);
        assert!(difference.is_empty(), "{count} layers:\n{difference}");
        images.len()
    }
}

#[test]
fn every_case_of_the_merge_is_seen_over_the_layers_below() {
    for case in merge::CASES {
        let layers = case.layers.iter().map(|lines| notation::layer(lines));
        let tried = Tried::new(&layers.collect::<Vec<_>>());
        for count in 1..=tried.diff_ids.len() {
            assert_eq!(tried.judge(count), count.min(4), "{}", case.what);
        }
    }
}

#[test]
fn a_link_to_a_file_below_takes_all_its_names_along() {
    let tried = Tried::new(&[
        notation::layer(&[
            "f a text",
            "h b a",
            "d d",
            "h d/c a",
            "f other 1",
            "h more other",
        ]),
        notation::layer(&["h d/new b"]),
        notation::layer(&["w b", "f other 2"]),
    ]);
    for count in 1..=3 {
        assert_eq!(tried.judge(count), count);
    }
}

#[test]
fn what_lies_deep_is_made_flat_in_part() {
    let layers = (0..9).map(|number| notation::layer(&[&format!("f {number} text"), "w 3"]));
    let tried = Tried::new(&layers.collect::<Vec<_>>());
    for count in 1..=9 {
        assert_eq!(tried.judge(count), count.min(4));
    }
    // What a layer adds is all that is written.
    let added = fs_err::metadata(tried.images(2).pop().unwrap()).unwrap();
    assert!(added.len() <= 1 << 20, "{}", added.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn random_layers_are_seen_over_those_below(layers in model::layers(), at_once in any::<bool>()) {
        let archives: Vec<_> = layers.iter().map(|layer| model::archive(layer, false)).collect();
        let tried = Tried::new(&archives);
        let all = archives.len();
        for count in 1..=all {
            if !at_once || count == 1 || count == all {
                tried.judge(count);
            }
        }
    }
}
