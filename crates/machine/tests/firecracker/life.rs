//! The lives of VMs under Firecracker.

use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use firebuild_machine::output::{Entry, Stream};
use firebuild_machine::record::{Exit, Record, State};
use firebuild_machine::vmm::firecracker::cgroup::CgroupVersion;
use firebuild_machine::vmm::firecracker::jail_of;
use firebuild_machine::{Machine, Vmm, client};

use crate::place::{Place, calls, real, same_host, vmm, wait};

/// A builder that never ends.
pub(crate) fn be_builder() -> ExitCode {
    wait(async {
        let host = same_host();
        let mut spec = crate::host::spec(&["build"]);
        spec.purpose = firebuild_machine::Purpose::Build;
        spec.firecracker.chroot_base = crate::host::root().join("jails");
        let mut machine = Machine::create(&host, spec).unwrap();
        machine
            .start(firebuild_machine::testing::no_calls())
            .await
            .unwrap();
        machine.connected().await.unwrap();
        machine.mark_running().unwrap();
        println!("\nconnected");
        machine.ended().await;
    });
    ExitCode::FAILURE
}

fn said(entries: &[Entry], of: Stream) -> String {
    let wanted = entries.iter().filter(|entry| entry.stream == of);
    let bytes: Vec<u8> = wanted.flat_map(|entry| entry.data.clone()).collect();
    String::from_utf8(bytes).unwrap()
}

pub(crate) fn a_build_vm_lives_until_it_is_released() {
    let place = Place::new();
    wait(async {
        let machine = place.connected(place.build()).await;
        let record = machine.record().clone();
        assert_eq!(record.vmm.as_ref().unwrap().name, "firecracker");
        assert!(jail_of(&record).unwrap().0.is_dir());
        let reason = firebuild_machine::Report::new("the build is done");
        machine.release(State::Failed { reason }).await.unwrap();
        place.assert_gone(&record);
    });
}

pub(crate) fn a_workload_runs_under_its_supervisor() {
    let place = Place::new();
    let spec = place.run(&["say", "hello", "3"], "echo hello; echo bye >&2; exit 3");
    let mut vm = client::run(&place.host, spec, place.supervisor()).unwrap();
    let entries: Vec<Entry> = vm.by_ref().map(Result::unwrap).collect();
    assert_eq!(said(&entries, Stream::Stdout), "hello\n");
    assert_eq!(said(&entries, Stream::Stderr), "bye\n");
    let last: Record = vm.finish(&place.host).unwrap();
    let exit = Exit::Status(3);
    assert_eq!(last.state, State::Stopped { exit });
    place.assert_gone(&last);
}

pub(crate) fn a_workload_that_is_asked_to_end_does() {
    let place = Place::new();
    let spec = place.run(
        &["stay"],
        "trap 'exit 143' TERM; while :; do sleep 0.1; done",
    );
    let vm = client::run(&place.host, spec, place.supervisor()).unwrap();
    let id = vm.record().id.clone();
    let last = client::stop(
        &place.host,
        &id,
        client::Stop::within(Duration::from_secs(20)),
    )
    .unwrap();
    assert!(
        matches!(last.state, State::Stopped { .. }),
        "{:?}",
        last.state
    );
    place.assert_gone(&last);
}

pub(crate) fn a_vm_is_paused_and_resumed() {
    let place = Place::new();
    wait(async {
        let machine = place.connected(place.build()).await;
        let vmm = place.host.vmm().unwrap();
        let running = machine.running().unwrap();
        // Twice each: the second changes nothing.
        for _ in 0..2 {
            vmm.pause(running).await.unwrap();
        }
        for _ in 0..2 {
            vmm.resume(running).await.unwrap();
        }
        if real().is_none() {
            let calls = calls(machine.record());
            let turns = calls.iter().filter(|call| *call == "204 PATCH /vm");
            assert_eq!(turns.count(), 2);
        }
    });
}

pub(crate) fn every_vm_has_its_own_user() {
    let place = Place::new();
    wait(async {
        let (one, two) = tokio::join!(
            place.connected(place.build()),
            place.connected(place.build())
        );
        let user = |machine: &Machine| {
            let pid = machine.running().unwrap().pid();
            let status = fs_err::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let line = status.lines().find(|it| it.starts_with("Uid:")).unwrap();
            line.split('\t').nth(2).unwrap().parse::<u32>().unwrap()
        };
        let users = [user(&one), user(&two)];
        assert!(
            users[0] != users[1] && users.iter().all(|it| *it >= 700_000),
            "{users:?}"
        );
        // Its disk is its own, and nobody else's may be written.
        let disk = fs_err::metadata(&one.record().directories.disk).unwrap();
        assert_eq!((disk.uid(), disk.mode() & 0o777), (users[0], 0o600));
    });
}

