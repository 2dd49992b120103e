//! What a VM may take of its host, while it runs.

use std::time::{Duration, Instant};

use crate::live::{Live, Named};
use crate::{BASE, session};

/// What the guest's kernel kills is told where people look.
#[test]
fn a_workload_that_wants_more_memory_than_there_is_is_known_by_it() {
    let session = session();
    let vm = Named::new(&session, "hungry");
    // A line without an end, which it keeps all of.
    let hunger = "tail /dev/zero; echo survived; exit 3";
    let ran = session.run(&[
        "run", "--name", vm.name, "--mem", "128", BASE, "--", "sh", "-c", hunger,
    ]);
    assert_eq!(
        (ran.status, ran.stdout.as_str()),
        (3, "survived\n"),
        "{ran}"
    );
    assert_eq!(vm.inspect()["OOMKilled"], true);
    let listed = session.ok(&["ls", "--all"]);
    assert!(listed.contains("stopped (out of memory)"), "{listed}");
    let filter = format!("vm={}", vm.name);
    let past = ["events", "--since", "1h", "--until", "0s", "--filter"];
    let events = session.ok(&[&past[..], &[&filter]].concat());
    assert!(
        events.contains("oom") && events.contains("guestKills=1"),
        "{events}"
    );
    let console = session.ok(&["logs", "--console", vm.name]);
    assert!(console.contains("Out of memory"), "{console}");
}

#[test]
fn the_rates_of_disks_change_while_the_vm_runs() {
    let session = session();
    for begun_with in [None, Some("1G")] {
        let vm = Named::new(&session, "rated");
        let mut arguments = vec!["run", "-d", "--name", vm.name];
        arguments.extend(
            begun_with
                .iter()
                .flat_map(|rate| ["--device-read-bps", rate]),
        );
        let script = "echo ready; exec sleep 1000";
        arguments.extend([BASE, "--", "sh", "-c", script]);
        session.ok(&arguments);
        Live::start(&mut session.command(&["logs", "-f", vm.name])).until("ready");
        let read = |mebibytes: &str| {
            let script =
                format!("dd if=/dev/vda of=/dev/null bs=1M count={mebibytes} iflag=direct");
            let begin = Instant::now();
            session.ok(&["exec", vm.name, "--", "sh", "-ec", &script]);
            begin.elapsed()
        };
        let before = read("6");
        session.ok(&["update", "--device-read-bps", "1M", vm.name]);
        // What comes at once at first is less than a second's.
        let limited = read("6");
        assert!(limited >= Duration::from_secs(4), "{limited:?}, {before:?}");
        session.ok(&["update", "--device-read-bps", "1G", vm.name]);
        let after = read("6");
        assert!(after < limited, "{after:?}, {limited:?}");
        let limits = vm.inspect()["Spec"]["Limits"].clone();
        assert_eq!(limits["Disks"]["ReadBytes"], 1 << 30, "{limits}");
        session.ok(&["kill", vm.name]);
        session.ok(&["rm", vm.name]);
    }
}
