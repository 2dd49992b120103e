//! Blobs appear whole or not at all, and stay while somebody needs them.

use std::io::{Read, Write};
use std::os::unix::fs::FileExt;

use firebuild_core::Digest;
use firebuild_store::{CacheRecord, Collected, DownloadRecord, Error, Store};

use crate::{child_root, image, names, ready_and_wait, reference, spawn, store, wait_ready};

#[test]
fn a_blob_is_found_by_its_digest() {
    let (_directory, store) = store();
    let lease = store.lease().unwrap();
    let mut writer = lease.blob_writer().unwrap();
    writer.write_all(b"some ").unwrap();
    writer.write_all(b"bytes").unwrap();
    let digest = Digest::of(b"some bytes");
    assert!(!store.has_blob(&digest).unwrap());
    let blob = writer.commit(Some(&digest)).unwrap();
    assert_eq!((blob.digest, blob.size), (digest, 10));
    let mut text = String::new();
    store
        .blob(&digest)
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "some bytes");
    assert!(names(&store.path().join("tmp")).is_empty());
    assert!(matches!(
        store.blob(&Digest::of(b"")),
        Err(Error::NoBlob(_))
    ));
}

#[test]
fn a_wrong_or_dropped_blob_leaves_nothing() {
    let (_directory, store) = store();
    let lease = store.lease().unwrap();
    let mut writer = lease.blob_writer().unwrap();
    writer.write_all(b"wrong").unwrap();
    let error = writer.commit(Some(&Digest::of(b"right"))).unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }));
    let mut writer = lease.blob_writer().unwrap();
    writer.write_all(b"dropped").unwrap();
    drop(writer);
    let mut writer = lease.blob_writer().unwrap();
    writer.write_all(b"staged").unwrap();
    let staged = writer.finish().unwrap();
    let mut bytes = [0; 3];
    staged.file().read_exact_at(&mut bytes, 3).unwrap();
    assert_eq!(&bytes, b"ged");
    drop(staged);
    assert!(names(&store.path().join("tmp")).is_empty());
    assert!(names(&store.path().join("images/blobs/sha256")).is_empty());
}

#[test]
fn what_nothing_refers_to_is_collected() {
    let (_directory, store) = store();
    let lease = store.lease().unwrap();
    let kept = image(&lease, b"kept");
    let lost = image(&lease, b"lost");
    let cached = lease.put(b"cached").unwrap();
    let name = reference("lost");
    store.tags().set(&reference("kept"), kept.clone()).unwrap();
    store.tags().set(&name, lost.clone()).unwrap();
    let record = CacheRecord {
        layer: cached.digest,
        size: cached.size,
        created: 1,
        duration_ms: None,
        description: String::new(),
    };
    let key = Digest::of(b"key");
    store.cache().put(&key, &record).unwrap();
    assert_eq!(store.collect().unwrap(), Collected::Busy);
    drop(lease);
    let none = Collected::Freed { blobs: 0, bytes: 0 };
    assert_eq!(store.collect().unwrap(), none);

    store.tags().remove(&name).unwrap();
    // The manifest and the layer; the configuration is the other image's too.
    let bytes = lost.size + 4;
    let two = Collected::Freed { blobs: 2, bytes };
    assert_eq!(store.collect().unwrap(), two);
    assert!(store.has_blob(&kept.digest).unwrap());
    assert!(store.has_blob(&Digest::of(b"kept")).unwrap());
    assert_eq!(store.cache().get(&key).unwrap(), Some(record));

    assert!(store.cache().remove(&key).unwrap());
    let one = Collected::Freed { blobs: 1, bytes: 6 };
    assert_eq!(store.collect().unwrap(), one);
    assert_eq!(store.cache().get(&key).unwrap(), None);
}

#[test]
fn a_damaged_manifest_keeps_everything() {
    let (_directory, store) = store();
    let lease = store.lease().unwrap();
    let manifest = image(&lease, b"layer");
    store.tags().set(&reference("a"), manifest.clone()).unwrap();
    drop(lease);
    fs_err::write(store.blob_path(&manifest.digest), b"{").unwrap();
    assert!(matches!(store.collect(), Err(Error::Damaged { .. })));
    assert!(store.has_blob(&Digest::of(b"layer")).unwrap());
}

