//! Follows processes and all that they start, stops them at each point, and kills at one of them.
//!
//! One thread does it all, in a process that is the first of its process namespace: whatever loses
//! its parent becomes a child of it, so that nothing gets away, and every end is heard of here.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context as _, bail};
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::cast::Cast;
use super::class::Classes;
use super::point::{Call, Point, point};
use super::{Victim, host};

/// The stop that a newly followed process begins with, and those of job control.
const EVENT_STOP: i32 = 128;

/// A point that was passed.
#[derive(Debug, Clone)]
pub(super) struct Passed {
    /// Who was about to make the call: `command`, `supervisor`, or another program's name.
    pub(super) who: String,
    /// The call.
    pub(super) point: Point,
    /// Which points are the same place in the code.
    pub(super) class: String,
    /// Which victims there were.
    pub(super) victims: BTreeSet<Victim>,
}

/// A death that is to be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Death {
    /// The number of the point when the points were recorded, from 0: for people.
    pub(super) at: usize,
    /// The point's class; if that is empty, only the number counts.
    pub(super) class: String,
    /// Which of its class it is, from 0.
    pub(super) nth: usize,
    /// Who dies.
    pub(super) victim: Victim,
}

/// What is followed, and what was seen.
#[derive(Debug, Default)]
pub(super) struct Trace {
    /// Threads, and whether each is inside a call.
    threads: BTreeMap<i32, bool>,
    cast: Cast,
    ended: BTreeMap<i32, i32>,
    counting: bool,
    death: Option<Death>,
    classes: Classes,
    /// How many of the death's class were passed.
    met: usize,
    /// The points that were passed.
    pub(super) passed: Vec<Passed>,
}

impl Trace {
    /// Begins to count points, and kills at one of them, if any.
    pub(super) fn count(&mut self, death: Option<Death>) {
        self.counting = true;
        self.death = death;
        self.met = 0;
        self.passed.clear();
    }

    /// Counts no more, and lets what is followed run freely.
    pub(super) fn stop_counting(&mut self) {
        self.counting = false;
        self.death = None;
    }

    /// Whether the death came about.
    pub(super) fn has_killed(&self) -> bool {
        self.counting && self.death.is_none()
    }

