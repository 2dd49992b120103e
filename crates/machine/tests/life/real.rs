//! Real VMs under their supervisors: QEMU, a distribution's kernel, `vminit`. Needs root, QEMU and
//! a mirror of packages.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use firebuild_machine::boot::{Kernel, distribution};
use firebuild_machine::output::{Entry, Stream};
use firebuild_machine::record::{Exit, State};
use firebuild_machine::{MachineSpec, client};

use crate::host::{Place, spec};

/// The kernel that VMs of these tests boot, fetched once.
pub(crate) fn kernel() -> PathBuf {
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let directory = parent.join("kernel-bookworm");
    if Kernel::open(&directory).is_err() {
        let staged = tempfile::tempdir_in(parent).unwrap();
        distribution::pull("bookworm", None, staged.path()).unwrap();
        // Another test may have been quicker.
        if let Err(error) = fs_err::rename(staged.path(), &directory) {
            assert!(Kernel::open(&directory).is_ok(), "{error}");
        }
    }
    directory
}

pub(crate) fn shell(script: &str) -> MachineSpec {
    let mut spec = spec(&["sh", "-c", script]);
    if let firebuild_machine::Purpose::Run { workload, .. } = &mut spec.purpose {
        workload.environment = vec![("PATH".to_owned(), "/bin:/usr/bin".to_owned())];
    }
    spec.kernel_arguments.clear();
    spec.memory = 256;
    spec
}

pub(crate) fn said(entries: &[Entry], of: Stream) -> String {
    let wanted = entries.iter().filter(|entry| entry.stream == of);
    let bytes: Vec<u8> = wanted.flat_map(|entry| entry.data.clone()).collect();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_vm_runs_its_workload_unprivileged_and_leaves_nothing() {
    let place = Place::real(&kernel(), crate::image::image());
    let begin = Instant::now();
    let spec = shell("echo out; echo err >&2; read line; exit 5");
    let mut vm = client::run(&place.host, spec, place.supervisor()).unwrap();
    println!("started after {:?}", begin.elapsed());
    let record = vm.record().clone();
    println!("{}", record.vmm.as_ref().unwrap().reason);
    check_processes(
        record.processes.owner.unwrap(),
        record.processes.vmm.unwrap(),
    );
    let entries: Vec<Entry> = vm.by_ref().map(Result::unwrap).collect();
    println!("ended after {:?}", begin.elapsed());
    assert_eq!(said(&entries, Stream::Stdout), "out\n");
    assert_eq!(said(&entries, Stream::Stderr), "err\n");
    let last = vm.finish(&place.host).unwrap();
    println!("released after {:?}", begin.elapsed());
    let exit = Exit::Status(5);
    assert_eq!(last.state, State::Stopped { exit });
    place.assert_released(&last);
}

/// The VMM has a user of its own, no capabilities, a system call filter, and no files but its own.
fn check_processes(supervisor: u32, vmm: u32) {
    let status = |pid: u32| fs_err::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = |status: &str, name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len() + 1..].trim().to_owned()
    };
    let vmm_status = status(vmm);
    let uid: u32 = value(&vmm_status, "Uid")
        .split('\t')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(uid >= 700_000, "{uid}");
    assert_eq!(value(&vmm_status, "CapEff"), "0000000000000000");
    assert_eq!(value(&vmm_status, "NoNewPrivs"), "1");
    assert_eq!(value(&vmm_status, "Seccomp"), "2");
    assert_eq!(value(&vmm_status, "Groups"), "");
    let mut sockets = 0;
    for entry in fs_err::read_dir(format!("/proc/{vmm}/fd")).unwrap() {
        let target = fs_err::read_link(entry.unwrap().path()).unwrap();
        let target = target.to_string_lossy().into_owned();
        println!("{target}");
        let expected = [
            "pipe:",
            "anon_inode:",
            "/dev/null",
            "/dev/net/tun",
            "/memfd:",
        ];
        // One, by which it is paused.
        sockets += usize::from(target.starts_with("socket:"));
        if target.starts_with("socket:") && sockets == 1 {
            continue;
        }
        let is_file = ["/vmlinux", "/disk.img", ".img"]
            .iter()
            .any(|end| target.ends_with(end))
            || target.contains("/initramfs/plain-");
        assert!(
            is_file || expected.iter().any(|start| target.starts_with(start)),
            "{target}"
        );
        assert!(!target.ends_with("lock"), "{target}");
    }
    let resident = value(&status(supervisor), "VmRSS");
    println!("supervisor: {resident} resident");
}

#[test]
fn a_vm_stops_when_asked_and_shows_its_signal() {
    let place = Place::real(&kernel(), crate::image::image());
    let script = "trap 'echo asked; exit 3' TERM; echo ready; while :; do sleep 1; done";
    let mut vm = client::run(&place.host, shell(script), place.supervisor()).unwrap();
    let first = vm.next().unwrap().unwrap();
    assert_eq!(first.data, b"ready\n");
    let id = vm.record().id.clone();
    let begin = Instant::now();
    let last = client::stop(
        &place.host,
        &id,
        client::Stop::within(Duration::from_secs(30)),
    )
    .unwrap();
    println!("stopped after {:?}", begin.elapsed());
    let exit = Exit::Status(3);
    assert_eq!(last.state, State::Stopped { exit });
    let rest: Vec<Entry> = vm.map(Result::unwrap).collect();
    assert_eq!(said(&rest, Stream::Stdout), "asked\n");
    place.assert_released(&last);
}

#[test]
fn a_program_that_is_missing_is_status_127() {
    let place = Place::real(&kernel(), crate::image::image());
    let mut spec = spec(&["/no/such/program"]);
    spec.kernel_arguments.clear();
    spec.memory = 256;
    let error = client::run(&place.host, spec, place.supervisor()).unwrap_err();
    assert_eq!(error.exit_status(), 127, "{error}");
    assert!(client::list(&place.host).unwrap().is_empty());
}

#[test]
fn an_image_that_is_none_is_told_by_the_guests_last_words() {
    let place = Place::real(&kernel(), Path::new("/proc/self/exe"));
    let error = client::run(&place.host, shell("true"), place.supervisor());
    let error = error.map(|vm| vm.record().clone()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("reached the host: cannot mount drive"),
        "{error}"
    );
}

#[test]
fn a_vmm_that_cannot_start_says_why() {
    let text = tempfile::tempdir().unwrap();
    let kernel = kernel();
    for file in ["kernel.json", "modules"] {
        std::os::unix::fs::symlink(kernel.join(file), text.path().join(file)).unwrap();
    }
    fs_err::write(text.path().join("vmlinux"), "this is no kernel").unwrap();
    let place = Place::real(text.path(), crate::image::image());
    let error = client::run(&place.host, shell("true"), place.supervisor()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("`qemu` ended with status 1 while it started"),
        "{text}"
    );
    assert!(text.contains("\n  qemu: "), "{text}");
    assert!(client::list(&place.host).unwrap().is_empty());
}
