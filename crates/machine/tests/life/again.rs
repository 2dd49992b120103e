//! VMs that are started again: by people, by their restart policies; and paused. Needs root.

use std::time::{Duration, Instant};

use firebuild_machine::change::Change;
use firebuild_machine::client::{self, Stop};
use firebuild_machine::events::Events;
use firebuild_machine::output::Stream;
use firebuild_machine::record::{Exit, Record, State};
use firebuild_machine::{MachineSpec, reconcile};

use crate::host::{Place, spec};
use crate::supervised::{kill_process, text, until};

fn inspect(place: &Place, record: &Record) -> Record {
    client::inspect(&place.host, record.id.as_str()).unwrap()
}

fn stop() -> Stop {
    Stop::within(Duration::from_secs(60))
}

fn run(place: &Place, spec: MachineSpec) -> Record {
    let vm = client::run(&place.host, spec, place.supervisor()).unwrap();
    vm.record().clone()
}

fn with_policy(arguments: &[&str], policy: &str) -> MachineSpec {
    MachineSpec {
        restart: policy.parse().unwrap(),
        ..spec(arguments)
    }
}

fn logs(place: &Place, record: &Record) -> String {
    text(
        client::logs(&place.host, &record.id, false).unwrap(),
        Stream::Stdout,
    )
}

#[test]
fn a_stopped_vm_is_started_again_as_it_was() {
    let place = Place::new();
    let mut named = spec(&["sleep"]);
    named.name = Some("web".parse().unwrap());
    let first = run(&place, named);
    client::signal(&place.host, &first.id, 10).unwrap();
    // Starting one that runs changes nothing.
    client::start(&place.host, &first.id, place.supervisor()).unwrap();
    assert_eq!(inspect(&place, &first).processes, first.processes);
    let stopped = client::stop(&place.host, &first.id, stop()).unwrap();
    place.assert_released(&stopped);
    assert!(stopped.was_stopped);
    // What a guest would have written.
    let mut disk = fs_err::read(&stopped.directories.disk).unwrap();
    let end = disk.len() - 1;
    disk[end] = 42;
    fs_err::write(&stopped.directories.disk, &disk).unwrap();

    client::start(&place.host, &first.id, place.supervisor()).unwrap();
    let again = inspect(&place, &first);
    assert_eq!((&again.state, again.finished), (&State::Running, None));
    assert_eq!(
        (&again.spec, again.address()),
        (&first.spec, first.address())
    );
    assert!(!again.was_stopped && again.started > first.started);
    client::signal(&place.host, &first.id, 12).unwrap();
    let last = client::stop(&place.host, &first.id, stop()).unwrap();
    assert_eq!(fs_err::read(&last.directories.disk).unwrap()[end], 42);
    assert_eq!(logs(&place, &first), "signal 10\nsignal 12\n");
    client::rm(&place.host, &first.id).unwrap();
    assert!(!last.directories.state.exists());
}

#[test]
fn the_disk_of_a_vm_that_stays_has_a_journal() {
    let place = Place::new();
    let features = |record: &Record| {
        let disk = &record.directories.disk;
        let shown = std::process::Command::new("dumpe2fs")
            .arg("-h")
            .arg(disk)
            .output();
        String::from_utf8(shown.unwrap().stdout).unwrap()
    };
    let kept = run(&place, spec(&["sleep"]));
    assert!(features(&kept).contains("has_journal"));
    let mut removed = spec(&["sleep"]);
    removed.remove = true;
    let removed = run(&place, removed);
    client::kill(&place.host, &removed.id).unwrap();
    assert!(!removed.directories.disk.exists());
}

#[test]
fn one_whose_supervisor_was_killed_is_started_again() {
    let place = Place::new();
    let first = run(&place, spec(&["sleep"]));
    kill_process(first.processes.owner);
    client::start(&place.host, &first.id, place.supervisor()).unwrap();
    assert_eq!(inspect(&place, &first).state, State::Running);
    // Many at once start one.
    client::kill(&place.host, &first.id).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| client::start(&place.host, &first.id, place.supervisor()).unwrap());
        }
    });
    assert_eq!(inspect(&place, &first).state, State::Running);
    let last = client::stop(&place.host, &first.id, stop()).unwrap();
    place.assert_released(&last);
}

