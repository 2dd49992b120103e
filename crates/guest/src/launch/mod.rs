//! Starting a process in the image.
//!
//! The agent starts itself anew (`/proc/self/exe launch`), with a [`Launch`] on its standard
//! input, which is a socket. The new process makes a mount namespace, puts the root together,
//! becomes the user and executes the program (`inside`). If it cannot, it says why on the socket;
//! a successful exec closes the socket without a word. What else the agent gets of the new process,
//! such as its end of a terminal, comes over the same socket (`handover`).

mod attach;
mod cgroup;
mod confine;
mod copying;
mod devices;
mod handover;
mod inside;
mod limits;
mod namespaces;
mod places;
mod root;
mod streams;
#[cfg(test)]
mod tests;
mod user;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use firebuild_protocol::limits::ProcessLimit;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;

pub(crate) use attach::{Attachment, Source};
pub(crate) use inside::main as run_inside;
pub(crate) use namespaces::Namespaces;
pub(crate) use places::find_in;
pub(crate) use root::{SUPPLIED, look_into};
pub(crate) use streams::{Streams, Terminal};

use handover::Received;

use crate::error::{Doing as _, GuestError, Result};
use crate::reaper::{Child, Reaper};
use crate::sys;

/// The argument that makes the agent the process between itself and the program.
pub(crate) const ARGUMENT: &str = "launch";

/// What to start, and in which root.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Launch {
    /// The root's directories.
    pub(crate) root: Root,
    /// Where the namespaces of another process can be opened, in which this one finds its root as
    /// it is; none if it gets new ones.
    pub(crate) joined: Vec<PathBuf>,
    /// Whether the agent gets the new namespaces, to keep them beyond the process's end.
    pub(crate) kept: bool,
    /// What its standard streams are.
    pub(crate) streams: Streams,
    /// How far the process is kept from the rest of the VM.
    pub(crate) isolation: Isolation,
    /// Whether a step has a network of its own, with nothing but a loopback interface.
    pub(crate) offline: bool,
    /// Whether a step's root user may do everything.
    pub(crate) privileged: bool,
    /// What it does; else it becomes a program.
    pub(crate) copying: Option<Copying>,
    /// Program and arguments.
    pub(crate) arguments: Vec<String>,
    /// Names and values; `HOME`, `HOSTNAME` and `PATH` are added where they are missing.
    pub(crate) environment: Vec<(String, String)>,
    /// More of them, of any bytes but NUL; these win.
    pub(crate) secrets: Vec<(String, Vec<u8>)>,
    /// Made if it is missing.
    pub(crate) workdir: String,
    /// As in an image's configuration.
    pub(crate) user: String,
    /// What the machine is called.
    pub(crate) hostname: String,
    /// A directory of files that the process sees instead of those that all see ([`SUPPLIED`]).
    pub(crate) supplied: PathBuf,
    /// What is mounted, in this order.
    pub(crate) attachments: Vec<Attachment>,
    /// Where the process ids can be opened that it joins; its own or the agent's if none.
    pub(crate) process_ids: Option<PathBuf>,
    /// Its limits, in place of the usual ones.
    pub(crate) limits: Vec<ProcessLimit>,
    /// The most bytes of `/dev/shm`.
    pub(crate) shared_memory: Option<u64>,
    /// Whether it can write only to what is mounted.
    pub(crate) read_only: bool,
    /// Directories to make if they are missing.
    pub(crate) directories: Vec<String>,
    /// Files of this one process: path, mode, content.
    pub(crate) files: Vec<(String, u16, String)>,
    /// What to write to `/etc/profile.d/run-env.sh`, if anything.
    pub(crate) profile: Option<String>,
}

/// Files on their way through a process's standard streams.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Copying {
    /// From this path; whether links are followed.
    Pack(PathBuf, bool),
    /// To this path; whether it is what a directory holds, and whether it is a person's archive.
    Unpack(PathBuf, bool, bool),
}

/// What the process in between is told.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    launch: Launch,
    /// The control group to be in.
    group: Option<PathBuf>,
}

impl Launch {
    /// Whether even root may not do everything.
    fn is_confined(&self) -> bool {
        self.isolation == Isolation::Step && !self.privileged
    }
}

/// The directories that make up a root.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Root {
    /// What is read, the newest first.
    pub(crate) lowers: Vec<PathBuf>,
    /// What is written.
    pub(crate) upper: PathBuf,
    /// Overlayfs' own, on the file system of `upper`.
    pub(crate) work: PathBuf,
    /// Whether writes need not reach the disk.
    pub(crate) volatile: bool,
}

/// How far a process is kept from the rest of the VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Isolation {
    /// A build step: what it leaves running ends with it, and devices are only those of every
    /// container.
    Step,
    /// A workload: the VM is its own.
    Workload,
    /// The image's own init: a workload that is the first process that it sees, with control groups
    /// of its own.
    Init,
}

/// Why a program was not started, as the process in between tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refusal {
    /// The agent or the kernel failed.
    Agent(String),
    /// What was asked for cannot be: text, and 126 or 127 where a shell would return that, else 0.
    Program(String, u32),
}

/// A process that runs in the image.
pub(crate) struct Running {
    /// Its end.
    pub(crate) child: Child,
    /// What it writes.
    pub(crate) stdout: pipe::Receiver,
    /// What it complains of.
    pub(crate) stderr: pipe::Receiver,
    /// The other end of its standard input, or of its terminal.
    pub(crate) other_end: Option<OwnedFd>,
}

