//! A VMM's process: started, watched, ended.
//!
//! Each has a thread of ours that starts it and waits for its end. That thread is its parent in
//! the kernel's eyes: the kernel kills the VMM when the thread ends, which it does only with our
//! process. (A thread of a runtime's pool would end earlier and take the VMM along.)

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, OnceLock};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{Mutex, oneshot, watch};

use super::console::{Console, Recent};
use super::firecracker::Api;
use super::qmp::Qmp;
use crate::Error;

/// How a VMM's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VmmExit {
    /// By itself, with this status. 0: the guest powered off or rebooted.
    Status(i32),
    /// By this signal.
    Signal(i32),
    /// The system would not say.
    Unknown,
}

/// A VMM's process. Clones mean the same; when the last one goes, the process is killed.
#[derive(Debug, Clone)]
pub struct Running {
    inner: Arc<Inner>,
    exit: watch::Receiver<Option<VmmExit>>,
    /// Where QEMU takes commands.
    qmp: Option<Arc<Mutex<Qmp>>>,
}

#[derive(Debug)]
struct Inner {
    pid: u32,
    handle: OwnedFd,
    console: Recent,
    complaints: Recent,
    /// How to talk to it, if that is Firecracker's way.
    api: OnceLock<Api>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Fails if it has ended: that is what is wanted.
        let _ = pidfd_send_signal(&self.handle, Signal::KILL);
    }
}

impl Running {
    /// Starts `command`, whose standard output becomes the file `console`.
    ///
    /// # Errors
    /// [`Error::VmmMissing`] if the program is not there; [`Error::Io`].
    pub async fn start(mut command: Command, console: &Path) -> Result<Self, Error> {
        let program = command.get_program().to_string_lossy().into_owned();
        let doing = format!("start `{program}`");
        let files = Console::create(console).map_err(|source| {
            Error::io(format!("make the console `{}`", console.display()), source)
        })?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .current_dir("/")
            .process_group(0);
        let (started, start) = oneshot::channel();
        let (ended, exit) = watch::channel(None);
        std::thread::Builder::new()
            .name("vmm".to_owned())
            .stack_size(128 << 10)
            .spawn(move || run(command, started, &ended))
            .map_err(|source| Error::io(&doing, source))?;
        let started = start
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
        let started = started.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::VmmMissing { program },
            _ => Error::io(&doing, source),
        })?;
        let inner = Inner {
            pid: started.pid,
            handle: started.handle,
            console: files.recent(),
            complaints: Recent::default(),
            api: OnceLock::new(),
        };
        let complaints = inner.complaints.clone();
        let exit = drained(
            exit,
            tokio::spawn(drain(pipe(started.output, &doing)?, Sink::Console(files))),
            tokio::spawn(drain(
                pipe(started.error, &doing)?,
                Sink::Recent(complaints),
            )),
        );
        Ok(Self {
            inner: Arc::new(inner),
            exit,
            qmp: None,
        })
    }

    /// The same, with where QEMU takes commands.
    pub(super) fn with_qmp(mut self, qmp: Qmp) -> Self {
        self.qmp = Some(Arc::new(Mutex::new(qmp)));
        self
    }

    /// Has QEMU execute a command without arguments.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) async fn qmp(&self, command: &str) -> Result<(), Error> {
        let failed = |source| Error::io(format!("have QEMU `{command}` its guest"), source);
        let done = self.qmp_with(command, serde_json::json!({})).await;
        done.map(drop).map_err(failed)
    }

    /// Has QEMU execute a command with arguments.
    ///
    /// # Errors
    /// This is no QEMU; those of [`Qmp::execute`].
    pub(super) async fn qmp_with(
        &self,
        command: &str,
        arguments: serde_json::Value,
    ) -> io::Result<serde_json::Value> {
        let qmp = self.qmp.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        qmp.lock().await.execute(command, arguments).await
    }

    /// The process id, for people only.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.inner.pid
    }

    /// Kills the process, unless it has ended.
    pub fn kill(&self) {
        let _ = self.signal(Signal::KILL);
    }

    /// Sends the process a signal.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.inner.handle, signal)?)
    }

    /// Waits until the process has ended and everything it printed is read.
    pub async fn ended(&self) -> VmmExit {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.unwrap_or(VmmExit::Unknown),
            Err(_) => VmmExit::Unknown,
        }
    }

    /// How the process ended; none while it runs.
    #[must_use]
    pub fn exit(&self) -> Option<VmmExit> {
        *self.exit.borrow()
    }

    /// The last lines of the guest's console.
    #[must_use]
    pub fn console(&self, lines: usize) -> Vec<String> {
        self.inner.console.lines(lines)
    }

    /// Where what the VMM itself says is kept.
    pub(crate) fn recent_complaints(&self) -> Recent {
        self.inner.complaints.clone()
    }

    /// Notes how to talk to it.
    pub(crate) fn set_api(&self, api: Api) {
        // It is set once, by who started it.
        let _ = self.inner.api.set(api);
    }

    /// How to talk to it.
    pub(crate) fn api(&self) -> Option<&Api> {
        self.inner.api.get()
    }

    /// The last lines that the VMM itself printed.
    #[must_use]
    pub fn complaints(&self, lines: usize) -> Vec<String> {
        self.inner.complaints.lines(lines)
    }
}