#[test]
fn an_address_that_another_has_by_now_is_no_hindrance() {
    let place = Place::new();
    let first = run(&place, spec(&["sleep"]));
    client::kill(&place.host, &first.id).unwrap();
    let mut other = spec(&["sleep"]);
    other.address = first.address();
    let other = run(&place, other);
    client::start(&place.host, &first.id, place.supervisor()).unwrap();
    assert_ne!(inspect(&place, &first).address(), other.address());
}

#[test]
fn one_that_cannot_be_started_again_says_why_and_stays() {
    let place = Place::new();
    let first = run(&place, spec(&["sleep"]));
    client::kill(&place.host, &first.id).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let number = port.local_addr().unwrap().port();
    let mut published = spec(&["sleep"]);
    published.ports = vec![format!("127.0.0.1:{number}:80").parse().unwrap()];
    drop(port);
    let second = run(&place, published);
    client::kill(&place.host, &second.id).unwrap();
    let port = std::net::TcpListener::bind(("127.0.0.1", number)).unwrap();
    let error = client::start(&place.host, &second.id, place.supervisor()).unwrap_err();
    assert!(error.to_string().contains(&number.to_string()), "{error}");
    let failed = inspect(&place, &second);
    assert!(matches!(failed.state, State::Failed { .. }));
    place.assert_released(&failed);
    drop(port);
    client::start(&place.host, &second.id, place.supervisor()).unwrap();
    assert_eq!(inspect(&place, &second).state, State::Running);
}

#[test]
fn a_workload_that_fails_is_started_so_often() {
    let place = Place::new();
    let begin = Instant::now();
    let first = run(&place, with_policy(&["say", "x", "3"], "on-failure:2"));
    let last = client::wait(&place.host, &first.id).unwrap();
    // 100 ms and 200 ms at least.
    assert!(begin.elapsed() >= Duration::from_millis(300));
    let exit = Exit::Status(3);
    assert_eq!(last.state, State::Stopped { exit });
    assert_eq!((last.restart_count, last.was_stopped), (2, false));
    assert_eq!(logs(&place, &first), "x\nx\nx\n");
    place.assert_released(&last);
    // One that succeeds is left alone; started by hand, it counts anew.
    let good = run(&place, with_policy(&["say", "x", "0"], "on-failure"));
    assert_eq!(
        client::wait(&place.host, &good.id).unwrap().restart_count,
        0
    );
    client::start(&place.host, &first.id, place.supervisor()).unwrap();
    assert_eq!(
        client::wait(&place.host, &first.id).unwrap().restart_count,
        2
    );
}

#[test]
fn a_vm_that_always_comes_back_ends_when_it_is_stopped() {
    let place = Place::new();
    let first = run(&place, with_policy(&["say", "x", "0"], "always"));
    until(&place.host, |_| inspect(&place, &first).restart_count >= 3);
    until(&place.host, |_| {
        inspect(&place, &first).state == State::Restarting
    });
    assert!(place.host.store.machines().is_running(&first.id).unwrap());
    let last = client::stop(&place.host, &first.id, stop()).unwrap();
    assert!(last.state.is_final() && last.was_stopped, "{last:?}");
    place.assert_released(&last);
    // A VMM that is killed comes back as well; a supervisor that is killed does not.
    let other = run(&place, with_policy(&["sleep"], "unless-stopped"));
    kill_process(other.processes.vmm);
    until(&place.host, |_| {
        let now = inspect(&place, &other);
        now.restart_count == 1 && now.state == State::Running
    });
    kill_process(other.processes.owner);
    reconcile::reconcile(&place.host).unwrap();
    let dead = inspect(&place, &other);
    assert!(matches!(dead.state, State::Failed { .. }) && !dead.was_stopped);
    place.assert_released(&dead);
}

