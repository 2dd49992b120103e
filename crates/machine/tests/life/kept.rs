//! What a VM has beside its disk, each time that it is started: volumes and secrets. Needs root.

use firebuild_core::ByteSize;
use firebuild_machine::mount::{Mount, Source};
use firebuild_machine::record::{Exit, Record, State};
use firebuild_machine::secret::{self, SecretFile};
use firebuild_machine::{MachineSpec, client, reconcile};
use firebuild_store::{VolumeName, VolumeUsage};

use crate::host::{Place, spec};
use crate::supervised::{kill_process, text, until};

fn data() -> VolumeName {
    "data".parse().unwrap()
}

/// A VM that tells what it was given, and ends or stays.
fn holding(place: &Place, end: &str, policy: &str) -> MachineSpec {
    let key = place.root().join("key");
    fs_err::write(&key, "first").unwrap();
    let size = ByteSize::mib(16);
    let source = Source::Volume { name: data(), size };
    MachineSpec {
        mounts: vec![Mount::new("/data", source)],
        secrets: vec![SecretFile {
            source: secret::Source::File(key),
            target: "/run/secrets/key".to_owned(),
            mode: 0o400,
            uid: 0,
            gid: 0,
        }],
        restart: policy.parse().unwrap(),
        ..spec(&["holds", end])
    }
}

fn run(place: &Place, spec: MachineSpec) -> Record {
    let vm = client::run(&place.host, spec, place.supervisor()).unwrap();
    vm.record().clone()
}

fn logs(place: &Place, record: &Record) -> String {
    let entries = client::logs(&place.host, &record.id, false).unwrap();
    text(entries, firebuild_machine::output::Stream::Stdout)
}

fn usage(place: &Place) -> VolumeUsage {
    place.host.store.volumes().get(&data()).unwrap().usage
}

#[test]
fn a_supervisor_has_volumes_and_secrets_for_every_turn() {
    let place = Place::new();
    let first = run(&place, holding(&place, "3", "on-failure:2"));
    // It reads a secret once: what it is afterwards is for the next start.
    fs_err::write(place.root().join("key"), "second").unwrap();
    let last = client::wait(&place.host, &first.id).unwrap();
    let exit = Exit::Status(3);
    assert_eq!(
        (last.state, last.restart_count),
        (State::Stopped { exit }, 2)
    );
    assert_eq!(logs(&place, &first), "/data: first\n".repeat(3));
    assert_eq!(usage(&place), VolumeUsage::Free);
    client::start(&place.host, &first.id, place.supervisor()).unwrap();
    client::wait(&place.host, &first.id).unwrap();
    let all = "/data: first\n".repeat(3) + &"/data: second\n".repeat(3);
    assert_eq!(logs(&place, &first), all);
    // Without it, nothing is started, and nothing is lost.
    fs_err::remove_file(place.root().join("key")).unwrap();
    let refused = client::start(&place.host, &first.id, place.supervisor()).unwrap_err();
    assert!(format!("{refused:?}").contains("key"), "{refused:?}");
    assert_eq!(usage(&place), VolumeUsage::Free);
    fs_err::write(place.root().join("key"), "third").unwrap();
    client::start(&place.host, &first.id, place.supervisor()).unwrap();
    client::wait(&place.host, &first.id).unwrap();
    assert_eq!(logs(&place, &first), all + &"/data: third\n".repeat(3));
}

#[test]
fn a_volume_is_one_vms_for_as_long_as_it_runs() {
    let place = Place::new();
    let first = run(&place, holding(&place, "stay", "always"));
    let other = |place: &Place| {
        let spec = holding(place, "stay", "no");
        client::run(&place.host, spec, place.supervisor()).map(|vm| vm.record().clone())
    };
    assert_eq!(usage(&place), VolumeUsage::Written);
    let refused = other(&place).unwrap_err();
    assert!(
        refused.to_string().contains("`data` is in use"),
        "{refused}"
    );
    // A VMM that dies comes back, and has it again.
    kill_process(first.processes.vmm);
    let now = || client::inspect(&place.host, first.id.as_str()).unwrap();
    until(&place.host, |_| {
        now().restart_count == 1 && now().state == State::Running
    });
    assert_eq!(usage(&place), VolumeUsage::Written);
    // A supervisor that dies leaves it to whoever comes next.
    kill_process(now().processes.owner);
    reconcile::reconcile(&place.host).unwrap();
    assert_eq!(usage(&place), VolumeUsage::Free);
    let second = other(&place).unwrap();
    let refused = client::start(&place.host, &first.id, place.supervisor()).unwrap_err();
    assert!(
        refused.to_string().contains("`data` is in use"),
        "{refused}"
    );
    client::kill(&place.host, &second.id).unwrap();
    client::start(&place.host, &first.id, place.supervisor()).unwrap();
    assert_eq!(usage(&place), VolumeUsage::Written);
    let last = client::stop(
        &place.host,
        &first.id,
        client::Stop::within(std::time::Duration::from_secs(60)),
    );
    place.assert_released(&last.unwrap());
    assert_eq!(usage(&place), VolumeUsage::Free);
}
