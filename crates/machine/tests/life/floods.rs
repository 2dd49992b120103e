//! Guests that write, ask and call without end: the host keeps little of it, and remembers less.

use std::path::Path;

use firebuild_core::ByteSize;
use firebuild_machine::client;
use firebuild_machine::output::LogLimits;
use firebuild_machine::record::Record;

use crate::host::{Place, spec};
use crate::supervised::until;

/// How much more memory the supervisor of such a guest may have had at any time than that of one which
/// does nothing, in KiB.
const MEMORY: u64 = 12 << 10;

/// How much of a guest's output is kept, by what the test asks for, and what comes beside it: the console's
/// files, a record that is begun, the VM's own disk and its record.
const DISK: u64 = (2 << 20) + (1 << 20) + (2 << 20);

/// The most memory that a supervisor has had, in KiB.
fn most_memory(record: &Record) -> u64 {
    let owner = record.processes.owner.unwrap();
    let status = fs_err::read_to_string(format!("/proc/{owner}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.unwrap().trim().trim_end_matches(" kB");
    number.parse().unwrap()
}

/// What all files below a directory take.
fn taken(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = fs_err::read_dir(directory).unwrap().map(Result::unwrap);
    let sizes = entries.map(|entry| match entry.metadata().unwrap() {
        metadata if metadata.is_dir() => taken(&entry.path()),
        metadata => metadata.blocks() * 512,
    });
    sizes.sum()
}

/// Starts a VM, and tells what its supervisor had taken when the workload said that it was done.
fn cost(place: &Place, arguments: &[&str]) -> (u64, u64) {
    let mut wanted = spec(arguments);
    wanted.log = LogLimits {
        max_size: ByteSize::mib(1),
        max_files: 2,
    };
    let vm = client::run(&place.host, wanted, place.supervisor()).unwrap();
    let record = vm.record().clone();
    drop(vm);
    until(&place.host, |host| {
        let logs = client::logs(host, &record.id, false).unwrap();
        let written: Vec<u8> = logs.flat_map(|entry| entry.unwrap().data).collect();
        written.ends_with(b"done\n")
    });
    let cost = (most_memory(&record), taken(&record.directories.state));
    client::kill(&place.host, &record.id).unwrap();
    client::rm(&place.host, &record.id).unwrap();
    cost
}

#[test]
fn the_host_keeps_little_of_a_flood() {
    let place = Place::new();
    let (idle, _) = cost(&place, &["floods", "nothing"]);
    for what in ["console", "output", "metadata", "agent"] {
        let (memory, disk) = cost(&place, &["floods", what]);
        println!(
            "{what}: {memory} KiB, {idle} KiB idle; {} KiB of files",
            disk >> 10
        );
        assert!(
            memory < idle + MEMORY,
            "{what}: {memory} KiB, {idle} KiB idle"
        );
        assert!(disk < DISK, "{what}: {disk} bytes");
    }
}