    /// Starts a command and follows it.
    pub(super) fn start(&mut self, command: &Command) -> anyhow::Result<i32> {
        let mut stopped = Command::new("/bin/sh");
        stopped.args(["-c", "kill -STOP $$; exec \"$@\"", "sh"]);
        stopped.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => stopped.env(name, value),
                None => stopped.env_remove(name),
            };
        }
        if let Some(directory) = command.get_current_dir() {
            stopped.current_dir(directory);
        }
        let output = host::output()?;
        stopped
            .stdin(std::process::Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let child = i32::try_from(stopped.spawn()?.id())?;
        let flags = WaitPidFlag::WUNTRACED | WaitPidFlag::__WALL;
        waitpid(Pid::from_raw(child), Some(flags))?;
        self.seize(child)?;
        self.cast.add(child, "command");
        kill(Pid::from_raw(child), Signal::SIGCONT)?;
        Ok(child)
    }

    /// Follows a process that runs, all its threads, and what it will start.
    pub(super) fn follow(&mut self, process: i32, role: &str) -> anyhow::Result<()> {
        for entry in fs_err::read_dir(format!("/proc/{process}/task"))? {
            let thread: i32 = entry?.file_name().to_string_lossy().parse()?;
            self.seize(thread)?;
            ptrace::interrupt(Pid::from_raw(thread))?;
        }
        self.cast.add(process, role);
        Ok(())
    }

    /// A VMM that is not followed, but may be a victim.
    pub(super) fn knows_vmm(&mut self, process: i32) {
        self.cast.add_vmm(process);
    }

    fn seize(&mut self, thread: i32) -> anyhow::Result<()> {
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEEXEC;
        ptrace::seize(Pid::from_raw(thread), options)
            .with_context(|| format!("cannot follow process {thread}"))?;
        self.threads.insert(thread, false);
        Ok(())
    }

    /// Lets everything run until process `wanted`, a child of this one, has ended. Its status, as a shell
    /// tells it; none if `seconds` went by before.
    pub(super) fn wait(&mut self, wanted: i32, seconds: u32) -> anyhow::Result<Option<i32>> {
        // Its end is waited for like any other.
        let alarm = Command::new("sleep").arg(seconds.to_string()).spawn()?;
        let alarm = i32::try_from(alarm.id())?;
        let status = self.first_of(&[wanted, alarm])?;
        if status.0 == alarm {
            return Ok(None);
        }
        let _ = kill(Pid::from_raw(alarm), Signal::SIGKILL);
        self.first_of(&[alarm])?;
        Ok(Some(status.1))
    }

    /// Lets everything run for a moment.
    pub(super) fn breathe(&mut self) -> anyhow::Result<()> {
        let moment = Command::new("sleep").arg("0.01").spawn()?;
        let moment = i32::try_from(moment.id())?;
        self.first_of(&[moment]).map(drop)
    }

    /// Lets everything run until one of these has ended: which, and its status.
    fn first_of(&mut self, wanted: &[i32]) -> anyhow::Result<(i32, i32)> {
        loop {
            for process in wanted {
                if let Some(status) = self.ended.remove(process) {
                    return Ok((*process, status));
                }
            }
            match waitpid(None, Some(WaitPidFlag::__WALL)) {
                Ok(status) => self.handle(status)?,
                Err(Errno::EINTR) => {}
                Err(error) => bail!("cannot wait for processes: {error}"),
            }
        }
    }

    fn handle(&mut self, status: WaitStatus) -> anyhow::Result<()> {
        match status {
            WaitStatus::Exited(pid, code) => self.end(pid, code),
            WaitStatus::Signaled(pid, signal, _) => self.end(pid, 128 + signal as i32),
            WaitStatus::PtraceSyscall(pid) => self.call(pid)?,
            WaitStatus::PtraceEvent(pid, _, event) => {
                if event == libc_event(ptrace::Event::PTRACE_EVENT_EXEC) && self.executed(pid) {
                    return Ok(());
                }
                if event == EVENT_STOP {
                    self.threads.entry(pid.as_raw()).or_insert(false);
                }
                self.resume(pid, None);
            }
            // A signal on its way: it gets there.
            WaitStatus::Stopped(pid, signal) => self.resume(pid, Some(signal)),
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, pid: Pid, status: i32) {
        let pid = pid.as_raw();
        self.threads.remove(&pid);
        self.cast.remove(pid);
        self.ended.insert(pid, status);
    }

    /// Another program runs in a process now. Whether that is a VMM, which goes its own way.
    fn executed(&mut self, pid: Pid) -> bool {
        let is_vmm = self.cast.executed(pid.as_raw());
        if is_vmm {
            // It may have been killed meanwhile; then its end is heard of.
            let _ = ptrace::detach(pid, None);
            self.threads.remove(&pid.as_raw());
        }
        is_vmm
    }

    fn resume(&self, pid: Pid, signal: Option<Signal>) {
        // It may have been killed meanwhile.
        let _ = if self.counting {
            ptrace::syscall(pid, signal)
        } else {
            ptrace::cont(pid, signal)
        };
    }

    /// A thread is about to make a call, or has made it.
    fn call(&mut self, pid: Pid) -> anyhow::Result<()> {
        let inside = self.threads.entry(pid.as_raw()).or_default();
        let call = match registers(pid) {
            Ok((call, true)) if !*inside => Some(call),
            Ok(_) => None,
            // Killed meanwhile.
            Err(_) => return Ok(()),
        };
        *inside = call.is_some();
        if let Some(call) = call.filter(|_| self.counting) {
            self.pass(pid.as_raw(), &call)?;
        }
        self.resume(pid, None);
        Ok(())
    }

    fn pass(&mut self, thread: i32, call: &Call) -> anyhow::Result<()> {
        let Some(point) = point(thread, call) else {
            return Ok(());
        };
        let Some(leader) = host::leader(thread) else {
            return Ok(());
        };
        let Some(who) = self.cast.passes(leader, &point) else {
            return Ok(());
        };
        let class = format!("{who} {} {}", point.name, self.classes.of(&point.what));
        let at = self.passed.len();
        let is_met = self
            .death
            .as_ref()
            .is_some_and(|death| death.class == class || death.class.is_empty() && death.at == at);
        self.passed.push(Passed {
            who,
            point,
            class,
            victims: self.cast.victims(leader),
        });
        if is_met {
            self.met += 1;
            let is_due = |it: &mut Death| it.class.is_empty() || it.nth + 1 == self.met;
            if let Some(death) = self.death.take_if(is_due) {
                self.cast.kill(leader, death.victim)?;
            }
        }
        Ok(())
    }
}

fn libc_event(event: ptrace::Event) -> i32 {
    event as i32
}

/// The call that a thread is stopped at, and whether it is still to be made.
#[cfg(target_arch = "x86_64")]
fn registers(pid: Pid) -> nix::Result<(Call, bool)> {
    let registers = ptrace::getregs(pid)?;
    let call = Call {
        number: registers.orig_rax.cast_signed(),
        arguments: [
            registers.rdi,
            registers.rsi,
            registers.rdx,
            registers.r10,
            registers.r8,
            registers.r9,
        ],
    };
    // That is what the kernel puts there before it makes a call.
    let before = registers.rax.cast_signed() == -i64::from(nix::libc::ENOSYS);
    Ok((call, before))
}

#[cfg(not(target_arch = "x86_64"))]
fn registers(_: Pid) -> nix::Result<(Call, bool)> {
    Err(Errno::ENOSYS)
}
