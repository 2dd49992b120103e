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

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use firebuild_builder::{care, rootfs};
use firebuild_core::{Digest, ImageConfig, Platform};
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
}

impl Tried {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        Self { directory, store }
    }

    /// Writes an image and returns its layers.
    fn image(&self, name: &str, layers: &[Vec<u8>]) -> Vec<Digest> {
        let lease = self.store.lease().unwrap();
        let limits = ImportLimits::default();
        let import = |layer: &Vec<u8>| {
            let (staged, _) = import_layer(&lease, layer.as_slice(), "layer", &limits).unwrap();
            staged.commit().unwrap()
        };
        let blobs: Vec<_> = layers.iter().map(import).collect();
        let config = ImageConfig::scratch(Platform::host());
        let image = write_image(&lease, config, &[], &blobs, &[name.parse().unwrap()]);
        image.unwrap().diff_ids().to_vec()
    }

    /// Holds what is mounted of an image against the tree of its layers. Returns the images of its root
    /// file system.
    fn judge(&self, name: &str, diff_ids: &[Digest]) -> Vec<PathBuf> {
        let (tree, sources) = image_tree(&self.store, diff_ids).unwrap();
        let expected = listing::of_tree(&tree, &sources, true);
        let made = rootfs::of_image(&self.store, &name.parse().unwrap()).unwrap();
        let path = |key| self.store.rootfs_path(key);
        let images: Vec<PathBuf> = made.images.iter().map(path).collect();
        let scratch = tempfile::tempdir_in(self.directory.path()).unwrap();
        let mut mounted = Mounted::default();
        let at = mounted.of(&images, scratch.path());
        let seen = listing::of_directory(&at, true);
        let difference = listing::difference(&seen, &expected);
        assert!(difference.is_empty(), "{name}:\n{difference}");
        images
    }

    /// Judges the image of the lowest `count` layers.
    fn judge_lowest(&self, layers: &[Vec<u8>], count: usize) -> Vec<PathBuf> {
        let name = format!("layers:{count}");
        let diff_ids = self.image(&name, &layers[..count]);
        self.judge(&name, &diff_ids)
    }
}

#[test]
fn every_case_of_the_merge_is_seen_over_the_layers_below() {
    for case in merge::CASES {
        let layers = case.layers.iter().map(|lines| notation::layer(lines));
        let layers: Vec<_> = layers.collect();
        let tried = Tried::new();
        for count in 1..=layers.len() {
            let images = tried.judge_lowest(&layers, count);
            assert_eq!(images.len(), count.min(4), "{}", case.what);
        }
    }
}

#[test]
fn a_link_to_a_file_below_takes_all_its_names_along() {
    let tried = Tried::new();
    let layers = [
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
    ];
    for count in 1..=3 {
        assert_eq!(tried.judge_lowest(&layers, count).len(), count);
    }
}

#[test]
fn what_lies_deep_is_made_flat_in_part() {
    let layers = (0..9).map(|number| notation::layer(&[&format!("f {number} text"), "w 3"]));
    let layers: Vec<_> = layers.collect();
    let tried = Tried::new();
    for count in 1..=9 {
        assert_eq!(tried.judge_lowest(&layers, count).len(), count.min(4));
    }
}

#[test]
fn an_image_lies_on_another_with_the_same_base() {
    let text = "text ".repeat(100_000);
    let base = [
        notation::layer(&[
            "d d",
            &format!("f d/large {text}"),
            "f d/old 1",
            "h link d/large",
        ]),
        notation::layer(&["f d/more 2", "d e", "f e/kept 3"]),
    ];
    let with = |upper: &[&str]| [&base[..], &[notation::layer(upper)]].concat();
    let tried = Tried::new();
    let one = with(&["w d/old", "d new", "f new/of-one 4", "w e", "h third link"]);
    let other = with(&["f d/old changed", "d new 700", "f new/of-other 5"]);
    let large = with(&[&format!("f very-large {}", text.repeat(3))]);
    let layers = tried.image("large:1", &large);
    let first = tried.judge("large:1", &layers);
    let layers = tried.image("one:1", &one);
    // Most of the first is not common, so it is not kept for the second's sake.
    let second = tried.judge("one:1", &layers);
    assert_eq!((first.len(), second.len()), (1, 1));
    let layers = tried.image("other:1", &other);
    let third = tried.judge("other:1", &layers);
    assert_eq!((third.len(), &third[0]), (2, &second[0]));
    // Of the base, what the image below has not is all that is copied.
    let taken = fs_err::metadata(&third[1]).unwrap().blocks() * 512;
    assert!(taken < 256 << 10, "{taken}");
    // What lies below stays for as long as anything lies on it.
    let remove = |name: &str| {
        tried.store.tags().remove(&name.parse().unwrap()).unwrap();
        care::unneeded(&tried.store).unwrap().unwrap();
    };
    remove("one:1");
    remove("large:1");
    assert!(!first[0].exists() && tried.judge("other:1", &layers) == third);
    remove("other:1");
    let left = fs_err::read_dir(tried.directory.path().join("store/v1/rootfs"));
    assert_eq!(left.unwrap().count(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn random_layers_are_seen_over_those_below(layers in model::layers(), at_once in any::<bool>()) {
        let archives: Vec<_> = layers.iter().map(|layer| model::archive(layer, false)).collect();
        let tried = Tried::new();
        let all = archives.len();
        for count in 1..=all {
            if !at_once || count == 1 || count == all {
                tried.judge_lowest(&archives, count);
            }
        }
    }

    #[test]
    fn random_layers_are_seen_over_others_on_their_base(
        layers in model::layers(),
        others in model::layers(),
        common in 0_usize..4,
    ) {
        let archive = |layer| model::archive(layer, false);
        let base = layers.iter().take(common).map(archive);
        let one: Vec<_> = base.clone().chain(layers.iter().skip(common).map(archive)).collect();
        let other: Vec<_> = base.chain(others.iter().map(archive)).collect();
        let tried = Tried::new();
        for (name, layers) in [("one:1", &one), ("other:1", &other)] {
            let diff_ids = tried.image(name, layers);
            tried.judge(name, &diff_ids);
        }
    }
}
