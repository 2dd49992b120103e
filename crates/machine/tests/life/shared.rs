//! What is left by whoever dies late in a VM's life, or is late to let go of it.

use std::process::Command;
use std::time::Duration;

use firebuild_machine::{State, client, reconcile};

use crate::host::{Place, network, spec};

fn nft(words: &[&str]) -> String {
    let output = Command::new("nft").args(words).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn purge_removes_what_no_vm_uses_any_more() {
    let place = Place::new();
    let name = network(place.root());
    nft(&["add", "table", "inet", &name]);
    assert!(nft(&["list", "tables"]).contains(&name));
    reconcile::purge(&place.host).unwrap();
    assert!(!nft(&["list", "tables"]).contains(&name));
}

#[test]
fn an_ended_vm_is_removed_once_its_owner_lets_go() {
    let place = Place::new();
    let vm = client::run(&place.host, spec(&["say", "a", "0"]), place.supervisor()).unwrap();
    let id = vm.finish(&place.host).unwrap().id;
    let machines = place.host.store.machines();
    let lock = loop {
        // The supervisor may still have it.
        if let Some(lock) = machines.lock(&id).unwrap() {
            break lock;
        }
    };
    std::thread::scope(|scope| {
        let removal = scope.spawn(|| client::rm(&place.host, &id));
        std::thread::sleep(Duration::from_millis(100));
        assert!(!removal.is_finished());
        drop(lock);
        removal.join().unwrap().unwrap();
    });
    assert!(client::list(&place.host).unwrap().is_empty());
}

/// VMs of all state roots have their control groups in one place.
#[test]
fn purge_leaves_the_groups_of_other_roots_vms_alone() {
    let place = Place::new();
    let other = Place::new();
    let mut spec = spec(&["stay"]);
    spec.limits.pids_max = Some(99);
    let vm = client::run(&other.host, spec, other.supervisor()).unwrap();
    let record = vm.record().clone();
    reconcile::purge(&place.host).unwrap();
    let after = client::inspect(&other.host, record.id.as_str()).unwrap();
    assert_eq!(after.state, State::Running);
    let vmm = after.processes.vmm.unwrap();
    let groups = fs_err::read_to_string(format!("/proc/{vmm}/cgroup")).unwrap();
    assert!(
        groups.contains(&format!("/firebuild/{}\n", record.id)),
        "{groups}"
    );
    let stopped = client::stop(&other.host, &record.id, client::Stop::default()).unwrap();
    assert!(
        matches!(stopped.state, State::Stopped { .. }),
        "{stopped:?}"
    );
}
