//! VMs that end in another way: a reboot inside, a VMM or a supervisor that is killed.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value;

use crate::live::{Live, Named};
use crate::traces::{assert_gone, id};
use crate::{BASE, session};

const WAITING: &str = "echo ready; exec sleep 1000";

/// Kills a process of a VM, and waits until it is dead.
fn kill(record: &Value, process: &str) {
    let number = record["Processes"][process].as_i64().unwrap();
    let process = Pid::from_raw(i32::try_from(number).unwrap()).unwrap();
    let process = pidfd_open(process, PidfdFlags::empty()).unwrap();
    pidfd_send_signal(&process, Signal::KILL).unwrap();
    // It can be read once the process has let go of everything.
    poll(&mut [PollFd::new(&process, PollFlags::IN)], None).unwrap();
}

#[test]
fn a_reboot_inside_is_the_end() {
    let session = session();
    let vm = Named::new(&session, "rebooted");
    let script = "echo ready; exec perl -e 'syscall(169, 0xfee1dead, 672274793, 0x1234567, 0)'";
    let arguments = ["run", "--name", vm.name, BASE, "--", "sh", "-c", script];
    let mut run = Live::start(&mut session.command(&arguments));
    run.until("ready");
    let (status, said) = run.end();
    assert_eq!(status, Some(125), "{said}");
    assert!(said.contains("error: "), "{said}");
    let record = vm.inspect();
    assert_eq!(record["State"]["Status"], "Failed", "{record}");
    assert_gone(&session, &id(&record));
}

#[test]
fn a_killed_vmm_is_the_end() {
    let session = session();
    let vm = Named::new(&session, "crashed");
    let arguments = ["run", "--name", vm.name, BASE, "--", "sh", "-c", WAITING];
    let mut run = Live::start(&mut session.command(&arguments));
    run.until("ready");
    let record = vm.inspect();
    kill(&record, "Vmm");
    let (status, said) = run.end();
    assert_eq!(status, Some(125), "{said}");
    assert!(said.contains("error: "), "{said}");
    assert_gone(&session, &id(&record));
    assert_eq!(vm.inspect()["State"]["Status"], "Failed");
}

#[test]
fn what_a_killed_supervisor_leaves_goes_with_the_next_command() {
    let session = session();
    let vm = Named::new(&session, "orphaned");
    session.ok(&[
        "run", "-d", "--name", vm.name, BASE, "--", "sh", "-c", WAITING,
    ]);
    let mut logs = Live::start(&mut session.command(&["logs", "-f", vm.name]));
    logs.until("ready");
    let record = vm.inspect();
    let id = id(&record);
    kill(&record, "Owner");
    logs.end();
    assert!(!session.ok(&["ls"]).contains(vm.name));
    assert_gone(&session, &id);
    assert_eq!(vm.inspect()["State"]["Status"], "Failed");
    assert!(session.ok(&["purge"]).contains(&id));
    assert_eq!(session.run(&["inspect", vm.name]).status, 125);
    assert_gone(&session, &id);
    assert!(!session.root().join("v1/machines").join(&id).exists());
}
