//! The VM's end: no process left, everything on the disk, the machine restarted, which is what
//! makes a VMM exit.

use std::time::Duration;

use rustix::mount::{MountFlags, mount_remount};
use rustix::system::{RebootCommand, reboot};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::console;
use crate::drives::{self, DISK};
use crate::error::{Doing as _, Result};
use crate::reaper::{self, Reaper};

const TERMINATE: u32 = 15;
const KILL: u32 = 9;
/// How long processes other than the workload may take to end.
const GRACE: Duration = Duration::from_secs(2);
/// How long killed processes may take to be gone.
const GONE: Duration = Duration::from_secs(2);

/// What programs in the guest send to the first process to end the machine: `halt`, `poweroff` and
/// `reboot` of busybox and sysvinit, and the kernel on Ctrl-Alt-Del.
pub(crate) struct Requests([Signal; 4]);

impl Requests {
    /// Starts to listen.
    pub(crate) fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).doing(|| "listen for signals".to_owned());
        Ok(Self([
            listen(SignalKind::terminate())?,
            listen(SignalKind::user_defined1())?,
            listen(SignalKind::user_defined2())?,
            listen(SignalKind::interrupt())?,
        ]))
    }

    /// Resolves with the next request.
    pub(crate) async fn next(&mut self) {
        let [terminate, halt, power_off, interrupt] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = halt.recv() => {}
            _ = power_off.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}

/// Ends every process and brings what they wrote to the disk.
pub(crate) async fn settle(reaper: &Reaper) {
    for (number, patience) in [(TERMINATE, GRACE), (KILL, GONE)] {
        reaper::send_to_all(number);
        if tokio::time::timeout(patience, reaper.all_ended())
            .await
            .is_ok()
        {
            break;
        }
    }
    rustix::fs::sync();
    drives::release_further();
    // What is still open keeps the disk writable; then the journal has to do.
    let _ = mount_remount(DISK, MountFlags::RDONLY, c"");
    console::debug(|| "settled".to_owned());
}

/// Restarts the machine, in the way that the kernel's command line says.
pub(crate) fn restart() {
    // It says that it restarts as if that were the end of the world.
    console::hush_kernel();
    let _ = reboot(RebootCommand::Restart);
}
