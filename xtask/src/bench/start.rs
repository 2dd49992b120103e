//! What firebuild does between `run` and its VMM's start.
//!
//! The VMM is a stand-in: a program of 200 bytes that says on a pipe that it was started, and by whom.
//! Then everything is killed, so that what was used until then is all that is counted: by the command,
//! by its supervisor, and by the programs that those started.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use fs_err as fs;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::sys::wait::wait;
use nix::unistd::{Pid, mkfifo};

use super::host::{Host, SMALL};
use super::program;
use super::report::{Bound, Row};
use super::statistics::median_seconds;

/// How many turns.
const TURNS: usize = 15;

/// How long a start may take before something is wrong, in milliseconds.
const PATIENCE: u16 = 30_000;

/// A directory with the stand-in, under the VMM's name.
struct StandIn {
    directory: PathBuf,
    pipe: File,
}

pub(super) fn measure(host: &Host) -> anyhow::Result<Vec<Row>> {
    let stand_in = StandIn::make()?;
    // Supervisors that lose their parent are ours, so that what they used is.
    set_child_subreaper(true)?;
    let measured = turns(host, &stand_in);
    set_child_subreaper(false)?;
    fs::remove_dir_all(&stand_in.directory)?;
    host.clean()?;
    let (took, used) = measured?;
    let milliseconds = |list: &[Duration]| median_seconds(list) * 1e3;
    let least = |list: &[Duration]| list.iter().min().map_or(0.0, Duration::as_secs_f64) * 1e3;
    Ok(vec![
        Row {
            what: "`run` until its VMM starts",
            figure: milliseconds(&took),
            bound: Bound::milliseconds(60.0),
            note: format!(
                "the first VM of the host, with a bridge and rules to make; {:.0} ms at best",
                least(&took)
            ),
        },
        Row {
            what: "processor time of that",
            figure: milliseconds(&used),
            bound: Bound::milliseconds(25.0),
            note: format!(
                "the command, its supervisor and the programs that they start; {:.0} ms at best",
                least(&used)
            ),
        },
    ])
}

/// How long each turn took, and how much processor time.
fn turns(host: &Host, stand_in: &StandIn) -> anyhow::Result<(Vec<Duration>, Vec<Duration>)> {
    let (mut took, mut used) = (Vec::new(), Vec::new());
    // Once for the page cache, and for the image's root file system.
    stand_in.turn(host)?;
    for _ in 0..TURNS {
        let (time, processor) = stand_in.turn(host)?;
        took.push(time);
        used.push(processor);
    }
    Ok((took, used))
}

impl StandIn {
    fn make() -> anyhow::Result<Self> {
        let name = format!("firebuild-bench-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory)?;
        let anybody = |mode| std::fs::Permissions::from_mode(mode);
        fs::set_permissions(&directory, anybody(0o755))?;
        let path = directory.join("started");
        mkfifo(&path, Mode::S_IRUSR)?;
        // The VMM is another user.
        fs::set_permissions(&path, anybody(0o666))?;
        let pipe = fs::OpenOptions::new().read(true).write(true).open(&path)?;
        let program = directory.join("qemu-system-x86_64");
        fs::write(&program, program::notifier(&path))?;
        fs::set_permissions(&program, anybody(0o755))?;
        let pipe = pipe.into_parts().0;
        Ok(Self { directory, pipe })
    }

    /// How long it takes until the stand-in runs, and the processor time of that.
    fn turn(&self, host: &Host) -> anyhow::Result<(Duration, Duration)> {
        host.clean()?;
        let mut command = host.command();
        command
            .args(["run", "--detach", "--rm", "--vmm", "qemu", SMALL, "--"])
            .arg("/started")
            .env("PATH", self.path())
            .stdout(Stdio::null());
        let before = used_by_children()?;
        let start = Instant::now();
        let child = command.spawn()?;
        let told = self.told();
        let took = start.elapsed();
        end(child, told.as_ref().ok().copied())?;
        told.context("`firebuild run` did not start its VMM")?;
        Ok((took, used_by_children()? - before))
    }

    fn path(&self) -> std::ffi::OsString {
        let mut path = self.directory.clone().into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        path
    }

    /// Waits until the VMM has been started. Returns by which process.
    fn told(&self) -> anyhow::Result<Pid> {
        let mut ready = [PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN)];
        let count = poll(&mut ready, PollTimeout::from(PATIENCE))?;
        ensure!(count > 0, "nothing was heard of it");
        let mut number = [0; 4];
        (&self.pipe).read_exact(&mut number)?;
        Ok(Pid::from_raw(i32::from_le_bytes(number)))
    }
}

/// Kills the command and its supervisor, and with that the VMM.
fn end(mut child: Child, supervisor: Option<Pid>) -> anyhow::Result<()> {
    child.kill()?;
    child.wait()?;
    if let Some(supervisor) = supervisor {
        kill(supervisor, Signal::SIGKILL)?;
    }
    loop {
        match wait() {
            Ok(_) => {}
            Err(Errno::ECHILD) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The processor time of all processes that were waited for, and of theirs.
fn used_by_children() -> anyhow::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = |time: nix::sys::time::TimeVal| {
        time.tv_sec().unsigned_abs() * 1_000_000 + time.tv_usec().unsigned_abs()
    };
    let all = micros(usage.user_time()) + micros(usage.system_time());
    Ok(Duration::from_micros(all))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_stand_in_says_who_started_it() {
        let stand_in = StandIn::make().unwrap();
        let program = stand_in.directory.join("qemu-system-x86_64");
        // Executed by another process, which has nothing open for writing.
        let mut sh = Command::new("sh");
        let mut child = sh
            .args(["-c", "\"$0\" & wait"])
            .arg(&program)
            .spawn()
            .unwrap();
        let told = stand_in.told().unwrap();
        assert_eq!(told.as_raw().unsigned_abs(), child.id());
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let children = fs::read_to_string(children).unwrap();
        let inner: i32 = children.trim().parse().unwrap();
        kill(Pid::from_raw(inner), Signal::SIGKILL).unwrap();
        child.wait().unwrap();
        fs::remove_dir_all(&stand_in.directory).unwrap();
    }
}
