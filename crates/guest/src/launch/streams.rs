//! A process's standard streams: what they are, and the agent's end of them.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::fs::{Gid, Uid, fchown};
use rustix::io::Errno;
use rustix::process::ioctl_tiocsctty;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::termios::{Winsize, tcsetwinsize};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::handover::{self, Kind};
use crate::error::{Doing as _, Result};
use crate::sys;

/// The group of terminals, as `/dev/pts` is mounted.
const TTY: u32 = 5;

/// What a process's standard streams are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Streams {
    /// Nothing to read, and pipes for what is written.
    Output,
    /// Nothing to read, and nobody who reads.
    Nothing,
    /// Pipes for all three.
    Pipes,
    /// A terminal of this size, which is the process's own.
    Terminal {
        /// Lines of text.
        rows: u16,
        /// Characters in a line.
        columns: u16,
    },
}

/// The agent's end of a terminal. The other one hangs up when it is dropped.
#[derive(Debug)]
pub(crate) struct Terminal(AsyncFd<OwnedFd>);

impl Streams {
    /// Makes them those of the calling process, which is to be `owner`'s and leads a session; what
    /// is written goes where it goes, unless there is a terminal.
    pub(super) fn take(self, owner: u32, socket: &UnixStream) -> Result<()> {
        match self {
            Self::Output => Ok(()),
            Self::Nothing => nothing().doing(|| "open `/dev/null`".to_owned()),
            Self::Pipes => pipe(socket).doing(|| "make a pipe".to_owned()),
            Self::Terminal { rows, columns } => {
                terminal(owner, size(rows, columns), socket).doing(|| "make a terminal".to_owned())
            }
        }
    }
}

fn nothing() -> io::Result<()> {
    let null = fs_err::OpenOptions::new().write(true).open("/dev/null")?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    Ok(())
}

fn pipe(socket: &UnixStream) -> io::Result<()> {
    let (read, write) = io::pipe()?;
    handover::give(socket, Kind::OtherEnd, &[write.as_fd()])?;
    dup2_stdin(&read)?;
    Ok(())
}

/// A terminal of the root's own `/dev/pts`, so that it has a name there.
fn terminal(owner: u32, size: Winsize, socket: &UnixStream) -> io::Result<()> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let agents = openpt(flags)?;
    unlockpt(&agents)?;
    let own = ioctl_tiocgptpeer(&agents, flags)?;
    fchown(&own, Some(Uid::from_raw(owner)), Some(Gid::from_raw(TTY)))?;
    tcsetwinsize(&agents, size)?;
    handover::give(socket, Kind::OtherEnd, &[agents.as_fd()])?;
    ioctl_tiocsctty(&own)?;
    dup2_stdin(&own)?;
    dup2_stdout(&own)?;
    dup2_stderr(&own)?;
    Ok(())
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

impl Terminal {
    /// The end that a process has handed over. To be called within the runtime.
    pub(crate) fn new(end: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&end, true)?;
        sys::awaited(end).map(Self)
    }

    /// What was written to it next; nothing once nobody has it open any more.
    pub(crate) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = |end: &OwnedFd| rustix::io::read(end, &mut *buffer).map_err(io::Error::from);
        ended(self.0.async_io(Interest::READABLE, read).await)
    }

    /// The same, of what is there now.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        ended(rustix::io::read(self.0.get_ref(), buffer).map_err(io::Error::from))
    }

    /// Types.
    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let write = |end: &OwnedFd| rustix::io::write(end, bytes).map_err(io::Error::from);
            let written = self.0.async_io(Interest::WRITABLE, write).await?;
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// Gives it another size. Whoever has it in the foreground is told by the kernel.
    pub(crate) fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        Ok(tcsetwinsize(self.0.get_ref(), size(rows, columns))?)
    }
}

/// A terminal's end shows as an error.
fn ended(read: io::Result<usize>) -> io::Result<usize> {
    match read {
        Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => Ok(0),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_read_and_what_is_written_is_shown() {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        runtime.block_on(async {
            let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
            let end = openpt(flags).unwrap();
            unlockpt(&end).unwrap();
            let own = ioctl_tiocgptpeer(&end, flags).unwrap();
            let terminal = Terminal::new(end).unwrap();
            terminal.write_all(b"typed\n").await.unwrap();
            let mut buffer = [0; 64];
            let read = rustix::io::read(&own, &mut buffer).unwrap();
            assert_eq!(&buffer[..read], b"typed\n");
            rustix::io::write(&own, b"shown").unwrap();
            let mut shown = Vec::new();
            while shown.len() < 12 {
                let read = terminal.read(&mut buffer).await.unwrap();
                shown.extend_from_slice(&buffer[..read]);
            }
            assert_eq!(shown, b"typed\r\nshown");
            assert!(terminal.try_read(&mut buffer).is_err());
            terminal.resize(7, 70).unwrap();
            let size = rustix::termios::tcgetwinsize(&own).unwrap();
            assert_eq!((size.ws_row, size.ws_col), (7, 70));
            drop(own);
            assert_eq!(terminal.read(&mut buffer).await.unwrap(), 0);
        });
    }
}
