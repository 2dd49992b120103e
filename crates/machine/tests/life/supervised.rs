//! The lives of VMs under their supervisors, with processes in place of VMs: everything but the
//! VMM and the kernel is real. Needs root.
use std::io::Write as _;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use firebuild_machine::output::Stream;
use firebuild_machine::record::{Exit, Record, State};
use firebuild_machine::{Host, client, reconcile};

use crate::host::{Place, spec};

/// A command that starts a VM whose guest never calls, and waits for it.
pub(crate) fn be_command() {
    let root = crate::host::root();
    let supervisor = crate::host::program("supervisor", &root);
    let started = client::run(&crate::host::host(&root), spec(&["hang"]), supervisor);
    panic!("{:?}", started.map(|vm| vm.record().clone()));
}

/// Looks again and again, for what comes of other processes and nobody tells of.
pub(crate) fn until(host: &Host, condition: impl Fn(&Host) -> bool) {
    for _ in 0..3000 {
        if condition(host) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it did not come to pass within 30 s");
}

/// Kills one process of ours, by the number in a record, and waits until it is gone.
pub(crate) fn kill_process(pid: Option<u32>) {
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
    let pid = Pid::from_raw(pid.unwrap().try_into().unwrap()).unwrap();
    let handle = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    pidfd_send_signal(&handle, Signal::KILL).unwrap();
    poll(&mut [PollFd::new(&handle, PollFlags::IN)], None).unwrap();
}

/// Whether a process is there and no zombie.
fn is_alive(pid: u32) -> bool {
    let stat = fs_err::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

/// A TCP port that nobody has at the moment.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn start(place: &Place, arguments: &[&str]) -> client::Attached {
    client::run(&place.host, spec(arguments), place.supervisor()).unwrap()
}

pub(crate) fn text(
    entries: impl Iterator<Item = Result<firebuild_machine::output::Entry, firebuild_machine::Error>>,
    of: Stream,
) -> String {
    let wanted = entries
        .map(Result::unwrap)
        .filter(|entry| entry.stream == of);
    let bytes: Vec<u8> = wanted.flat_map(|entry| entry.data).collect();
    String::from_utf8(bytes).unwrap()
}

fn failure(record: &Record) -> String {
    match &record.state {
        State::Failed { reason } => reason.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_workload_runs_and_ends() {
    let place = Place::new();
    let mut vm = start(&place, &["say", "hello", "7"]);
    let record = vm.record().clone();
    assert_eq!(record.state, State::Running);
    assert!(record.address().is_some() && record.started.is_some());
    let said = text(&mut vm, Stream::Stdout);
    assert_eq!(said, "hello\n");
    let last = vm.finish(&place.host).unwrap();
    let exit = Exit::Status(7);
    assert_eq!(last.state, State::Stopped { exit });
    assert!(last.finished.is_some());
    // Everybody else sees the same, later.
    assert_eq!(client::wait(&place.host, &last.id).unwrap(), last);
    assert_eq!(
        client::inspect(&place.host, last.id.as_str()).unwrap(),
        last
    );
    let again = client::logs(&place.host, &last.id, true).unwrap();
    assert_eq!(text(again, Stream::Stderr), "bye\n");
    place.assert_released(&last);
    client::rm(&place.host, &last.id).unwrap();
    client::rm(&place.host, &last.id).unwrap();
    assert!(client::list(&place.host).unwrap().is_empty());
}

#[test]
fn with_rm_nothing_is_missed_and_nothing_stays() {
    let place = Place::new();
    for _ in 0..3 {
        let mut spec = spec(&["say", "quick", "3"]);
        spec.remove = true;
        let mut vm = client::run(&place.host, spec, place.supervisor()).unwrap();
        assert_eq!(text(&mut vm, Stream::Stdout), "quick\n");
        let last = vm.finish(&place.host).unwrap();
        let exit = Exit::Status(3);
        assert_eq!(last.state, State::Stopped { exit });
        place.assert_released(&last);
        assert!(!last.directories.state.exists());
    }
}

#[test]
fn stopping_asks_first() {
    let place = Place::new();
    let id = start(&place, &["sleep"]).record().id.clone();
    client::signal(&place.host, &id, 10).unwrap();
    let stopped = client::stop(
        &place.host,
        &id,
        client::Stop::within(Duration::from_secs(60)),
    )
    .unwrap();
    let exit = Exit::Signal(15);
    assert_eq!(stopped.state, State::Stopped { exit });
    let logs = client::logs(&place.host, &id, false).unwrap();
    assert_eq!(text(logs, Stream::Stdout), "signal 10\n");
    place.assert_released(&stopped);
    // A second time does nothing.
    assert_eq!(
        client::stop(&place.host, &id, client::Stop::within(Duration::ZERO)).unwrap(),
        stopped
    );
    assert_eq!(client::kill(&place.host, &id).unwrap(), stopped);
    let error = client::signal(&place.host, &id, 15).unwrap_err();
    assert!(error.to_string().ends_with("does not run"));
}

/// What is asked in the moment of the end is answered, and holds nobody up.
#[test]
fn who_asks_at_the_very_end_hears_of_it() {
    const ASKERS: usize = 8;
    let place = Arc::new(Place::new());
    for _ in 0..3 {
        let running = start(&place, &["sleep"]).record().clone();
        let (tell, told) = std::sync::mpsc::channel();
        for _ in 0..ASKERS {
            let (place, id, tell) = (Arc::clone(&place), running.id.clone(), tell.clone());
            std::thread::spawn(move || {
                let asked = std::iter::repeat_with(|| client::signal(&place.host, &id, 10));
                let refused = asked.filter_map(Result::err).next();
                let _ = tell.send(refused.unwrap().to_string());
            });
        }
        kill_process(running.processes.vmm);
        for _ in 0..ASKERS {
            // Nobody is left waiting.
            told.recv_timeout(Duration::from_secs(30)).unwrap();
        }
        failure(&client::wait(&place.host, &running.id).unwrap());
        place.assert_released(&running);
    }
}

#[test]
fn a_vm_that_does_not_stop_is_killed() {
    let place = Place::new();
    let running = start(&place, &["stubborn"]).record().clone();
    let error = client::rm(&place.host, &running.id).unwrap_err();
    assert!(error.hint().unwrap().contains("firebuild stop"));
    let last = client::kill(&place.host, &running.id).unwrap();
    let exit = Exit::Signal(9);
    assert_eq!(last.state, State::Stopped { exit });
    place.assert_released(&last);
}

#[test]
fn a_guest_that_reboots_or_a_vmm_that_is_killed_ends_the_vm() {
    let place = Place::new();
    let vm = start(&place, &["reboot"]);
    client::signal(&place.host, &vm.record().id, 10).unwrap();
    let rebooted = vm.finish(&place.host).unwrap();
    assert!(failure(&rebooted).contains("rebooted or powered off"));
    assert!(
        failure(&rebooted).contains("the last words"),
        "{}",
        failure(&rebooted)
    );
    place.assert_released(&rebooted);

    let vm = start(&place, &["sleep"]);
    kill_process(vm.record().processes.vmm);
    let killed = vm.finish(&place.host).unwrap();
    assert!(failure(&killed).contains("was ended by signal 9"));
    place.assert_released(&killed);
}

#[test]
fn a_supervisor_that_is_killed_is_cleaned_up_after() {
    let place = Place::new();
    let mut vm = start(&place, &["sleep"]);
    let record = vm.record().clone();
    let vmm = record.processes.vmm.unwrap();
    kill_process(record.processes.owner);
    // Who was attached sees the end of the output, and the reason.
    assert!(vm.next().is_none());
    let last = vm.finish(&place.host).unwrap();
    assert!(failure(&last).contains("was killed"));
    place.assert_released(&last);
    assert!(!is_alive(vmm));

    // The next command does the same, whatever it is, and so do many at once.
    let other = start(&place, &["sleep"]).record().clone();
    kill_process(other.processes.owner);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| reconcile::reconcile(&place.host).unwrap());
        }
    });
    place.assert_released(&other);
    assert!(failure(&client::inspect(&place.host, other.id.as_str()).unwrap()).contains("killed"));
    let purged = reconcile::purge(&place.host).unwrap();
    assert_eq!(purged.machines.len(), 2);
    assert!(client::list(&place.host).unwrap().is_empty());
    assert_eq!(
        reconcile::purge(&place.host).unwrap(),
        reconcile::Purged::default()
    );
}

