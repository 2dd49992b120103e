//! A VM that is stopped, killed and paused, and goes on with its disk as it was.

use rustix::process::{Pid, Signal, kill_process};

use crate::live::{Live, Named};
use crate::session::output_of;
use crate::traces::{assert_gone, id};
use crate::{BASE, session};

/// Counts its starts on its disk, and writes on until it is asked to end.
const COUNTING: &str = r#"
trap 'echo kept > /kept; exit 0' TERM
echo start >> /count
sync
echo "start $(wc -l < /count), $(cat /kept 2>/dev/null)"
mkdir -p /noise
number=0
while sleep 0.05; do number=$((number + 1)); echo $number > /noise/$number; done
"#;

#[test]
fn a_vm_goes_on_with_its_disk_as_it_was() {
    let session = session();
    let vm = Named::new(&session, "again");
    session.ok(&[
        "run", "-d", "--name", vm.name, BASE, "--", "sh", "-c", COUNTING,
    ]);
    let first = vm.inspect();
    let id = id(&first);
    let interfaces = |record: &serde_json::Value| record["NetworkInterfaces"].clone();
    let disk = session
        .root()
        .join("v1/machines")
        .join(&id)
        .join("disk.img");
    let check = || output_of("e2fsck", &["-fn", disk.to_str().unwrap()]);

    let logs = || Live::start(&mut session.command(&["logs", "-f", vm.name]));
    logs().until("start 1, ");
    assert_eq!(session.ok(&["stop", vm.name]), "again\n");
    assert_gone(&session, &id);
    // It was unmounted: there is nothing to recover.
    assert!(!check().contains("recover"), "{}", check());
    assert_eq!(session.ok(&["start", vm.name]), "again\n");
    let again = vm.inspect();
    assert_eq!(
        (&again["Id"], &again["Spec"]),
        (&first["Id"], &first["Spec"])
    );
    assert_eq!(interfaces(&again), interfaces(&first));
    let mut following = logs();
    following.until("start 2, kept");

    // Everything dies at once.
    for process in ["Owner", "Vmm"] {
        let number = again["Processes"][process].as_i64().unwrap();
        let _ = kill_process(
            Pid::from_raw(number.try_into().unwrap()).unwrap(),
            Signal::KILL,
        );
    }
    following.end();
    assert_eq!(session.ok(&["start", vm.name]), "again\n");
    logs().until("start 3, kept");

    session.ok(&["pause", vm.name]);
    assert_eq!(vm.inspect()["State"]["Status"], "Paused");
    assert!(session.ok(&["ls"]).contains("paused"));
    session.ok(&["unpause", vm.name]);
    assert_eq!(session.ok(&["restart", "-t", "1m", vm.name]), "again\n");
    logs().until("start 4, kept");
    session.ok(&["kill", "--shutdown-timeout", "0", vm.name]);
    assert_eq!(session.ok(&["wait", vm.name]), "137\n");
    session.ok(&["rm", vm.name]);
    assert!(!disk.exists());
}
