//! What whoever drives Firecracker stumbles over: each pitfall has its number, and its test. Those
//! that need no process are beside the code (`grep pitfall_`).

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;
use std::time::Duration;

use firebuild_machine::record::State;
use firebuild_machine::vmm::VmmExit;
use firebuild_machine::vmm::firecracker::jail_of;
use firebuild_machine::{Ended, Error, Machine, client, metadata, reconcile};

use crate::place::{Place, calls, wait};
use crate::stand_in::Behaviour;

fn behaviour() -> Behaviour {
    Behaviour {
        minor: 17,
        ..Behaviour::default()
    }
}

pub(crate) fn pitfall_01_a_base_that_is_too_long_is_told_before_anything_starts() {
    let place = Place::new();
    let mut spec = place.run(&["say", "x", "0"], "true");
    let base = place.root().join("b".repeat(60));
    spec.firecracker.chroot_base = base.clone();
    let error = client::run(&place.host, spec, place.supervisor())
        .err()
        .unwrap();
    let text = error.to_string();
    assert!(text.contains(" bytes; it can have 107"), "{text}");
    assert!(error.hint().unwrap().contains(&*base.to_string_lossy()));
    assert!(client::list(&place.host).unwrap().is_empty() && !base.exists());
}

pub(crate) fn pitfall_02_firecrackers_words_and_status_are_in_the_error() {
    for (ends_early, ends_late, parts) in [
        (
            Some(153),
            None,
            ["status 153", "its arguments are wrong", "something to say"],
        ),
        (
            None,
            Some(148),
            [
                "status 148",
                "a system call that its filter",
                "says the log",
            ],
        ),
    ] {
        let place = Place::with(&Behaviour {
            ends_early,
            ends_late,
            ..behaviour()
        });
        let error = wait(place.refused(place.build()));
        assert!(matches!(error, Error::VmmFailed { .. }), "{error:?}");
        let text = error.to_string();
        for part in parts {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
    // The jailer's own, too: here it gets a user who is none.
    let place = Place::with(&behaviour());
    let mut spec = place.build();
    spec.firecracker.file_size = Some(0);
    let error = wait(place.refused(spec)).to_string();
    assert!(error.contains("firecracker` "), "{error}");
}

pub(crate) fn pitfall_02_a_slow_start_is_waited_for() {
    let place = Place::with(&Behaviour {
        hesitates: 700,
        ..behaviour()
    });
    wait(async {
        let machine = place.connected(place.build()).await;
        assert_eq!(machine.record().state, State::Running);
    });
}

pub(crate) fn pitfall_03_a_call_that_is_refused_is_named() {
    for path in ["/logger", "/drives/disk", "/actions"] {
        let place = Place::with(&Behaviour {
            refuses: Some(path.to_owned()),
            ..behaviour()
        });
        let error = wait(place.refused(place.build())).to_string();
        let expected = format!("`firecracker` refused `PUT {path}` for VM ");
        assert!(error.starts_with(&expected), "{error}");
        assert!(error.ends_with("with status 400: no such luck"), "{error}");
    }
}

pub(crate) fn pitfall_04_the_limit_of_metadata_is_known_here() {
    // A certificate of the user's own can be of any size, and is a part of the metadata.
    let place = Place::with(&behaviour());
    wait(async {
        let machine = place.connected(place.build()).await;
        let vmm = place.host.vmm().unwrap();
        let running = machine.running().unwrap();
        let mut document = crate::pitfalls::document();
        let rest = 51_200 - serde_json::to_string(&document).unwrap().len();
        document
            .latest
            .metadata
            .hostname
            .push_str(&"x".repeat(rest));
        vmm.set_metadata(running, &document).await.unwrap();
        document.latest.metadata.hostname.push('x');
        assert!(vmm.set_metadata(running, &document).await.is_err());
        // The same is refused here before it gets there.
        let checked = metadata::checked(&document.latest.metadata);
        assert!(matches!(
            checked,
            Err(Error::MetadataTooLarge { size: 51_201 })
        ));
    });
}

/// Some metadata.
fn document() -> firebuild_protocol::metadata::Document {
    let text = r#"{"latest": {"meta-data": {"vm-id": "x", "hostname": "x", "time": 0,
        "network": {"address": "10.0.0.2", "prefix": 24}}}}"#;
    serde_json::from_str(text).unwrap()
}