struct Started {
    pid: u32,
    handle: OwnedFd,
    output: OwnedFd,
    error: OwnedFd,
}

fn run(
    mut command: Command,
    started: oneshot::Sender<io::Result<Started>>,
    ended: &watch::Sender<Option<VmmExit>>,
) {
    let spawned = command.spawn();
    // Closes what was kept open for the child.
    drop(command);
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return drop(started.send(Err(error))),
    };
    let told = started.send(describe(&mut child));
    if !matches!(told, Ok(())) {
        // Nobody waits for it any more.
        let _ = child.kill();
    }
    let exit = child.wait().map_or(VmmExit::Unknown, VmmExit::from);
    ended.send_replace(Some(exit));
}

fn describe(child: &mut Child) -> io::Result<Started> {
    let described = || -> io::Result<Started> {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(io::ErrorKind::InvalidData)?;
        let missing = io::ErrorKind::BrokenPipe;
        Ok(Started {
            pid: child.id(),
            handle: pidfd_open(pid, PidfdFlags::empty())?,
            output: child.stdout.take().ok_or(missing)?.into(),
            error: child.stderr.take().ok_or(missing)?.into(),
        })
    }();
    if described.is_err() {
        let _ = child.kill();
    }
    described
}

enum Sink {
    Console(Console),
    Recent(Recent),
}

fn pipe(end: OwnedFd, doing: &str) -> Result<Receiver, Error> {
    Receiver::from_owned_fd(end).map_err(|source| Error::io(doing, source))
}

async fn drain(mut pipe: Receiver, mut sink: Sink) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        match pipe.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) => match &mut sink {
                // A console that cannot be written must not stop the guest.
                Sink::Console(console) => drop(console.write(&buffer[..count])),
                Sink::Recent(recent) => recent.push(&buffer[..count]),
            },
        }
    }
}

/// The process's end, told once everything it printed is read. A child of its own that still
/// has the pipes cannot hold this up for long.
fn drained(
    mut exit: watch::Receiver<Option<VmmExit>>,
    output: tokio::task::JoinHandle<()>,
    error: tokio::task::JoinHandle<()>,
) -> watch::Receiver<Option<VmmExit>> {
    let (sender, receiver) = watch::channel(None);
    tokio::spawn(async move {
        let ended = match exit.wait_for(Option::is_some).await {
            Ok(ended) => ended.unwrap_or(VmmExit::Unknown),
            Err(_) => VmmExit::Unknown,
        };
        let read = async { tokio::join!(output, error) };
        let _ = tokio::time::timeout(std::time::Duration::from_secs(1), read).await;
        sender.send_replace(Some(ended));
    });
    receiver
}

impl VmmExit {
    /// Whether the guest brought the end about, by power-off or reboot.
    #[must_use]
    pub fn is_success(self) -> bool {
        self == Self::Status(0)
    }
}

impl From<ExitStatus> for VmmExit {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Status(code),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::Unknown,
        }
    }
}

impl fmt::Display for VmmExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "ended with status {status}"),
            Self::Signal(signal) => write!(f, "was ended by signal {signal}"),
            Self::Unknown => f.write_str("ended"),
        }
    }
}
