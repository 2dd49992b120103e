//! A file system without space: a plain error, nothing half-made, and room can be made.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use firebuild_core::Digest;
use firebuild_store::{Error, Store};

use crate::{image, names, reference};

/// A small file system in memory, unmounted when it is dropped.
struct Small {
    directory: tempfile::TempDir,
}

impl Small {
    fn new(size: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(directory.path())
            .status()
            .unwrap();
        assert!(status.success());
        Self { directory }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: a child that another test has just forked may still have a file of it open.
        let status = Command::new("umount")
            .arg("--lazy")
            .arg(self.directory.path())
            .status();
        assert!(status.unwrap().success());
    }
}

fn every_file(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs_err::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            every_file(&path, found);
        } else {
            found.push(path);
        }
    }
}

fn is_no_space(error: &Error) {
    assert!(matches!(error, Error::NoSpace { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("no space left"), "{text}");
    assert!(text.contains("free)"), "{text}");
    assert!(error.hint().unwrap().contains("image rm"));
}

#[test]
fn no_space_is_a_plain_error_that_leaves_nothing() {
    let small = Small::new("1m");
    let store = Store::open(small.path()).unwrap();
    let lease = store.lease().unwrap();
    let name = reference("a");
    store
        .tags()
        .set(&name, image(&lease, &vec![1; 300 << 10]))
        .unwrap();
    let mut before = Vec::new();
    every_file(small.path(), &mut before);

    let mut writer = lease.blob_writer().unwrap();
    let written = writer.write_all(&vec![2; 1 << 20]);
    let error = written.map_err(|error| error.downcast::<Error>().unwrap());
    is_no_space(&error.unwrap_err());
    drop(writer);

    let error = store.rootfs(&Digest::of(b"key"), |mut file| {
        file.write_all(&vec![3; 1 << 20]).map_err(|source| {
            assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
            Error::NoBlob(Digest::of(b"key"))
        })
    });
    assert!(error.is_err());
    let mut after = Vec::new();
    every_file(small.path(), &mut after);
    after.retain(|path| !path.parent().unwrap().ends_with("locks"));
    before.retain(|path| !path.parent().unwrap().ends_with("locks"));
    assert_eq!(before, after);

    // Full to the last byte: names can still be taken away, and that makes room.
    let filler = small.path().join("filler");
    let mut file = fs_err::File::create(&filler).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    is_no_space(&lease.put(b"more").unwrap_err());
    assert!(names(&store.path().join("tmp")).is_empty());
    assert_eq!(store.tags().list().unwrap().len(), 1);
    drop(lease);
    store.tags().remove(&name).unwrap();
    store.collect().unwrap();
    let lease = store.lease().unwrap();
    assert!(lease.put(&vec![4; 300 << 10]).is_ok());
}
