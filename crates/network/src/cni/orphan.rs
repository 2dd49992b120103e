//! Plugins whose firebuild was killed while they were at work. They would go on adding while
//! somebody else deletes.
//!
//! They are left time to end by themselves: one that is killed half-way through leaves what no other
//! finds (the plugin `bridge` looks at a device for what to delete, once it has removed the device).

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use firebuild_core::MachineId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::plugin::CONTAINER;

/// How long the kernel may take to end a process that was killed.
const KILL_TIME: Duration = Duration::from_secs(5);

/// Waits until every process that works for a VM as a plugin, or was started by one, has ended, and
/// kills it if it takes longer than `limit`. They are known by their environment.
pub(crate) fn end(id: &MachineId, limit: Duration) -> io::Result<()> {
    let deadline = Instant::now() + limit;
    for pid in at_work(id)? {
        let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else {
            continue;
        };
        // The handle is of that process, and not of another that has its number by now.
        if !works_for(pid, id) {
            continue;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if !has_ended(&handle, left)? {
            let _ = pidfd_send_signal(&handle, Signal::KILL);
            has_ended(&handle, KILL_TIME)?;
        }
    }
    Ok(())
}

fn has_ended(handle: &OwnedFd, within: Duration) -> io::Result<bool> {
    let limit = Timespec::try_from(within).map_err(io::Error::other)?;
    let mut end = [PollFd::new(handle, PollFlags::IN)];
    Ok(rustix::io::retry_on_intr(|| poll(&mut end, Some(&limit)))? > 0)
}

fn at_work(id: &MachineId) -> io::Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in fs_err::read_dir("/proc")? {
        let name = entry?.file_name();
        let pid = name.to_str().and_then(|name| name.parse().ok());
        found.extend(
            pid.and_then(Pid::from_raw)
                .filter(|pid| works_for(*pid, id)),
        );
    }
    Ok(found)
}

fn works_for(pid: Pid, id: &MachineId) -> bool {
    // One that has ended since has none.
    let environment = fs_err::read(format!("/proc/{}/environ", pid.as_raw_nonzero()));
    let wanted = format!("{CONTAINER}={id}");
    environment.is_ok_and(|environment| {
        environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == wanted.as_bytes())
    })
}
