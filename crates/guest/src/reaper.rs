//! Waiting for processes. As the first process the agent inherits every orphan, so one place waits
//! for all of them and passes on the ends that somebody asked for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use firebuild_protocol::v1::Exit;
use firebuild_protocol::v1::exit::How;
use rustix::process::{Pid, WaitOptions, kill_process, kill_process_group, wait};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{Notify, oneshot};

use crate::error::{Doing as _, Result};
use crate::sys;

type Waiting = Arc<Mutex<HashMap<i32, oneshot::Sender<Exit>>>>;

/// Waits for all processes.
#[derive(Clone)]
pub(crate) struct Reaper {
    waiting: Waiting,
    childless: Arc<Notify>,
}

/// A process whose end is waited for.
pub(crate) struct Child {
    pid: u32,
    exit: oneshot::Receiver<Exit>,
}

impl Reaper {
    /// Starts to wait.
    pub(crate) fn start() -> Result<Self> {
        let mut signals =
            signal(SignalKind::child()).doing(|| "listen for ended processes".to_owned())?;
        let reaper = Self {
            waiting: Waiting::default(),
            childless: Arc::default(),
        };
        let own = reaper.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                own.reap();
            }
        });
        Ok(reaper)
    }

    /// Waits for a process that was started just now, without anything awaited since.
    pub(crate) fn adopt(&self, pid: u32) -> Child {
        let (sender, exit) = oneshot::channel();
        let key = i32::try_from(pid).unwrap_or_default();
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, sender);
        Child { pid, exit }
    }

    /// Resolves once there are no processes left.
    pub(crate) async fn all_ended(&self) {
        loop {
            let notified = self.childless.notified();
            if self.reap() {
                return;
            }
            notified.await;
        }
    }

    /// Waits for all that have ended. True if there is no process left.
    fn reap(&self) -> bool {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    let status = exit(status.exit_status(), status.terminating_signal());
                    let waiting = self
                        .waiting
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .remove(&pid.as_raw_nonzero().get());
                    if let (Some(waiting), Some(status)) = (waiting, status) {
                        // Whoever asked may have lost interest.
                        let _ = waiting.send(status);
                    }
                }
                Ok(None) => return false,
                Err(rustix::io::Errno::INTR) => {}
                // There are none.
                Err(_) => {
                    self.childless.notify_waiters();
                    return true;
                }
            }
        }
    }
}

fn exit(status: Option<i32>, signal: Option<i32>) -> Option<Exit> {
    let how = match (status, signal) {
        (Some(status), _) => How::Status(u32::try_from(status).unwrap_or(255)),
        (None, Some(signal)) => How::Signal(u32::try_from(signal).unwrap_or(0)),
        (None, None) => return None,
    };
    Some(Exit { how: Some(how) })
}

impl Child {
    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.exit.try_recv(), Err(TryRecvError::Empty))
    }

    /// How it ended. If that can no longer be known, as if it had been killed.
    pub(crate) async fn exit(self) -> Exit {
        self.exit.await.unwrap_or(Exit {
            how: Some(How::Signal(9)),
        })
    }

    /// The same, for a place that does other things while it waits.
    pub(crate) async fn exited(&mut self) -> Exit {
        (&mut self.exit).await.unwrap_or(Exit {
            how: Some(How::Signal(9)),
        })
    }
}

/// Sends a signal to one process. One that has ended meanwhile does not mind.
pub(crate) fn send(pid: u32, number: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let (Some(pid), Some(signal)) = (pid, sys::signal(number)) {
        let _ = kill_process(pid, signal);
    }
}

/// Sends a signal to a process that leads a group, and to that group.
pub(crate) fn send_to_group(pid: u32, number: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // The group of the first process would be the agent's own.
    let pid = pid.filter(|pid| !pid.is_init());
    if let (Some(pid), Some(signal)) = (pid, sys::signal(number)) {
        let _ = kill_process_group(pid, signal);
    }
}

/// Sends a signal to every process of the VM but the agent.
pub(crate) fn send_to_all(number: u32) {
    for entry in fs_err::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        // Kernel threads are among them and ignore it.
        if let Some(pid) = pid.filter(|pid| *pid != 1) {
            send(pid, number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// The reaper takes the ends of all children of its process, so it is tried in one of its own.
    #[test]
    fn ends_are_told_to_who_asked() {
        const ALONE: &str = "FIREBUILD_REAPER_ALONE";
        if std::env::var_os(ALONE).is_some() {
            let runtime = tokio::runtime::Builder::new_current_thread();
            return { runtime }
                .enable_all()
                .build()
                .unwrap()
                .block_on(all_ends());
        }
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "reaper::tests::ends_are_told_to_who_asked"])
            .env(ALONE, "1")
            .status()
            .unwrap();
        assert!(status.success());
    }

    #[allow(clippy::zombie_processes, reason = "the reaper waits for them")]
    async fn all_ends() {
        let reaper = Reaper::start().unwrap();
        for (script, expected) in [
            ("exit 0", How::Status(0)),
            ("exit 42", How::Status(42)),
            ("kill -9 $$", How::Signal(9)),
        ] {
            let process = Command::new("sh").args(["-c", script]).spawn().unwrap();
            let exit = reaper.adopt(process.id()).exit().await;
            assert_eq!(exit.how, Some(expected), "{script}");
        }
        let process = Command::new("sleep").arg("100").spawn().unwrap();
        let mut child = reaper.adopt(process.id());
        assert!(!child.has_ended());
        send(child.pid(), 9);
        assert_eq!(child.exited().await.how, Some(How::Signal(9)));
        assert!(child.has_ended());
        reaper.all_ended().await;
    }
}
