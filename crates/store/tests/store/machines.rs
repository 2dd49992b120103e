//! Records of machines and the locks of those who run them.

use std::collections::HashSet;

use firebuild_core::{Digest, MachineId};
use firebuild_store::{Collected, Error, Identity, MachineLock, Store};

use crate::{child_root, names, ready_and_wait, spawn, store, wait_ready};

fn identity(byte: u8, name: Option<&str>) -> Identity {
    Identity {
        id: MachineId::from_random([byte; 20]),
        name: name.map(|name| name.parse().unwrap()),
        rootfs: Vec::new(),
    }
}

#[test]
fn a_machine_is_found_by_name_id_and_prefix() {
    let (_directory, store) = store();
    let machines = store.machines();
    let (web, other) = (identity(0, Some("web")), identity(1, None));
    let lock = machines.create(&web, b"{}").unwrap();
    let _other = machines.create(&other, b"{}").unwrap();
    for text in ["web", web.id.as_str(), &web.id.as_str()[..3]] {
        assert_eq!(machines.find(text).unwrap(), web, "{text}");
    }
    for text in ["", "we", "nobody"] {
        assert!(matches!(machines.find(text), Err(Error::NoMachine(_))));
    }
    let taken = machines.create(&identity(2, Some("web")), b"{}");
    assert!(matches!(taken, Err(Error::NameTaken { .. })));
    assert_eq!(machines.identities().unwrap(), [web.clone(), other]);
    machines.write_record(&lock, b"second").unwrap();
    assert_eq!(machines.record(&web.id).unwrap(), b"second");
    machines.remove(lock).unwrap();
    assert!(matches!(machines.record(&web.id), Err(Error::NoMachine(_))));
    assert!(matches!(machines.lock(&web.id), Err(Error::NoMachine(_))));
    machines.create(&web, b"{}").unwrap();
    assert!(names(&store.path().join("tmp")).is_empty());
}

#[test]
fn a_damaged_machine_keeps_nobody_from_the_others() {
    let (_directory, store) = store();
    let machines = store.machines();
    let key = Digest::of(b"root file system");
    fs_err::write(store.rootfs_path(&key), b"image").unwrap();
    let (mut web, hurt) = (identity(0, Some("web")), identity(1, Some("hurt")));
    web.rootfs.push(key);
    drop(machines.create(&web, b"{}").unwrap());
    let lock = machines.create(&hurt, b"{}").unwrap();
    for bytes in [&b""[..], b"{\"id\":", b"{\"newer\":1}", b"\0\xff"] {
        fs_err::write(machines.path(&hurt.id).join("identity.json"), bytes).unwrap();
        let bare = identity(1, None);
        assert_eq!(machines.identities().unwrap(), [web.clone(), bare.clone()]);
        assert_eq!(machines.find("web").unwrap(), web);
        assert_eq!(machines.find(hurt.id.as_str()).unwrap(), bare);
        let renamed = machines.rename(&hurt.id, &"other".parse().unwrap());
        assert!(matches!(renamed, Err(Error::DamagedMachine { .. })));
    }
    // As long as it runs, it may run from any of them.
    let (unknown, other) = (machines.rootfs(false), Digest::of(b"other"));
    assert!(matches!(unknown, Err(Error::DamagedMachine { .. })));
    let removed = store.rootfs_remove(&other);
    assert!(matches!(removed, Err(Error::DamagedMachine { .. })));
    drop(lock);
    assert_eq!(machines.rootfs(true).unwrap(), [vec![key]]);
    assert!(!store.rootfs_remove(&other).unwrap());
    let removed = store.rootfs_remove(&key);
    assert!(matches!(removed, Err(Error::RootfsInUse { .. })));
    machines
        .remove(machines.lock(&hurt.id).unwrap().unwrap())
        .unwrap();
    assert_eq!(machines.identities().unwrap(), [web]);
}

