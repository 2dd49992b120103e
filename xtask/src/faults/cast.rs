//! Who takes part: the processes that are followed, by their roles, and the VMMs, which are not.

use std::collections::{BTreeMap, BTreeSet};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::point::Point;
use super::{Victim, host};

#[derive(Debug, Default)]
struct Process {
    role: String,
    last: Option<Point>,
}

/// Everybody who may be a victim.
#[derive(Debug, Default)]
pub(super) struct Cast {
    processes: BTreeMap<i32, Process>,
    vmms: BTreeSet<i32>,
}

impl Cast {
    /// A process, and what it is there.
    pub(super) fn add(&mut self, process: i32, role: &str) {
        self.processes.entry(process).or_default().role = role.to_owned();
    }

    /// A VMM.
    pub(super) fn add_vmm(&mut self, process: i32) {
        self.vmms.insert(process);
    }

    /// One that has ended.
    pub(super) fn remove(&mut self, process: i32) {
        self.processes.remove(&process);
        self.vmms.remove(&process);
    }

    /// Another program runs in a process now, which may give it another role. Whether that is a VMM.
    pub(super) fn executed(&mut self, process: i32) -> bool {
        let line = fs_err::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        let words: Vec<String> = line
            .split(|byte| *byte == 0)
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        if words.iter().take(2).any(|word| host::is_vmm(word)) {
            self.processes.remove(&process);
            self.vmms.insert(process);
            return true;
        }
        let process = self.processes.entry(process).or_default();
        if words.iter().any(|word| word == "supervise") {
            process.role = "supervisor".to_owned();
        } else if process.role.is_empty() {
            let name = words.first().map(String::as_str).unwrap_or_default();
            process.role = name.rsplit('/').next().unwrap_or_default().to_owned();
        }
        false
    }

    /// A process is at a point: what it is called. Nothing if it was there just before.
    pub(super) fn passes(&mut self, process: i32, point: &Point) -> Option<String> {
        let process = self.processes.entry(process).or_default();
        if process.last.as_ref() == Some(point) {
            return None;
        }
        process.last = Some(point.clone());
        Some(if process.role.is_empty() {
            "child".to_owned()
        } else {
            process.role.clone()
        })
    }

    /// Who could be killed now. If there is nobody but the one that makes the call, that is everybody.
    pub(super) fn victims(&self, caller: i32) -> BTreeSet<Victim> {
        let mut victims = BTreeSet::from([Victim::Caller]);
        if self.processes.len() + self.vmms.len() > 1 {
            victims.insert(Victim::All);
        }
        let others = self.processes.iter().filter(|(pid, _)| **pid != caller);
        for (_, process) in others {
            match process.role.as_str() {
                "command" => victims.insert(Victim::Command),
                "supervisor" => victims.insert(Victim::Supervisor),
                _ => false,
            };
        }
        if !self.vmms.is_empty() {
            victims.insert(Victim::Vmm);
        }
        victims
    }

    pub(super) fn kill(&self, caller: i32, victim: Victim) -> anyhow::Result<()> {
        let of_role = |role: &str| {
            let named = self.processes.iter().filter(move |(_, it)| it.role == role);
            named.map(|(pid, _)| *pid).collect::<Vec<_>>()
        };
        let dying: Vec<i32> = match victim {
            Victim::Caller => vec![caller],
            Victim::Command => of_role("command"),
            Victim::Supervisor => of_role("supervisor"),
            Victim::Vmm => self.vmms.iter().copied().collect(),
            Victim::All | Victim::Host => {
                self.processes.keys().chain(&self.vmms).copied().collect()
            }
        };
        for pid in &dying {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        // Whoever goes on finds it dead.
        for pid in dying.iter().filter(|pid| self.vmms.contains(pid)) {
            host::until_dead(*pid)?;
        }
        Ok(())
    }
}