#[test]
fn a_cache_record_without_its_layer_is_none() {
    let (_directory, store) = store();
    let record = CacheRecord {
        layer: Digest::of(b"absent"),
        size: 6,
        created: 1,
        duration_ms: None,
        description: "RUN true".to_owned(),
    };
    let key = Digest::of(b"key");
    assert!(matches!(
        store.cache().put(&key, &record),
        Err(Error::NoBlob(_))
    ));
    let lease = store.lease().unwrap();
    lease.put(b"absent").unwrap();
    store.cache().put(&key, &record).unwrap();
    assert_eq!(store.cache().get(&key).unwrap(), Some(record));
    assert_eq!(store.cache().list().unwrap().len(), 1);
    fs_err::remove_file(store.blob_path(&Digest::of(b"absent"))).unwrap();
    assert_eq!(store.cache().get(&key).unwrap(), None);
}

#[test]
fn a_killed_writer_leaves_nothing() {
    if let Some(root) = child_root() {
        let store = Store::open(&root).unwrap();
        let lease = store.lease().unwrap();
        let mut writer = lease.blob_writer().unwrap();
        writer.write_all(&vec![7; 1 << 20]).unwrap();
        let staged = store.temporary_directory().unwrap();
        fs_err::write(staged.path().join("file"), b"x").unwrap();
        ready_and_wait();
    }
    let (directory, store) = store();
    let mut child = spawn("blobs::a_killed_writer_leaves_nothing", directory.path());
    wait_ready(&mut child);
    let temporary = store.path().join("tmp");
    // What a living process makes is left alone, and so are its blobs.
    Store::open(directory.path()).unwrap();
    assert_eq!(names(&temporary).len(), 2);
    assert_eq!(store.collect().unwrap(), Collected::Busy);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(names(&temporary).len(), 2);
    Store::open(directory.path()).unwrap();
    assert!(names(&temporary).is_empty());
    let none = Collected::Freed { blobs: 0, bytes: 0 };
    assert_eq!(store.collect().unwrap(), none);
}

#[test]
fn a_blob_that_lost_its_end_is_written_anew() {
    let (_directory, store) = store();
    let lease = store.lease().unwrap();
    let blob = lease.put(b"whole").unwrap();
    let path = store.blob_path(&blob.digest);
    for again in [true, false] {
        fs_err::write(&path, b"wh").unwrap();
        if again {
            lease.put(b"whole").unwrap();
        } else {
            let mut writer = lease.blob_writer().unwrap();
            writer.write_all(b"whole").unwrap();
            writer.commit(None).unwrap();
        }
        assert_eq!(fs_err::read(&path).unwrap(), b"whole");
    }
}

#[test]
fn a_download_keeps_its_content_until_it_is_forgotten() {
    let (_directory, store) = store();
    let key = Digest::of(b"http://localhost/file");
    let mut record = DownloadRecord {
        content: Digest::of(b"text"),
        size: 4,
        address: "http://localhost/file".to_owned(),
        fetched: 1,
        etag: Some("\"one\"".to_owned()),
        last_modified: None,
    };
    let downloads = store.downloads();
    assert!(matches!(
        downloads.put(&key, &record),
        Err(Error::NoBlob(_))
    ));
    let lease = store.lease().unwrap();
    record.content = lease.put(b"text").unwrap().digest;
    downloads.put(&key, &record).unwrap();
    drop(lease);
    store.collect().unwrap();
    assert_eq!(downloads.get(&key).unwrap(), Some(record.clone()));
    assert_eq!(downloads.list().unwrap()[0].record, record);
    let path = store.path().join("downloads");
    let path = path.join(format!("{}.json", key.hex()));
    fs_err::write(&path, "{").unwrap();
    assert_eq!(downloads.get(&key).unwrap(), None);
    downloads.put(&key, &record).unwrap();
    assert!(downloads.remove(&key).unwrap());
    assert!(!downloads.remove(&key).unwrap());
    store.collect().unwrap();
    assert!(!store.has_blob(&record.content).unwrap());
}