#[test]
fn a_prefix_of_two_ids_is_ambiguous() {
    let (_directory, store) = store();
    let machines = store.machines();
    let mut bytes = [0; 20];
    for last in 0..2 {
        bytes[19] = last;
        let identity = Identity {
            id: MachineId::from_random(bytes),
            name: None,
            rootfs: Vec::new(),
        };
        machines.create(&identity, b"").unwrap();
    }
    let found = machines.find("aaa");
    assert!(matches!(
        found,
        Err(Error::AmbiguousMachine { count: 2, .. })
    ));
}

#[test]
fn a_name_goes_to_one_of_many_at_once() {
    let (_directory, store) = store();
    let made: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..20)
            .map(|byte| {
                let store = &store;
                scope.spawn(move || {
                    let made = store.machines().create(&identity(byte, Some("db")), b"");
                    usize::from(made.is_ok())
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    assert_eq!(made, 1);
    assert_eq!(store.machines().identities().unwrap().len(), 1);
}

#[test]
fn a_machine_runs_while_its_lock_is_held() {
    let id = identity(3, None).id;
    if let Some(root) = child_root() {
        let store = Store::open(&root).unwrap();
        let _lock = store.machines().lock(&id).unwrap().unwrap();
        ready_and_wait();
    }
    let (directory, store) = store();
    let machines = store.machines();
    drop(machines.create(&identity(3, None), b"").unwrap());
    assert!(!machines.is_running(&id).unwrap());
    let test = "machines::a_machine_runs_while_its_lock_is_held";
    let mut child = spawn(test, directory.path());
    wait_ready(&mut child);
    assert!(machines.is_running(&id).unwrap());
    assert!(machines.lock(&id).unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!machines.is_running(&id).unwrap());
    let lock = machines.lock(&id).unwrap().unwrap();
    // Handed over, it is still the same lock.
    let handed = lock.hand_over().unwrap();
    let inherited = handed.try_clone().unwrap();
    drop(handed);
    let lock = MachineLock::take_over(id.clone(), inherited);
    assert!(machines.is_running(&id).unwrap());
    machines.remove(lock).unwrap();
}

#[test]
fn who_only_looks_never_keeps_the_supervisor_out() {
    let (_directory, store) = store();
    let machines = store.machines();
    let id = identity(4, None).id;
    drop(machines.create(&identity(4, None), b"").unwrap());
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                machines.is_running(&id).unwrap();
            }
        });
        for _ in 0..2000 {
            assert!(machines.lock(&id).unwrap().is_some());
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn a_machine_keeps_its_root_file_system() {
    let (_directory, store) = store();
    let machines = store.machines();
    let key = Digest::of(b"key");
    let mut identity = identity(5, None);
    identity.rootfs.push(key);
    let result = machines.create(&identity, b"");
    assert!(matches!(result, Err(Error::NoRootfs(_))));
    store.rootfs(&key, |_| Ok::<_, Error>(())).unwrap();
    let lock = machines.create(&identity, b"").unwrap();
    let removed = store.rootfs_remove(&key);
    assert!(matches!(removed, Err(Error::RootfsInUse { .. })));
    let other = Digest::of(b"other");
    let kept = Digest::of(b"kept");
    for key in [other, kept] {
        store.rootfs(&key, |_| Ok::<_, Error>(())).unwrap();
    }
    let keep = HashSet::from([kept]);
    let lease = store.lease().unwrap();
    assert_eq!(store.collect_rootfs(&keep).unwrap(), Collected::Busy);
    drop(lease);
    let one = Collected::Freed { blobs: 1, bytes: 0 };
    assert_eq!(store.collect_rootfs(&keep).unwrap(), one);
    let mut left = store.rootfs_list().unwrap();
    left.sort();
    let mut expected = [key, kept];
    expected.sort();
    assert_eq!(left, expected);
    machines.remove(lock).unwrap();
    assert!(store.rootfs_remove(&key).unwrap());
}