pub(crate) fn pitfall_05_what_an_earlier_life_left_is_in_nobodys_way() {
    let place = Place::new();
    wait(async {
        let mut machine = Machine::create(&place.host, place.build()).unwrap();
        let mut record = machine.record().clone();
        record.vmm = Some(place.host.vmm().unwrap().facts().clone());
        let (root, pid) = jail_of(&record).unwrap();
        fs_err::create_dir_all(root.join("run")).unwrap();
        let socket = root.join("run/firecracker.socket");
        // A socket of somebody who is gone, and files that are made only where none are.
        drop(std::os::unix::net::UnixListener::bind(socket).unwrap());
        fs_err::write(pid, "1").unwrap();
        fs_err::write(root.join("vm.kernel"), "old").unwrap();
        machine
            .start(firebuild_machine::testing::no_calls())
            .await
            .unwrap();
        machine.connected().await.unwrap();
    });
}

pub(crate) fn pitfall_06_nothing_open_is_inherited_when_many_start_at_once() {
    // What this program was started with it passes on.
    let passed_on = crate::jailer::open_files().unwrap();
    let place = Place::with(&behaviour());
    wait(async {
        let starts = (0..8).map(|_| place.connected(place.build()));
        let mut machines = Vec::new();
        let mut waiting: Vec<_> = starts.map(Box::pin).collect();
        // All at once.
        std::future::poll_fn(|cx| {
            waiting.retain_mut(|start| match start.as_mut().poll(cx) {
                std::task::Poll::Ready(machine) => {
                    machines.push(machine);
                    false
                }
                std::task::Poll::Pending => true,
            });
            match waiting.is_empty() {
                true => std::task::Poll::Ready(()),
                false => std::task::Poll::Pending,
            }
        })
        .await;
        for machine in &machines {
            let (root, _) = jail_of(machine.record()).unwrap();
            let inherited = fs_err::read_to_string(root.join("inherited")).unwrap();
            for file in inherited.lines() {
                assert!(
                    passed_on.iter().any(|it| it == file),
                    "`{file}` is another's"
                );
            }
        }
    });
}

pub(crate) fn pitfall_07_nothing_is_mounted() {
    let place = Place::new();
    wait(async {
        let machine = place.connected(place.build()).await;
        let (root, _) = jail_of(machine.record()).unwrap();
        let table = fs_err::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!table.contains(&*root.to_string_lossy()), "{table}");
        // One more name each for the image and the disk.
        for name in ["vm.root0", "vm.disk"] {
            assert_eq!(
                fs_err::metadata(root.join(name)).unwrap().nlink(),
                2,
                "{name}"
            );
        }
    });
}

pub(crate) fn pitfall_09_the_process_that_is_watched_is_firecracker() {
    let place = Place::new();
    wait(async {
        let machine = place.connected(place.build()).await;
        let (_, file) = jail_of(machine.record()).unwrap();
        let noted = fs_err::read_to_string(file).unwrap();
        assert_eq!(noted, machine.running().unwrap().pid().to_string());
        machine.kill();
        assert_eq!(machine.ended().await, Ended::Vmm(VmmExit::Signal(9)));
    });
}

pub(crate) fn pitfall_11_metadata_are_replaced_at_any_time() {
    let place = Place::new();
    wait(async {
        let machine = place.connected(place.build()).await;
        let vmm = place.host.vmm().unwrap();
        let running = machine.running().unwrap();
        vmm.pause(running).await.unwrap();
        vmm.set_metadata(running, &document()).await.unwrap();
        vmm.resume(running).await.unwrap();
        vmm.set_metadata(running, &document()).await.unwrap();
    });
}

pub(crate) fn pitfall_12_no_snapshots_are_made() {
    let place = Place::with(&behaviour());
    wait(async {
        let machine = place.connected(place.build()).await;
        let vmm = place.host.vmm().unwrap();
        vmm.pause(machine.running().unwrap()).await.unwrap();
        // None that could be copied while the guest writes, nor restored twice.
        let calls = calls(machine.record());
        assert!(
            !calls.iter().any(|call| call.contains("/snapshot")),
            "{calls:?}"
        );
    });
}