#[test]
fn a_paused_vm_stands_still() {
    let place = Place::new();
    let vm = run(&place, spec(&["sleep"]));
    for _ in 0..2 {
        client::pause(&place.host, &vm.id).unwrap();
        assert_eq!(inspect(&place, &vm).state, State::Paused);
    }
    let stat = fs_err::read_to_string(format!("/proc/{}/stat", vm.processes.vmm.unwrap()));
    assert!(stat.unwrap().contains(") T "));
    for _ in 0..2 {
        client::unpause(&place.host, &vm.id).unwrap();
        assert_eq!(inspect(&place, &vm).state, State::Running);
    }
    // One that is paused can be stopped, and killed.
    client::pause(&place.host, &vm.id).unwrap();
    let last = client::stop(&place.host, &vm.id, stop()).unwrap();
    let exit = Exit::Signal(15);
    assert_eq!(last.state, State::Stopped { exit });
    let error = client::pause(&place.host, &vm.id).unwrap_err();
    assert!(error.to_string().ends_with("does not run"), "{error}");
    client::start(&place.host, &vm.id, place.supervisor()).unwrap();
    client::pause(&place.host, &vm.id).unwrap();
    place.assert_released(&client::kill(&place.host, &vm.id).unwrap());
}

#[test]
fn the_signal_and_the_time_of_a_stop_can_be_chosen() {
    let place = Place::new();
    let vm = run(&place, spec(&["sleep"]));
    let stop = Stop {
        grace: Some(Duration::from_secs(60)),
        signal: Some(2),
        host_ends: false,
    };
    let last = client::stop(&place.host, &vm.id, stop).unwrap();
    let exit = Exit::Signal(2);
    assert_eq!(last.state, State::Stopped { exit });
}

#[test]
fn what_happens_is_told_and_followed() {
    let place = Place::new();
    let mut follower = Events::of(&place.host.store, true).unwrap();
    assert!(follower.next_ones().unwrap().is_empty());
    let vm = run(&place, with_policy(&["sleep"], "always"));
    client::pause(&place.host, &vm.id).unwrap();
    client::unpause(&place.host, &vm.id).unwrap();
    client::rename(&place.host, &vm.id, "new".parse().unwrap()).unwrap();
    kill_process(vm.processes.vmm);
    until(&place.host, |_| inspect(&place, &vm).restart_count == 1);
    until(&place.host, |_| {
        inspect(&place, &vm).state == State::Running
    });
    client::stop(&place.host, &vm.id, stop()).unwrap();
    client::rm(&place.host, &vm.id).unwrap();
    let expected = "create start pause unpause rename die restart start stop die destroy";
    let mut seen = Vec::new();
    while seen.len() < expected.split(' ').count() {
        assert!(follower.wait(None).unwrap());
        seen.extend(follower.next_ones().unwrap());
    }
    let words: Vec<&str> = seen.iter().map(|event| event.action.as_str()).collect();
    assert_eq!(words.join(" "), expected);
    assert!(seen.iter().all(|event| event.id == vm.id));
    assert_eq!(seen[9].attributes["signal"], "15");
    assert!(seen[5].attributes["reason"].contains("was ended by signal 9"));
    // Who only looks sees the same, and does not wait.
    let mut late = Events::of(&place.host.store, false).unwrap();
    assert_eq!(late.next_ones().unwrap(), seen);
    assert!(!late.wait(None).unwrap());
}