#[test]
fn what_keeps_a_workload_from_starting_is_told_and_leaves_nothing() {
    let place = Place::new();
    let refused = |arguments: &[&str]| {
        let error = client::run(&place.host, spec(arguments), place.supervisor());
        let error = error.map(|vm| vm.record().clone()).unwrap_err();
        assert!(client::list(&place.host).unwrap().is_empty());
        error
    };
    let error = refused(&["missing"]);
    assert_eq!(error.exit_status(), 127);
    assert!(
        error.to_string().contains("cannot find `missing`"),
        "{error}"
    );
    let error = refused(&["die-early"]);
    assert!(
        error.to_string().contains("reached the host: no such luck"),
        "{error}"
    );
    let error = refused(&["confused"]);
    assert!(
        error.to_string().contains("does not keep to the protocol"),
        "{error}"
    );
    let error = refused(&["never-calls"]);
    assert!(
        error
            .to_string()
            .contains("did not reach the host within 1 s"),
        "{error}"
    );
    assert!(reconcile::purge(&place.host).unwrap() == reconcile::Purged::default());
}

#[test]
fn a_name_and_a_port_belong_to_one() {
    let place = Place::new();
    let port = free_port();
    let named = |arguments: &[&str]| {
        let mut spec = spec(arguments);
        spec.name = Some("web".parse().unwrap());
        spec
    };
    let with_port = |arguments: &[&str]| {
        let mut spec = spec(arguments);
        spec.ports = vec![format!("127.0.0.1:{port}:80").parse().unwrap()];
        spec
    };
    let mut first = named(&["sleep"]);
    first.ports = with_port(&["sleep"]).ports;
    let first = client::run(&place.host, first, place.supervisor()).unwrap();
    let error = client::run(&place.host, named(&["sleep"]), place.supervisor()).unwrap_err();
    assert!(
        error.to_string().contains("the name `web` is taken"),
        "{error}"
    );
    let error = client::run(&place.host, with_port(&["sleep"]), place.supervisor()).unwrap_err();
    assert!(error.to_string().contains(&port.to_string()), "{error}");
    assert!(error.hint().unwrap().contains("publish on another port"));
    assert_eq!(client::list(&place.host).unwrap().len(), 1);
    let id = client::inspect(&place.host, "web").unwrap().id;
    assert_eq!(id, first.record().id);
    client::stop(
        &place.host,
        &id,
        client::Stop::within(Duration::from_secs(60)),
    )
    .unwrap();
}