pub(crate) fn pitfall_13_the_guests_end_is_firecrackers() {
    let place = Place::with(&behaviour());
    let spec = place.run(&["reboot"], "");
    let vm = client::run(&place.host, spec, place.supervisor()).unwrap();
    let (id, record) = (vm.record().id.clone(), vm.record().clone());
    let taken = calls(&record);
    let last = client::stop(
        &place.host,
        &id,
        client::Stop::within(Duration::from_secs(20)),
    )
    .unwrap();
    place.assert_gone(&last);
    // The agent was asked, not the keyboard, which only some processors have.
    let actions = taken.iter().filter(|call| call.ends_with("/actions"));
    assert_eq!(actions.count(), 1);
}

pub(crate) fn pitfall_15_a_flood_is_bounded() {
    let place = Place::with(&Behaviour {
        floods: 4096,
        ..behaviour()
    });
    wait(async {
        let machine = place.connected(place.build()).await;
        let console = &machine.record().directories.console;
        let folder = fs_err::read_dir(console.parent().unwrap()).unwrap();
        let logs = folder.map(|entry| entry.unwrap());
        let logs = logs.filter(|it| it.file_name().to_string_lossy().contains("log"));
        let size: u64 = logs.map(|entry| entry.metadata().unwrap().len()).sum();
        assert!((512 << 10..=1 << 20).contains(&size), "{size}");
        let running = machine.running().unwrap();
        assert!(!running.complaints(usize::MAX).is_empty());
        assert!(running.complaints(usize::MAX).concat().len() <= 8 << 10);
    });
}

/// A build VM whose builder is killed, and its record.
fn orphan(place: &Place) -> firebuild_machine::Record {
    let mut builder = crate::host::program("builder", place.root());
    let mut builder = builder.stdout(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(builder.stdout.take().unwrap());
    assert!(output.lines().any(|line| line.unwrap() == "connected"));
    let record = client::list(&place.host).unwrap().remove(0);
    builder.kill().unwrap();
    builder.wait().unwrap();
    record
}

pub(crate) fn pitfall_17_a_killed_owner_leaves_nothing() {
    let place = Place::new();
    let record = orphan(&place);
    assert!(jail_of(&record).unwrap().0.exists());
    let dead = reconcile::reconcile(&place.host).unwrap();
    assert_eq!(dead, std::slice::from_ref(&record.id));
    place.assert_gone(&record);
}

pub(crate) fn pitfall_17_parts_vanish_one_by_one() {
    // What a reboot takes is not what a person takes, nor what an interrupted clean-up took.
    type Vanish = fn(&Place, &firebuild_machine::Record);
    let parts: [Vanish; 4] = [
        |place, record| {
            place.host.network.teardown(&record.id).unwrap();
        },
        |_, record| {
            let (root, _) = jail_of(record).unwrap();
            fs_err::remove_dir_all(root.parent().unwrap()).unwrap();
        },
        |_, record| {
            let (root, _) = jail_of(record).unwrap();
            fs_err::remove_dir_all(root.join("run")).unwrap();
        },
        |_, record| fs_err::remove_file(&record.directories.disk).unwrap(),
    ];
    for vanish in parts {
        let place = Place::new();
        let record = orphan(&place);
        // As a reboot does it, nothing runs any more.
        let pid = rustix::process::Pid::from_raw(record.processes.vmm.unwrap() as i32).unwrap();
        let handle = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty());
        if let Ok(handle) = handle {
            let kill = rustix::process::Signal::KILL;
            rustix::process::pidfd_send_signal(&handle, kill).unwrap();
            let mut end = [rustix::event::PollFd::new(
                &handle,
                rustix::event::PollFlags::IN,
            )];
            rustix::event::poll(&mut end, None).unwrap();
        }
        vanish(&place, &record);
        reconcile::reconcile(&place.host).unwrap();
        place.assert_gone(&record);
        assert!(client::list(&place.host).unwrap().is_empty());
    }
}
