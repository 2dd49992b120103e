//! The supervisor of a VM that does nothing: it does nothing, and takes little.

use std::time::Duration;

use crate::live::Named;
use crate::{BASE, session};

/// How long nothing is to happen: longer than any timer of the guest's agent.
const QUIET: Duration = Duration::from_secs(20);

/// The value of a line of a process's status.
fn status(process: u64, name: &str) -> u64 {
    let text = fs_err::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap();
    let number = line.trim_start_matches(':').split_ascii_whitespace().next();
    number.unwrap().parse().unwrap()
}

#[test]
fn the_supervisor_of_an_idle_vm_sleeps() {
    let session = session();
    let vm = Named::new(&session, "idle");
    session.ok(&[
        "run", "-d", "--name", vm.name, BASE, "--", "sleep", "1000000",
    ]);
    let owner = vm.inspect()["Processes"]["Owner"].as_u64().unwrap();
    let woken = || status(owner, "voluntary_ctxt_switches");
    // What comes of the start is over soon; the last is that memory is given back, after three seconds.
    let mut before = woken();
    for _ in 0..12 {
        std::thread::sleep(Duration::from_secs(5));
        let now = woken();
        if now == before {
            break;
        }
        before = now;
    }
    std::thread::sleep(QUIET);
    assert_eq!(woken(), before);
    // Its own memory, in KiB; that of the program's file is the page cache's.
    assert!(status(owner, "RssAnon") < 6 << 10);
    session.ok(&["rm", "-f", vm.name]);
}