pub(crate) fn limits_are_kept_or_refused() {
    let place = Place::new();
    let mut spec = place.build();
    spec.limits.pids_max = Some(99);
    wait(async {
        let machine = place.connected(spec).await;
        let pid = machine.running().unwrap().pid();
        let own = fs_err::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let group = format!("/firebuild/{}", machine.id());
        assert!(own.lines().any(|line| line.ends_with(&group)), "{own}");
    });
    let mut spec = place.build();
    spec.limits.disks.read_bytes = Some(1 << 20);
    let refused = client::run(&place.host, spec, place.supervisor());
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("--drive-limit"), "{error}");
}

pub(crate) fn control_groups_are_made_and_go() {
    let place = Place::new();
    let mut spec = place.build();
    let table = fs_err::read_to_string("/proc/mounts").unwrap();
    // As many as one is enough for: what there is on the machine of the tests.
    let v1 = table
        .lines()
        .any(|it| it.contains(" cgroup ") && it.contains("pids"));
    spec.firecracker.cgroups = vec!["pids.max=99".parse().unwrap()];
    spec.firecracker.cgroup_version = v1.then_some(CgroupVersion::V1);
    wait(async {
        let machine = place.connected(spec).await;
        let pid = machine.running().unwrap().pid();
        let own = fs_err::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let group = format!("/firebuild/{}", machine.id());
        assert!(own.lines().any(|line| line.ends_with(&group)), "{own}");
        let record = machine.record().clone();
        drop(machine);
        place.assert_gone(&record);
    });
}

pub(crate) fn disks_of_another_file_system_are_mounted_and_unmounted() {
    let place = Place::new();
    let jails = tempfile::tempdir_in("/dev/shm").unwrap();
    let mut spec = place.build();
    spec.firecracker.chroot_base = jails.path().to_owned();
    wait(async {
        let machine = place.connected(spec).await;
        let record = machine.record().clone();
        let table = fs_err::read_to_string("/proc/self/mountinfo").unwrap();
        let mounted = table
            .lines()
            .filter(|line| line.contains(record.id.as_str()));
        // The image of the root file system, and the VM's own disk; a namespace has the id as well.
        assert!(mounted.count() >= 2);
        drop(machine);
        place.assert_gone(&record);
    });
    assert_eq!(
        fs_err::read_dir(jails.path().join("firecracker"))
            .unwrap()
            .count(),
        0
    );
}

pub(crate) fn calls_are_logged_without_secrets() {
    let place = Place::new();
    let mut spec = place.run(&["say", "x", "0"], "true");
    spec.firecracker.log_http_calls = true;
    let vm = client::run(&place.host, spec, place.supervisor()).unwrap();
    let last = vm.finish(&place.host).unwrap();
    let log = last.directories.state.join("firecracker-http.log");
    let log = fs_err::read_to_string(log).unwrap();
    for part in [
        "PUT /machine-config {",
        "\"session\":\"(secret)\"",
        "InstanceStart\"} -> 204",
    ] {
        assert!(log.contains(part), "{part} in {log}");
    }
    for secret in ["PRIVATE KEY", "CERTIFICATE"] {
        assert!(!log.contains(secret), "{log}");
    }
}

pub(crate) fn a_program_that_is_a_link_has_the_jail_of_its_real_name() {
    let place = Place::new();
    let facts = place.host.vmm().unwrap().facts().clone();
    let link = place.root().join("a-link");
    std::os::unix::fs::symlink(&facts.program, &link).unwrap();
    let jailer = facts.program.with_file_name("jailer");
    let mut host = place.host.clone();
    let vmm = vmm([link, jailer]).unwrap();
    assert_eq!(vmm.facts().program, facts.program);
    host.vmm = Some(Arc::new(vmm));
    wait(async {
        let mut machine = Machine::create(&host, place.build()).unwrap();
        machine
            .start(firebuild_machine::testing::no_calls())
            .await
            .unwrap();
        machine.connected().await.unwrap();
        let record = machine.record().clone();
        assert!(jail_of(&record).unwrap().0.join("run").is_dir());
        drop(machine);
        place.assert_gone(&record);
    });
}
