//! The merge against the kernel's overlay file system.

use std::path::Path;
use std::process::Command;

use proptest::prelude::*;

use crate::model::{Layer, archive, extract, layers};
use crate::{listing, notation};

/// An overlay of directories, unmounted when it is dropped.
struct Overlay<'a>(&'a Path);

impl<'a> Overlay<'a> {
    /// `layers` lowest first.
    fn mount(layers: &[String], at: &'a Path) -> Self {
        let top_first: Vec<&str> = layers.iter().rev().map(String::as_str).collect();
        let status = Command::new("mount")
            .args(["-t", "overlay", "overlay", "-o"])
            .arg(format!("lowerdir={}", top_first.join(":")))
            .arg(at)
            .status()
            .unwrap();
        assert!(status.success());
        Self(at)
    }
}

impl Drop for Overlay<'_> {
    fn drop(&mut self) {
        // Lazily: a child that another test has just forked may still have a file of it open.
        let status = Command::new("umount").arg("--lazy").arg(self.0).status();
        assert!(status.unwrap().success());
    }
}

fn as_the_kernel_sees_it(layers: &[Layer], markers_last: bool) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let paths: Vec<String> = layers
        .iter()
        .enumerate()
        .map(|(number, layer)| {
            let path = directory.path().join(number.to_string());
            extract(layer, markers_last, &path);
            path.to_str().unwrap().to_owned()
        })
        .collect();
    let at = directory.path().join("merged");
    fs_err::create_dir(&at).unwrap();
    let _mounted = Overlay::mount(&paths, &at);
    listing::of_directory(&at, true)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_merge_is_the_kernels(layers in layers(), markers_last in any::<bool>()) {
        let archives: Vec<_> = layers.iter().map(|l| archive(l, markers_last)).collect();
        let (tree, sources) = notation::merged(&archives).unwrap();
        let ours = listing::of_tree(&tree, &sources, true);
        let expected = as_the_kernel_sees_it(&layers, markers_last);
        prop_assert_eq!(listing::difference(&ours, &expected), "");
    }
}
