//! Volumes: made once, written by one at a time, read by many, there until they are removed.

use std::io::Write as _;
use std::os::unix::fs::FileExt as _;

use firebuild_core::ByteSize;
use firebuild_store::{Error, Store, VolumeName, VolumeUsage};

use crate::{child_root, ready_and_wait, spawn, store as fresh, wait_ready};

const SIZE: ByteSize = ByteSize::mib(8);

fn name(text: &str) -> VolumeName {
    text.parse().unwrap()
}

/// A file that is as long as a superblock's end, and says nothing.
fn make(mut file: &std::fs::File) -> Result<(), Error> {
    file.write_all(&[0; 4096]).unwrap();
    Ok(())
}

/// Makes a volume, and says in it that it was mounted before.
fn made(store: &Store, text: &str) -> VolumeName {
    let name = name(text);
    assert!(store.volumes().create(&name, SIZE, make).unwrap());
    let volume = store.volumes().open(&name, true).unwrap();
    volume.file.write_all_at(&[1], 1024 + 0x2c).unwrap();
    name
}

#[test]
fn names_are_checked() {
    for good in ["a", "A1", "data.old", "a_b-c", &"x".repeat(63)] {
        assert_eq!(name(good).as_str(), good);
    }
    for bad in [
        "",
        ".",
        "..",
        "-a",
        "_a",
        ".a",
        "a/b",
        "../a",
        "a b",
        "a\0",
        "ä",
        "a:b",
        "a\n",
        &"x".repeat(64),
    ] {
        assert!(bad.parse::<VolumeName>().is_err(), "{bad:?}");
    }
}

#[test]
fn one_is_made_once_and_stays() {
    let (_root, store) = fresh();
    let volumes = store.volumes();
    let data = name("data");
    assert!(matches!(volumes.get(&data), Err(Error::NoVolume(_))));
    assert!(matches!(volumes.open(&data, true), Err(Error::NoVolume(_))));
    assert!(volumes.create(&data, SIZE, make).unwrap());
    let twice = |_: &std::fs::File| -> Result<(), Error> { panic!("it is made twice") };
    assert!(!volumes.create(&data, SIZE, twice).unwrap());
    let entry = volumes.get(&data).unwrap();
    assert_eq!((entry.size, entry.usage), (SIZE, VolumeUsage::Free));
    assert_eq!(volumes.list().unwrap(), [entry]);
    volumes.remove(&data).unwrap();
    assert_eq!(volumes.list().unwrap(), []);
    assert!(matches!(volumes.remove(&data), Err(Error::NoVolume(_))));
    let locks = crate::names(&store.path().join("locks"));
    assert!(!locks.iter().any(|lock| lock.contains("data")), "{locks:?}");
}

#[test]
fn one_that_cannot_be_made_is_not_there() {
    let (_root, store) = fresh();
    let fail =
        |_: &std::fs::File| -> Result<(), Error> { Err(Error::NoVolume(name("for-a-test"))) };
    assert!(store.volumes().create(&name("data"), SIZE, fail).is_err());
    assert_eq!(store.volumes().list().unwrap(), []);
}

#[test]
fn half_a_volume_is_swept_and_a_whole_one_stays() {
    let (_directory, store) = fresh();
    let volumes = store.volumes();
    let whole = made(&store, "whole");
    let half = made(&store, "half");
    fs_err::remove_file(volumes.get(&half).unwrap().path).unwrap();
    volumes.sweep().unwrap();
    let left = crate::names(&store.path().join("volumes"));
    assert_eq!(left, ["whole.img", "whole.json"]);
    let locks = crate::names(&store.path().join("locks"));
    assert!(!locks.iter().any(|name| name.contains("half")), "{locks:?}");
    assert_eq!(volumes.list().unwrap().len(), 1);
    assert!(volumes.create(&half, SIZE, make).unwrap());
    assert_eq!(volumes.get(&whole).unwrap().name, whole);
}

#[test]
fn one_writes_or_many_read() {
    let (_root, store) = fresh();
    let volumes = store.volumes();
    let data = made(&store, "data");
    let usage = || volumes.get(&data).unwrap().usage;
    let refused = |to_write, by_writer| match volumes.open(&data, to_write) {
        Err(Error::VolumeInUse { written, .. }) => assert_eq!(written, by_writer),
        other => panic!("{other:?}"),
    };
    let writer = volumes.open(&data, true).unwrap();
    assert!(writer.writable);
    refused(true, true);
    refused(false, true);
    assert_eq!(usage(), VolumeUsage::Written);
    assert!(matches!(
        volumes.remove(&data),
        Err(Error::VolumeInUse { .. })
    ));
    drop(writer);
    assert_eq!(usage(), VolumeUsage::Free);
    let reader = volumes.open(&data, false).unwrap();
    let other = volumes.open(&data, false).unwrap();
    assert!(!reader.writable && !other.writable);
    assert!((&reader.file).write_all(b"x").is_err());
    assert_eq!(usage(), VolumeUsage::Read);
    refused(true, false);
    assert!(matches!(
        volumes.remove(&data),
        Err(Error::VolumeInUse { .. })
    ));
    drop((reader, other));
    volumes.remove(&data).unwrap();
}

#[test]
fn what_cannot_be_read_as_it_is_is_opened_to_write() {
    let (_root, store) = fresh();
    let volumes = store.volumes();
    let fresh = name("fresh");
    volumes.create(&fresh, SIZE, make).unwrap();
    assert!(volumes.open(&fresh, false).unwrap().writable);
    let crashed = made(&store, "crashed");
    let volume = volumes.open(&crashed, true).unwrap();
    volume.file.write_all_at(&[4], 1024 + 0x60).unwrap();
    drop(volume);
    let reader = volumes.open(&crashed, false).unwrap();
    assert!(reader.writable);
    assert!(volumes.open(&crashed, false).is_err());
}

#[test]
fn a_copy_of_the_file_keeps_the_lock() {
    let (_root, store) = fresh();
    let data = made(&store, "data");
    let volume = store.volumes().open(&data, true).unwrap();
    let copy = volume.file.try_clone().unwrap();
    drop(volume);
    assert!(store.volumes().open(&data, true).is_err());
    drop(copy);
    assert!(store.volumes().open(&data, true).is_ok());
}

#[test]
fn the_death_of_who_has_it_frees_it() {
    if let Some(root) = child_root() {
        let store = Store::open(&root).unwrap();
        let _volume = store.volumes().open(&name("data"), true).unwrap();
        ready_and_wait();
    }
    let (root, store) = fresh();
    let data = made(&store, "data");
    let mut child = spawn("volumes::the_death_of_who_has_it_frees_it", root.path());
    wait_ready(&mut child);
    assert!(store.volumes().open(&data, true).is_err());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(store.volumes().open(&data, true).is_ok());
}
