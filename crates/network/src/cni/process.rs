//! Runs one program to its end: within a time, and with no more output than there is room for.
//!
//! What must hold: whatever the program does, this returns, and a program that was killed has taken
//! its children along.

use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, OFlags, fcntl_getfl, fcntl_setfl, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// As much standard output as a program may have, in bytes.
const MOST_OUTPUT: usize = 1 << 20;

/// As much of standard error as is kept, in bytes: the end of it.
const KEPT_COMPLAINTS: usize = 4 << 10;

/// How a program ended.
pub(crate) enum Ended {
    Exited {
        status: ExitStatus,
        output: Vec<u8>,
        complaints: String,
    },
    TimedOut,
    TooMuch,
}

/// Runs `command` with `input` as its standard input, and kills it after `limit`.
pub(crate) fn run(mut command: Command, input: &[u8], limit: Duration) -> io::Result<Ended> {
    let deadline = Instant::now() + limit;
    // A group of its own, so that its children can be killed with it.
    let mut child = command
        .stdin(in_memory(input)?)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let followed = follow(&mut child, deadline);
    if !matches!(followed, Ok(Followed::Ended { .. })) {
        kill(&mut child);
    }
    let status = child.wait()?;
    Ok(match followed? {
        Followed::Ended { output, complaints } => Ended::Exited {
            status,
            output,
            complaints: String::from_utf8_lossy(&complaints).into_owned(),
        },
        Followed::TimedOut => Ended::TimedOut,
        Followed::TooMuch => Ended::TooMuch,
    })
}

enum Followed {
    Ended {
        output: Vec<u8>,
        complaints: Vec<u8>,
    },
    TimedOut,
    TooMuch,
}

/// Reads what the program writes until it has ended. Its children may keep the pipes open.
fn follow(child: &mut Child, deadline: Instant) -> io::Result<Followed> {
    let (Some(mut stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    for pipe in [stdout.as_fd(), stderr.as_fd()] {
        fcntl_setfl(pipe, fcntl_getfl(pipe)? | OFlags::NONBLOCK)?;
    }
    let end = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let (mut output, mut complaints) = (Vec::new(), Vec::new());
    let mut open = [true; 2];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        let events = |open| {
            if open {
                PollFlags::IN
            } else {
                PollFlags::empty()
            }
        };
        let mut ready = [
            PollFd::new(&end, PollFlags::IN),
            PollFd::new(&stdout, events(open[0])),
            PollFd::new(&stderr, events(open[1])),
        ];
        // A pipe that is at its end says so even if nothing is asked of it.
        let asked = if open == [true; 2] {
            3
        } else {
            1 + usize::from(open[0])
        };
        if rustix::io::retry_on_intr(|| poll(&mut ready[..asked], Some(&left)))? == 0 {
            return Ok(Followed::TimedOut);
        }
        let ended = !ready[0].revents().is_empty();
        if open[0] {
            open[0] = take(&mut stdout, &mut output)?;
        }
        if open[1] {
            open[1] = take(&mut stderr, &mut complaints)?;
        }
        let excess = complaints.len().saturating_sub(KEPT_COMPLAINTS);
        complaints.drain(..excess);
        if output.len() > MOST_OUTPUT {
            return Ok(Followed::TooMuch);
        }
        if ended {
            return Ok(Followed::Ended { output, complaints });
        }
    }
}

/// Reads what a pipe has now, a piece at most. Returns whether there may be more.
fn take(pipe: &mut impl io::Read, into: &mut Vec<u8>) -> io::Result<bool> {
    let before = into.len();
    match pipe.take(MOST_OUTPUT as u64 + 1).read_to_end(into) {
        Ok(_) => Ok(into.len() - before > MOST_OUTPUT),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}

fn kill(child: &mut Child) {
    // The group is the child's for as long as the child has not been waited for.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    let _ = child.kill();
}

/// A file without a name: unlike a pipe, it holds nobody up who does not read it.
fn in_memory(content: &[u8]) -> io::Result<Stdio> {
    let file = memfd_create("cni-input", MemfdFlags::CLOEXEC)?;
    let mut file = fs_err::File::from_parts(std::fs::File::from(file), "cni-input");
    file.write_all(content)?;
    file.rewind()?;
    Ok(file.into_parts().0.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, limit: Duration) -> Ended {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        run(command, b"input", limit).unwrap()
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_it_writes_and_how_it_ends() {
        let Ended::Exited {
            status,
            output,
            complaints,
        } = sh("cat; echo bad >&2; exit 3", LONG)
        else {
            unreachable!("it exits");
        };
        assert_eq!(status.code(), Some(3));
        assert_eq!(output, b"input");
        assert_eq!(complaints, "bad\n");
    }

    #[test]
    fn output_has_an_end_and_only_the_end_of_complaints_is_kept() {
        assert!(matches!(sh("cat /dev/zero", LONG), Ended::TooMuch));
        let flood = "head -c 3000000 /dev/zero >&2; printf end >&2";
        let Ended::Exited { complaints, .. } = sh(flood, LONG) else {
            unreachable!("it exits");
        };
        assert_eq!(complaints.len(), KEPT_COMPLAINTS);
        assert!(complaints.ends_with("end"));
    }

    #[test]
    fn who_hangs_is_killed_with_its_children() {
        let begun = Instant::now();
        let script = "sleep 1000 & sleep 1000";
        assert!(matches!(
            sh(script, Duration::from_millis(50)),
            Ended::TimedOut
        ));
        assert!(begun.elapsed() < LONG);
    }

    #[test]
    fn a_child_that_stays_behind_holds_nobody_up() {
        // The shell's child has the pipes for as long as its input is open, which is for ever.
        let ended = sh("sleep 300 & echo $!", LONG);
        let Ended::Exited { output, .. } = ended else {
            unreachable!("the shell exits");
        };
        let pid: i32 = String::from_utf8(output).unwrap().trim().parse().unwrap();
        let _ = rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
    }
}
