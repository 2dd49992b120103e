//! What a VM may take of its host, while it runs.

use std::time::{Duration, Instant};

use crate::live::{Live, Named};
use crate::{BASE, session};

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