#[test]
fn a_name_and_a_policy_can_change_at_any_time() {
    let place = Place::new();
    let find = |name: &str| client::inspect(&place.host, name);
    let vm = run(&place, spec(&["sleep"]));
    let other = run(&place, spec(&["sleep"]));
    client::rename(&place.host, &vm.id, "one".parse().unwrap()).unwrap();
    let error = client::rename(&place.host, &other.id, "one".parse().unwrap()).unwrap_err();
    assert!(
        error.to_string().contains("the name `one` is taken"),
        "{error}"
    );
    let change = Change {
        restart: "on-failure:3".parse().ok(),
        ..Change::default()
    };
    client::change(&place.host, &vm.id, change.clone()).unwrap();
    assert_eq!(
        find("one").unwrap().spec.restart.to_string(),
        "on-failure:3"
    );
    client::kill(&place.host, &other.id).unwrap();
    client::rename(&place.host, &other.id, "two".parse().unwrap()).unwrap();
    client::change(&place.host, &other.id, change).unwrap();
    assert_eq!(
        find("two").unwrap().spec.restart.to_string(),
        "on-failure:3"
    );
    client::start(&place.host, &other.id, place.supervisor()).unwrap();
    client::rename(&place.host, &vm.id, "three".parse().unwrap()).unwrap();
    assert!(find("one").is_err() && find("three").is_ok());
    let listed = client::list(&place.host).unwrap();
    let names: Vec<String> = listed
        .iter()
        .map(|record| record.spec.name.as_ref().unwrap().to_string())
        .collect();
    assert_eq!(names, ["three", "two"]);
}

/// The control groups of a VM, and how many processes are in them.
fn groups(record: &Record) -> Vec<usize> {
    let mounts = fs_err::read_to_string("/proc/self/mounts").unwrap();
    let roots = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let place = words.next()?;
        words.next()?.starts_with("cgroup").then_some(place)
    });
    roots
        .filter_map(|root| {
            let group = std::path::Path::new(root)
                .join("firebuild")
                .join(record.id.as_str());
            let inside = fs_err::read_to_string(group.join("cgroup.procs")).ok()?;
            Some(inside.lines().count())
        })
        .collect()
}

#[test]
fn limits_hold_for_the_vmm_and_go_with_it() {
    let place = Place::new();
    let mut limited = with_policy(&["sleep"], "always");
    limited.limits.pids_max = Some(50);
    limited.limits.cpu_max = "0.5".parse().ok();
    limited.limits.network = Some(1 << 20);
    let vm = run(&place, limited);
    assert!(!groups(&vm).is_empty() && groups(&vm).iter().all(|count| *count == 1));
    // From turn to turn.
    kill_process(vm.processes.vmm);
    until(&place.host, |_| inspect(&place, &vm).restart_count == 1);
    until(&place.host, |_| {
        inspect(&place, &vm).state == State::Running
    });
    assert!(groups(&vm).iter().all(|count| *count == 1));
    let change = Change {
        limits: firebuild_machine::limits::Limits {
            cpu_weight: "10".parse().ok(),
            ..Default::default()
        },
        ..Change::default()
    };
    client::change(&place.host, &vm.id, change).unwrap();
    let changed = inspect(&place, &vm).spec.limits;
    assert!(changed.cpu_weight.is_some() && changed.pids_max == Some(50));
    assert_eq!(changed.network, Some(1 << 20));
    network_rates(&place, &vm);
    // Whoever dies.
    kill_process(inspect(&place, &vm).processes.owner);
    reconcile::reconcile(&place.host).unwrap();
    assert!(groups(&vm).is_empty());
    place.assert_released(&inspect(&place, &vm));
    // What cannot be is said before anything is there.
    let mut small = spec(&["sleep"]);
    small.limits.memory_max = Some(firebuild_core::ByteSize::mib(100));
    let error = client::run(&place.host, small, place.supervisor()).unwrap_err();
    assert!(error.to_string().contains("192.0 MiB at least"), "{error}");
}