#[test]
fn a_command_that_gives_up_takes_its_vm_along() {
    let place = Place::new();
    // This program once more, as the command that starts a VM whose guest never calls.
    let mut command = crate::host::program("command", place.root());
    let mut child = command.spawn().unwrap();
    until(&place.host, |host| {
        client::list(host)
            .unwrap()
            .iter()
            .any(|r| r.processes.vmm.is_some())
    });
    let record = client::list(&place.host).unwrap().remove(0);
    child.kill().unwrap();
    child.wait().unwrap();
    until(&place.host, |host| client::list(host).unwrap().is_empty());
    place.assert_released(&record);
}

#[test]
fn output_is_followed_as_it_comes() {
    let place = Place::new();
    let vm = start(&place, &["count", "2000"]);
    let id = vm.record().id.clone();
    let follower = client::logs(&place.host, &id, true).unwrap();
    let expected: String = (0..2000).map(|number| format!("{number}\n")).collect();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| text(follower, Stream::Stdout));
        let mut vm = vm;
        assert_eq!(text(&mut vm, Stream::Stdout), expected);
        assert_eq!(other.join().unwrap(), expected);
        vm.finish(&place.host).unwrap();
    });
}

#[test]
fn a_slow_reader_in_the_foreground_misses_nothing() {
    let place = Place::new();
    let mut spec = spec(&["flood", "1600"]);
    spec.remove = true;
    let vm = client::run(&place.host, spec, place.supervisor()).unwrap();
    let segment = |number| {
        let directory = &vm.record().directories.state;
        directory.join(format!("output.{number}.log"))
    };
    // Two segments of 32 MiB are kept; there are 100 MiB to come.
    let is_full =
        |number| fs_err::metadata(segment(number)).is_ok_and(|file| file.len() > 23 << 20);
    until(&place.host, |_| is_full(0) && is_full(1));
    std::thread::sleep(Duration::from_millis(300));
    assert!(segment(0).exists() && !segment(2).exists());
    let mut vm = vm;
    let read: usize = vm.by_ref().map(|entry| entry.unwrap().data.len()).sum();
    assert_eq!(read, 1600 * (64 << 10));
    vm.finish(&place.host).unwrap();
    // Nobody waits for a reader when the VM is to end, or when there is none.
    let vm = start(&place, &["flood", "1600"]);
    client::kill(&place.host, &vm.record().id).unwrap();
    let vm = start(&place, &["flood", "1600"]);
    let id = vm.record().id.clone();
    drop(vm);
    let exit = Exit::Status(0);
    let last = client::wait(&place.host, &id).unwrap();
    assert_eq!(last.state, State::Stopped { exit });
}

