//! Root file systems and kernels: made once, whole, replaced at once.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

use firebuild_core::Digest;
use firebuild_store::{Error, KernelId, Store};

use crate::{names, store};

#[test]
fn a_root_file_system_is_made_once() {
    let (_directory, store) = store();
    let key = Digest::of(b"layers");
    let made = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let path = store.rootfs(&key, |mut file| {
                    made.fetch_add(1, Ordering::Relaxed);
                    file.write_all(b"image").map_err(|source| Error::Io {
                        doing: "write".to_owned(),
                        source,
                    })
                });
                assert_eq!(fs_err::read(path.unwrap()).unwrap(), b"image");
            });
        }
    });
    assert_eq!(made.into_inner(), 1);
    assert_eq!(store.rootfs_list().unwrap(), [key]);
    assert!(store.rootfs_remove(&key).unwrap());
    assert!(!store.rootfs_remove(&key).unwrap());
    assert!(names(&store.path().join("rootfs")).is_empty());
}

#[test]
fn a_failed_root_file_system_leaves_nothing() {
    let (_directory, store) = store();
    let key = Digest::of(b"layers");
    let failed = store.rootfs(&key, |_| Err(Error::NoBlob(key)));
    assert!(matches!(failed, Err(Error::NoBlob(_))));
    assert!(names(&store.path().join("rootfs")).is_empty());
    assert!(names(&store.path().join("tmp")).is_empty());
    assert!(store.rootfs(&key, |_| Ok::<_, Error>(())).is_ok());
}

fn staged(store: &Store, content: &str) -> firebuild_store::TemporaryDirectory {
    let staged = store.temporary_directory().unwrap();
    fs_err::create_dir(staged.path().join("modules")).unwrap();
    fs_err::write(staged.path().join("modules/x.ko"), content).unwrap();
    staged
}

#[test]
fn kernels_appear_whole_and_are_replaced_only_if_asked() {
    let (_directory, store) = store();
    let id: KernelId = "debian:bookworm".parse().unwrap();
    let kernels = store.kernels();
    assert!(matches!(kernels.get(&id), Err(Error::NoKernel(_))));
    let path = kernels.put(&id, staged(&store, "old"), false).unwrap();
    let module = path.join("modules/x.ko");
    let again = kernels.put(&id, staged(&store, "new"), false);
    assert!(matches!(again, Err(Error::KernelExists(_))));
    assert_eq!(fs_err::read(&module).unwrap(), b"old");
    kernels.put(&id, staged(&store, "new"), true).unwrap();
    assert_eq!(fs_err::read(&module).unwrap(), b"new");
    assert_eq!(kernels.list().unwrap(), std::slice::from_ref(&id));
    assert!(names(&store.path().join("tmp")).is_empty());
    kernels.remove(&id).unwrap();
    assert!(matches!(kernels.remove(&id), Err(Error::NoKernel(_))));
    assert!(kernels.list().unwrap().is_empty());
    assert!(names(&store.path().join("tmp")).is_empty());
}

#[test]
fn kernel_ids_stay_in_their_directory() {
    for text in [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "-a",
        "a b",
        "ä",
        &"a".repeat(129),
    ] {
        assert!(text.parse::<KernelId>().is_err(), "{text}");
    }
    for text in ["6.1.0-28-cloud-amd64", "debian:trixie", "v1_x~rc+2"] {
        assert!(text.parse::<KernelId>().is_ok(), "{text}");
    }
}

#[test]
fn a_newer_store_is_refused_and_others_are_not_touched() {
    let directory = tempfile::tempdir().unwrap();
    fs_err::create_dir(directory.path().join("v2")).unwrap();
    let error = Store::open(directory.path()).unwrap_err();
    assert!(matches!(error, Error::Format { found: 2, .. }), "{error}");
    assert!(error.hint().is_some());
    assert_eq!(names(directory.path()), ["v2"]);
}

#[test]
fn opening_at_once_makes_one_store() {
    let directory = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                let store = Store::open(&directory.path().join("deep/root")).unwrap();
                assert!(store.tags().list().unwrap().is_empty());
            });
        }
    });
}

#[test]
fn nobody_else_looks_into_the_store() {
    use std::os::unix::fs::PermissionsExt;
    let (directory, store) = store();
    let lease = store.lease().unwrap();
    let blob = lease.put(b"secret").unwrap();
    let image = store.rootfs(&blob.digest, |_| Ok::<_, Error>(())).unwrap();
    let mode = |path: &std::path::Path| {
        let metadata = fs_err::metadata(path).unwrap();
        metadata.permissions().mode() & 0o777
    };
    for name in names(store.path()) {
        assert_eq!(mode(&store.path().join(&name)) & 0o077, 0, "{name}");
    }
    assert_eq!(mode(&store.blob_path(&blob.digest)), 0o600);
    assert_eq!(mode(&image), 0o600);
    assert_eq!(mode(&directory.path().join("v1")), 0o700);
}

#[test]
fn a_place_that_cannot_be_is_an_error_with_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs_err::write(&file, b"x").unwrap();
    let error = Store::open(&file.join("store")).unwrap_err();
    assert!(error.to_string().contains("file/store"), "{error}");
}