/// What came of a launch.
pub(crate) struct Started {
    /// The program, or why there is none.
    pub(crate) program: std::result::Result<Running, Refusal>,
    /// The namespaces, if they are kept and the root in them was put together.
    pub(crate) namespaces: Option<Namespaces>,
}

/// Starts what `launch` says.
///
/// # Errors
/// Those of the agent's own; a program that could not be started is no error.
pub(crate) async fn start(launch: &Launch, reaper: &Reaper) -> Result<Started> {
    Waiting::start(launch, reaper)?.become_program(launch).await
}

/// A process that waits to be told what to become.
pub(crate) struct Waiting {
    child: Child,
    socket: UnixStream,
    stdout: pipe::Receiver,
    stderr: pipe::Receiver,
}

impl Waiting {
    /// Starts one that can become whatever has the process ids and the isolation of `launch`.
    ///
    /// # Errors
    /// Those of the agent's own.
    pub(crate) fn start(launch: &Launch, reaper: &Reaper) -> Result<Self> {
        let (socket, theirs) = UnixStream::pair().doing(|| "make a socket pair".to_owned())?;
        let (stdout, stdout_end) = output()?;
        let (stderr, stderr_end) = output()?;
        let mut command = Command::new("/proc/self/exe");
        command
            .arg(ARGUMENT)
            .env_clear()
            .stdin(OwnedFd::from(theirs))
            .stdout(stdout_end)
            .stderr(stderr_end);
        let child = spawn(command, launch, reaper)?;
        Ok(Self {
            child,
            socket,
            stdout,
            stderr,
        })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Whether it was killed while it waited.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.has_ended()
    }

    /// Has it become what `launch` says.
    ///
    /// # Errors
    /// Those of [`start`].
    pub(crate) async fn become_program(self, launch: &Launch) -> Result<Started> {
        let Self {
            child,
            socket,
            stdout,
            stderr,
        } = self;
        let order = Order {
            launch: launch.clone(),
            group: match launch.isolation {
                _ if launch.is_confined() => cgroup::of_steps(),
                Isolation::Init if launch.joined.is_empty() => cgroup::of_init(),
                _ => None,
            },
        };
        let text =
            serde_json::to_vec(&order).map_err(|error| GuestError::Told(error.to_string()))?;
        let Received {
            namespaces,
            other_end,
            report,
        } = converse(socket, &text)
            .await
            .doing(|| "start a process".to_owned())?;
        let program = if report.is_empty() {
            Ok(Running {
                child,
                stdout,
                stderr,
                other_end,
            })
        } else {
            child.exit().await;
            let refusal = serde_json::from_slice(&report);
            Err(refusal.map_err(|error| GuestError::Told(error.to_string()))?)
        };
        Ok(Started {
            program,
            namespaces,
        })
    }
}

/// A pipe's two ends: ours, and one for a process. Ours never blocks; theirs does.
fn output() -> Result<(pipe::Receiver, Stdio)> {
    let doing = || "make a pipe".to_owned();
    let (read, write) = io::pipe().doing(doing)?;
    let read = pipe::Receiver::from_owned_fd(OwnedFd::from(read)).doing(doing)?;
    Ok((read, Stdio::from(OwnedFd::from(write))))
}

/// Starts the process. Nothing is awaited between its start and the reaper's knowing of it, so its
/// end cannot be missed.
fn spawn(mut command: Command, launch: &Launch, reaper: &Reaper) -> Result<Child> {
    let doing = || "start a process".to_owned();
    let own = || opened(Path::new("/proc/self/ns/pid")).doing(doing);
    let process = match (&launch.process_ids, launch.isolation) {
        (Some(joined), _) => {
            let joined = opened(joined).doing(doing)?;
            sys::in_pid_namespace(&joined, &own()?, || command.spawn()).doing(doing)?
        }
        (None, Isolation::Workload) => command.spawn().doing(doing)?,
        (None, Isolation::Step | Isolation::Init) => {
            sys::in_new_pid_namespace(&own()?, || command.spawn()).doing(doing)?
        }
    };
    Ok(reaper.adopt(process.id()))
}

fn opened(namespace: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    let opened = rustix::fs::open(namespace, flags, rustix::fs::Mode::empty())?;
    Ok(File::from(opened))
}

/// Hands the launch over, and receives what the process hands over, and what went wrong.
async fn converse(socket: UnixStream, launch: &[u8]) -> io::Result<Received> {
    socket.set_nonblocking(true)?;
    let mut socket = tokio::net::UnixStream::from_std(socket)?;
    let sent = async {
        socket.write_all(launch).await?;
        socket.shutdown().await
    };
    // A process that died at once has not read all of it.
    match sent.await {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
        _ => {}
    }
    handover::receive(&socket).await
}

/// Takes the launch from standard input and leaves `/dev/null` in its place. Returns the socket's
/// other descriptor, which closes when the program is executed.
fn receive() -> io::Result<(Order, UnixStream)> {
    use std::io::Read as _;
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    let mut socket = UnixStream::from(socket);
    let mut text = Vec::new();
    socket.read_to_end(&mut text)?;
    let null = fs_err::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok((serde_json::from_slice(&text)?, socket))
}
