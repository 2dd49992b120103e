//! Drives that outlive a VM, or that several have, in the jails of Firecracker.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

use firebuild_core::ByteSize;
use firebuild_machine::mount::{Mount, Source};
use firebuild_machine::vmm::firecracker::jail_of;
use firebuild_machine::{MachineSpec, client, reconcile};
use firebuild_store::{VolumeName, VolumeUsage};

use crate::place::{Place, wait};

fn name() -> VolumeName {
    "data".parse().unwrap()
}

fn volume(target: &str, read_only: bool) -> Mount {
    let size = ByteSize::mib(16);
    let source = Source::Volume { name: name(), size };
    Mount {
        read_only,
        ..Mount::new(target, source)
    }
}

fn with(mut spec: MachineSpec, mounts: Vec<Mount>) -> MachineSpec {
    spec.mounts = mounts;
    spec
}

/// Where the volume is, who owns it and who has it open.
fn now(place: &Place) -> (PathBuf, u32, VolumeUsage) {
    let volume = place.host.store.volumes().get(&name()).unwrap();
    let owner = fs_err::metadata(&volume.path).unwrap().uid();
    (volume.path, owner, volume.usage)
}

pub(crate) fn a_volume_is_its_vms_for_as_long_as_that_runs() {
    let place = Place::new();
    let shared = place.root().join("shared");
    fs_err::create_dir(&shared).unwrap();
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    for base in [None, Some(elsewhere.path())] {
        let mounts = vec![
            volume("/data", false),
            Mount::new("/own", Source::Anonymous),
            Mount::new("/shared", Source::Snapshot(shared.clone())),
        ];
        let mut spec = with(place.build(), mounts);
        if let Some(base) = base {
            spec.firecracker.chroot_base = base.to_owned();
        }
        wait(async {
            let machine = place.connected(spec).await;
            let record = machine.record().clone();
            let user = record.processes.vmm_user.unwrap();
            let (path, owner, usage) = now(&place);
            assert_eq!((owner, usage), (user, VolumeUsage::Written));
            let state = &record.directories.state;
            let own = fs_err::metadata(state.join("volumes.img")).unwrap();
            assert_eq!(own.uid(), user);
            // What it only reads is not its own.
            let snapshot = fs_err::metadata(state.join("snapshot-2.img")).unwrap();
            assert_eq!(snapshot.uid(), 0);
            drop(machine);
            place.assert_gone(&record);
            let mode = fs_err::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            assert_eq!(now(&place), (path, 0, VolumeUsage::Free), "{base:?}");
        });
    }
}

pub(crate) fn a_volume_is_given_back_by_the_command_after_a_crash() {
    let place = Place::new();
    let spec = with(
        place.run(&["stay"], "sleep 1000"),
        vec![volume("/data", false)],
    );
    let vm = client::run(&place.host, spec, place.supervisor()).unwrap();
    let record = vm.record().clone();
    drop(vm);
    let (_, owner, usage) = now(&place);
    assert_eq!(owner, record.processes.vmm_user.unwrap());
    assert_eq!(usage, VolumeUsage::Written);
    let owner = record.processes.owner.unwrap();
    let owner = rustix::process::Pid::from_raw(owner.try_into().unwrap()).unwrap();
    let handle = rustix::process::pidfd_open(owner, rustix::process::PidfdFlags::empty()).unwrap();
    rustix::process::pidfd_send_signal(&handle, rustix::process::Signal::KILL).unwrap();
    let mut ended = [rustix::event::PollFd::new(
        &handle,
        rustix::event::PollFlags::IN,
    )];
    rustix::event::poll(&mut ended, None).unwrap();
    reconcile::reconcile(&place.host).unwrap();
    place.assert_gone(&record);
    let (_, owner, usage) = now(&place);
    assert_eq!((owner, usage), (0, VolumeUsage::Free));
    // The next VM has it, and the same one when it is started again.
    wait(async {
        let machine = place
            .connected(with(place.build(), vec![volume("/d", false)]))
            .await;
        drop(machine);
    });
    client::start(&place.host, &record.id, place.supervisor()).unwrap();
    assert_eq!(now(&place).2, VolumeUsage::Written);
    client::kill(&place.host, &record.id).unwrap();
    assert_eq!(now(&place).1, 0);
}

pub(crate) fn a_volume_is_read_by_several() {
    let place = Place::new();
    // The first that only reads a new volume has it alone, because it has to be put in order first.
    wait(async {
        drop(
            place
                .connected(with(place.build(), vec![volume("/d", false)]))
                .await,
        );
        let reading = || with(place.build(), vec![volume("/d", true)]);
        let one = place.connected(reading()).await;
        let alone = now(&place).2 == VolumeUsage::Written;
        if alone {
            return;
        }
        let two = place.connected(reading()).await;
        let (_, owner, usage) = now(&place);
        assert_eq!((owner, usage), (0, VolumeUsage::Read));
        for machine in [&one, &two] {
            assert!(jail_of(machine.record()).unwrap().0.is_dir());
        }
        drop(one);
        assert_eq!(now(&place).2, VolumeUsage::Read);
    });
}
