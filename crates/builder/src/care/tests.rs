use firebuild_core::{Digest, ImageConfig, MachineId, Platform, Reference};
use firebuild_oci::write_image;
use firebuild_store::{Category, Identity, Store};

use super::*;

fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    (directory, store)
}

/// An image of one layer, which is as good as any other bytes here. The result is its manifest and
/// the key of its root file system, which is there, too.
fn image(store: &Store, layer: &[u8], names: &[&str]) -> (Digest, Digest) {
    let lease = store.lease().unwrap();
    let blob = lease.put(layer).unwrap();
    let names: Vec<Reference> = names.iter().map(|name| name.parse().unwrap()).collect();
    let config = ImageConfig::scratch(Platform::host());
    let image = write_image(&lease, config, &[], &[blob], &names).unwrap();
    let key = rootfs::key_of(image.diff_ids());
    let made = store.rootfs(&key, |_| Ok::<_, firebuild_store::Error>(()));
    made.unwrap();
    (image.manifest.digest, key)
}

fn names(pruned: &Pruned) -> Vec<String> {
    let name = |image: &PrunedImage| {
        image
            .name
            .as_ref()
            .map_or_else(String::new, Reference::familiar)
    };
    pruned.images.iter().map(name).collect()
}

#[test]
fn a_root_that_a_vm_verifies_is_its_images_as_well() {
    let (_directory, store) = store();
    let (manifest, _) = image(&store, b"verified", &["verified:1"]);
    let found = firebuild_oci::find_image(&store, &"verified:1".parse().unwrap());
    let key = verified::key_of(found.unwrap().diff_ids());
    let made = store.rootfs(&key, |_| Ok::<_, firebuild_store::Error>(()));
    made.unwrap();
    let tagged = store.tags().list().unwrap();
    let nothing_runs = used(&store, &tagged, &[]).unwrap();
    assert!(nothing_runs.rootfs.contains(&key) && nothing_runs.manifests.is_empty());
    let runs = used(&store, &tagged, &[vec![key]]).unwrap();
    assert_eq!(runs.manifests, HashSet::from([manifest]));
    // Without its image it is nobody's.
    let pruned = prune_images(&store, true, false).unwrap().unwrap();
    assert_eq!(pruned.rootfs, 2);
    assert!(!store.rootfs_path(&key).exists());
}

#[test]
fn what_a_vm_runs_from_and_what_is_being_read_stays() {
    let (_directory, store) = store();
    let (_, nameless) = image(&store, b"nameless", &[]);
    let (_, run) = image(&store, b"run", &["run:1", "run:2"]);
    let (_, idle) = image(&store, b"idle", &["idle:1"]);
    let identity = Identity {
        id: MachineId::from_random([3; 20]),
        name: None,
        rootfs: vec![run],
    };
    let lock = store.machines().create(&identity, b"").unwrap();
    let lease = store.lease().unwrap();
    for dry_run in [true, false] {
        assert_eq!(prune_images(&store, true, dry_run).unwrap(), None);
        assert_eq!(prune_everything(&store, true, dry_run).unwrap(), None);
    }
    assert_eq!(unneeded(&store).unwrap(), None);
    drop(lease);
    let before = store.tags().list().unwrap();
    let dry = prune_images(&store, false, true).unwrap().unwrap();
    assert_eq!(store.tags().list().unwrap(), before);
    let done = prune_images(&store, false, false).unwrap().unwrap();
    assert_eq!(dry, done);
    assert_eq!(
        (names(&done), done.rootfs, done.blobs),
        (vec![String::new()], 1, 3)
    );
    assert!(!store.rootfs_path(&nameless).exists());
    let dry = prune_images(&store, true, true).unwrap().unwrap();
    let done = prune_images(&store, true, false).unwrap().unwrap();
    assert_eq!(dry, done);
    assert_eq!(
        (names(&done), done.rootfs, done.blobs),
        (vec!["idle:1".to_owned()], 1, 3)
    );
    assert!(!store.rootfs_path(&idle).exists());
    assert_eq!(store.tags().list().unwrap().len(), 2);
    // When it has ended, a dry run tells what will be when it has been removed.
    drop(lock);
    assert_eq!(
        prune_images(&store, true, false)
            .unwrap()
            .unwrap()
            .images
            .len(),
        0
    );
    let dry = prune_everything(&store, true, true).unwrap().unwrap();
    let lock = store.machines().lock(&identity.id).unwrap().unwrap();
    store.machines().remove(lock).unwrap();
    let done = prune_everything(&store, true, false).unwrap().unwrap();
    assert_eq!(dry, done);
    assert_eq!((names(&done).len(), done.rootfs, done.blobs), (2, 1, 3));
    assert_eq!(store.rootfs_list().unwrap(), []);
}

#[test]
fn what_images_share_counts_once_and_what_runs_cannot_be_had_back() {
    let (_directory, store) = store();
    let large = vec![7; 100 << 10];
    image(&store, &large, &["one", "two"]);
    let (_, run) = image(&store, b"small", &["run"]);
    let identity = Identity {
        id: MachineId::from_random([3; 20]),
        name: None,
        rootfs: vec![run],
    };
    let _lock = store.machines().create(&identity, b"").unwrap();
    let all = usage(&store).unwrap();
    let of = |category| *all.iter().find(|usage| usage.category == category).unwrap();
    let images = of(Category::Images);
    assert_eq!(images.count, 2);
    // Three small blobs each: layer, configuration, manifest.
    let page = 4096;
    assert_eq!(images.bytes, (100 << 10) + 5 * page);
    assert_eq!(images.reclaimable, (100 << 10) + 2 * page);
    let dry = prune_everything(&store, true, true).unwrap().unwrap();
    assert_eq!(
        all.iter().map(|usage| usage.reclaimable).sum::<u64>(),
        dry.bytes
    );
    assert_eq!(
        (
            of(Category::Machines).count,
            of(Category::Machines).reclaimable
        ),
        (1, 0)
    );
    assert_eq!(of(Category::RootFileSystems).count, 2);
}

#[test]
fn a_damaged_image_does_not_keep_others_from_being_removed() {
    let (_directory, store) = store();
    let (broken, _) = image(&store, b"broken", &["broken"]);
    image(&store, b"other", &[]);
    fs_err::remove_file(store.blob_path(&broken)).unwrap();
    let done = prune_images(&store, false, false).unwrap().unwrap();
    assert_eq!(names(&done), [""]);
    assert_eq!(
        names(&prune_images(&store, true, false).unwrap().unwrap()),
        ["broken:latest"]
    );
    assert_eq!(store.tags().list().unwrap(), []);
}