#[test]
fn twenty_at_once() {
    let place = Place::new();
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for number in 0..20_u8 {
            let place = &place;
            scope.spawn(move || {
                let code = number.to_string();
                let mut vm = start(place, &["say", "hi", &code]);
                assert_eq!(text(&mut vm, Stream::Stdout), "hi\n");
                let last = vm.finish(&place.host).unwrap();
                let exit = Exit::Status(number);
                assert_eq!(last.state, State::Stopped { exit });
                place.assert_released(&last);
            });
        }
    });
    let _ = writeln!(std::io::stderr(), "twenty VMs took {:?}", begin.elapsed());
    assert_eq!(client::list(&place.host).unwrap().len(), 20);
    assert_eq!(reconcile::purge(&place.host).unwrap().machines.len(), 20);
}

#[test]
fn a_path_that_is_too_long_is_refused_before_anything_starts() {
    let place = Place::new();
    let host = Host {
        run: place.root().join("r".repeat(90)),
        ..place.host.clone()
    };
    let error = client::run(&host, spec(&["sleep"]), Command::new("/none")).unwrap_err();
    assert!(error.to_string().contains("it can have 107"), "{error}");
    assert!(client::list(&place.host).unwrap().is_empty());
}

#[test]
fn a_record_that_nobody_understands_is_in_nobodys_way() {
    let place = Place::new();
    let live = start(&place, &["sleep"]).record().clone();
    let [ended, dead] = [(); 2].map(|()| {
        let vm = start(&place, &["say", "hello", "0"]);
        vm.finish(&place.host).unwrap()
    });
    let hurt = |record: &Record, file: &str, text: &[u8]| {
        fs_err::write(record.directories.state.join(file), text).unwrap();
    };
    hurt(&live, "record.json", b"{\"Newer\":1}");
    hurt(&ended, "record.json", b"");
    hurt(&ended, "identity.json", b"[");
    hurt(&dead, "identity.json", b"\0\0\0\0");
    assert_eq!(reconcile::reconcile(&place.host).unwrap(), []);
    let survey = client::survey(&place.host).unwrap();
    let ids: Vec<_> = survey.records.iter().map(|record| &record.id).collect();
    assert_eq!(ids, [&dead.id]);
    let mut seen: Vec<_> = survey.damaged.iter().map(|vm| (&vm.id, vm.runs)).collect();
    seen.sort();
    let mut expected = [(&live.id, true), (&ended.id, false)];
    expected.sort();
    assert_eq!(seen, expected);
    let error = client::inspect(&place.host, live.id.as_str()).unwrap_err();
    assert!(error.hint().unwrap().contains("firebuild rm"), "{error}");
    // Others go on as if it were not there, and what runs is not touched.
    let another = start(&place, &["say", "hello", "0"]);
    another.finish(&place.host).unwrap();
    let error = client::rm(&place.host, &live.id).unwrap_err();
    assert!(error.to_string().contains("runs"), "{error}");
    let mut purged = reconcile::purge(&place.host).unwrap().machines;
    purged.retain(|id| [&ended.id, &dead.id].contains(&id));
    assert_eq!(purged.len(), 2);
    assert!(is_alive(live.processes.vmm.unwrap()));
    client::end_and_remove(&place.host, &live.id).unwrap();
    place.assert_released(&live);
    let left = client::survey(&place.host).unwrap();
    assert!(left.records.is_empty() && left.damaged.is_empty());
}

#[test]
fn what_a_dead_vm_left_goes_though_its_record_is_damaged() {
    let place = Place::new();
    let vm = start(&place, &["sleep"]);
    let record = client::inspect(&place.host, vm.record().id.as_str()).unwrap();
    drop(vm);
    // Both at once, so that nothing is given back.
    kill_process(record.processes.owner);
    kill_process(record.processes.vmm);
    fs_err::write(record.directories.state.join("record.json"), b"{}").unwrap();
    assert_eq!(reconcile::reconcile(&place.host).unwrap(), []);
    client::rm(&place.host, &record.id).unwrap();
    place.assert_released(&record);
    assert!(client::survey(&place.host).unwrap().damaged.is_empty());
}