/// The rates of a network change while the VM runs, those of disks as far as the VMM can.
fn network_rates(place: &Place, vm: &Record) {
    let limits = |network, read_bytes| Change {
        limits: firebuild_machine::limits::Limits {
            network,
            disks: firebuild_machine::limits::DiskRates {
                read_bytes,
                ..Default::default()
            },
            ..Default::default()
        },
        ..Change::default()
    };
    let namespace = place.host.network.namespace(&vm.id);
    let shown = |program: &str, words: &[&str]| {
        let mut command = std::process::Command::new(program);
        namespace.enter_on_start(command.args(words), None).unwrap();
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    // Twice: the second takes the place of the first.
    for (rate, queue, rule) in [
        (2 << 20, "rate 16777Kbit", "limit rate over 2 mbytes/second"),
        (
            1_000_000,
            "rate 8Mbit",
            "limit rate over 1000000 bytes/second",
        ),
    ] {
        client::change(&place.host, &vm.id, limits(Some(rate), None)).unwrap();
        let queues = shown("tc", &["qdisc", "show"]);
        assert!(queues.contains(queue), "{queues}");
        let rules = shown("nft", &["list", "table", "netdev", "firebuild_rate"]);
        assert_eq!(rules.matches("limit rate over").count(), 1, "{rules}");
        assert!(rules.contains(rule), "{rules}");
    }
    let refused = client::change(&place.host, &vm.id, limits(None, Some(1 << 20)));
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("the rates of disks"), "{error}");
    assert_eq!(inspect(place, vm).spec.limits.disks.read_bytes, None);
}

#[test]
fn the_host_lets_in_what_it_has_memory_for() {
    let place = Place::new();
    let host = fs_err::read_to_string("/proc/meminfo").unwrap();
    let total: u32 = host
        .split_ascii_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    // Three of these are too much, and two are not.
    let large = || MachineSpec {
        memory: (total >> 10) * 2 / 5,
        overcommit: Some(100),
        ..spec(&["sleep"])
    };
    let results = std::thread::scope(|scope| {
        let (place, large) = (&place, &large);
        let begin = || client::run(&place.host, large(), place.supervisor());
        let started: Vec<_> = (0..6).map(|_| scope.spawn(begin)).collect();
        started
            .into_iter()
            .map(|thread| thread.join().unwrap().map(|vm| vm.record().clone()))
            .collect::<Vec<_>>()
    });
    let (good, bad): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!((good.len(), bad.len()), (2, 4));
    for error in bad {
        let error = error.unwrap_err();
        assert!(error.to_string().contains("2 VMs run with"), "{error}");
        assert!(error.hint().unwrap().contains("--memory-overcommit"));
    }
    assert_eq!(client::list(&place.host).unwrap().len(), 2);
    // Room is made by who ends, and is needed by who begins again.
    let first = good.into_iter().next().unwrap().unwrap();
    client::kill(&place.host, &first.id).unwrap();
    let other = run(&place, large());
    let error = client::start(&place.host, &first.id, place.supervisor()).unwrap_err();
    assert!(error.to_string().contains("too much"), "{error}");
    assert!(inspect(&place, &first).state.is_final());
    client::kill(&place.host, &other.id).unwrap();
    client::start(&place.host, &first.id, place.supervisor()).unwrap();
}

#[test]
fn output_takes_no_more_room_than_it_may() {
    let place = Place::new();
    let mut flooding = spec(&["flood", "160"]);
    flooding.log.max_size = firebuild_core::ByteSize::mib(1);
    flooding.log.max_files = 3;
    let vm = run(&place, flooding);
    client::wait(&place.host, &vm.id).unwrap();
    let sizes: Vec<u64> = fs_err::read_dir(&vm.directories.state)
        .unwrap()
        .map(Result::unwrap)
        .filter(|file| file.file_name().to_string_lossy().starts_with("output."))
        .map(|file| file.metadata().unwrap().len())
        .collect();
    assert!(
        sizes.len() == 3 && sizes.iter().all(|size| *size <= 1 << 20),
        "{sizes:?}"
    );
}

#[test]
fn the_end_of_the_host_is_no_wish() {
    let place = Place::new();
    let vm = run(&place, with_policy(&["sleep"], "unless-stopped"));
    let stop = Stop {
        host_ends: true,
        ..stop()
    };
    let last = client::stop(&place.host, &vm.id, stop).unwrap();
    assert!(last.state.is_final() && !last.was_stopped);
    assert!(last.spec.restart.applies_at_boot(last.was_stopped));
}
