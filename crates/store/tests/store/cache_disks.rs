//! Cache disks: made once, owned by one at a time, there until they are removed.

use std::io::Write as _;

use firebuild_store::{Error, Store};

use crate::store as fresh;

fn make(mut file: &std::fs::File) -> Result<(), Error> {
    file.write_all(b"made").unwrap();
    Ok(())
}

fn not_again(_: &std::fs::File) -> Result<(), Error> {
    panic!("it is made twice");
}

fn take(store: &Store, number: u32) -> Option<firebuild_store::CacheDisk> {
    store
        .cache_disks()
        .try_take("/any id", number, make)
        .unwrap()
}

#[test]
fn a_disk_is_made_once_and_stays() {
    let (_root, store) = fresh();
    let disk = take(&store, 0).unwrap();
    disk.open().unwrap().write_all(b"more").unwrap();
    drop(disk);
    let disks = store.cache_disks();
    let again = disks.try_take("/any id", 0, not_again).unwrap().unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut again.open().unwrap(), &mut text).unwrap();
    assert_eq!(text, "more");
}

#[test]
fn one_that_is_in_use_is_nobody_elses() {
    let (_root, store) = fresh();
    let disk = take(&store, 0).unwrap();
    assert!(take(&store, 0).is_none());
    assert!(take(&store, 1).is_some());
    let disks = store.cache_disks();
    assert!(!disks.remove("/any id", 0).unwrap());
    let listed: Vec<_> = disks.list().unwrap();
    let seen: Vec<_> = listed
        .iter()
        .map(|entry| (entry.number, entry.in_use))
        .collect();
    assert_eq!(seen, [(0, true), (1, false)]);
    drop(disk);
    assert!(disks.remove("/any id", 0).unwrap());
    assert_eq!(disks.list().unwrap().len(), 1);
    assert!(take(&store, 0).is_some());
}

#[test]
fn one_that_cannot_be_made_is_not_there() {
    let (_root, store) = fresh();
    let disks = store.cache_disks();
    let missing = Error::NoBlob(firebuild_core::Digest::of(b""));
    let failed = disks.try_take("x", 0, |_| Err(missing));
    assert!(matches!(failed, Err(Error::NoBlob(_))));
    assert_eq!(disks.list().unwrap(), []);
    disks.try_take("x", 0, make).unwrap().unwrap();
}

#[test]
fn disks_are_pruned_unless_they_are_in_use() {
    let (_root, store) = fresh();
    let used = take(&store, 0).unwrap();
    drop(take(&store, 1).unwrap());
    let pruned = store
        .prune_cache(firebuild_store::PrunePolicy::default())
        .unwrap();
    assert_eq!(pruned.records, 1);
    let left: Vec<u32> = store
        .cache_disks()
        .list()
        .unwrap()
        .iter()
        .map(|disk| disk.number)
        .collect();
    assert_eq!(left, [0]);
    drop(used);
    store
        .prune_cache(firebuild_store::PrunePolicy::default())
        .unwrap();
    assert_eq!(store.cache_disks().list().unwrap(), []);
}

#[test]
fn a_vmm_that_outlives_its_owner_keeps_the_disk() {
    let (_root, store) = fresh();
    let disk = take(&store, 0).unwrap();
    let of_the_vmm = disk.open().unwrap();
    assert!(disk.open().is_err());
    drop(disk);
    assert!(take(&store, 0).is_none());
    drop(of_the_vmm);
    assert!(take(&store, 0).is_some());
}
