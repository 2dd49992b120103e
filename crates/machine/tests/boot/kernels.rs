//! Kernels as they come: in images and in packages.

use std::path::Path;
use std::process::Command;

use firebuild_machine::boot::{Kernel, Needs, agent, initramfs, kernel};

use crate::vm::fetched;

/// A package with `kernel`, as distributions make them.
fn package(kernel: &Path, release: &str, at: &Path) {
    let tree = at.with_extension("tree");
    for directory in ["DEBIAN", "boot", "lib/modules"] {
        fs_err::create_dir_all(tree.join(directory)).unwrap();
    }
    let control = "Package: x\nVersion: 1\nArchitecture: amd64\nMaintainer: x <x@example.com>\nDescription: x\n";
    fs_err::write(tree.join("DEBIAN/control"), control).unwrap();
    for (from, to) in [("original", "vmlinuz"), ("config", "config")] {
        fs_err::copy(kernel.join(from), tree.join(format!("boot/{to}-{release}"))).unwrap();
    }
    let modules = tree.join("lib/modules").join(release);
    let copied = Command::new("cp")
        .arg("-r")
        .args([&kernel.join("modules"), &modules])
        .status();
    assert!(copied.unwrap().success());
    let built = Command::new("dpkg-deb")
        .args(["-Znone", "-b"])
        .args([&tree, at])
        .output()
        .unwrap();
    assert!(built.status.success(), "{built:?}");
}

#[test]
fn a_package_is_imported_as_it_is_pulled() {
    let directory = fetched("bookworm");
    let pulled = Kernel::open(&directory).unwrap();
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (file, into) = (
        scratch.path().join("kernel.deb"),
        scratch.path().join("into"),
    );
    package(&directory, &pulled.facts().release, &file);
    fs_err::create_dir(&into).unwrap();
    let facts = kernel::import(&file, &into).unwrap();
    assert_eq!(&facts, pulled.facts());
    let imported = Kernel::open(&into).unwrap();
    assert_eq!(
        fs_err::read(imported.vmlinux()).unwrap(),
        fs_err::read(pulled.vmlinux()).unwrap()
    );
    assert!(
        initramfs(&imported, agent(), Needs::default()).unwrap()
            == initramfs(&pulled, agent(), Needs::default()).unwrap()
    );
    let mut left: Vec<_> = fs_err::read_dir(&into)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(
        left,
        ["config", "kernel.json", "modules", "original", "vmlinux"]
    );
}

#[test]
fn images_of_both_suites_are_unpacked() {
    for suite in ["bookworm", "trixie"] {
        let directory = fetched(suite);
        let pulled = Kernel::open(&directory).unwrap();
        for image in ["original", "vmlinux"] {
            let into = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            let facts = kernel::import(&directory.join(image), into.path()).unwrap();
            assert_eq!(facts.release, pulled.facts().release);
            assert!(!facts.config && facts.modules.is_empty());
        }
        // A kernel that is cut off is none.
        let into = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let bytes = fs_err::read(directory.join("original")).unwrap();
        let cut = into.path().join("cut");
        fs_err::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
        assert!(kernel::import(&cut, into.path()).is_err());
    }
}
