//! The supervisor: one process for each VM that runs a workload. It owns the VMM, the network and
//! the record, and holds the VM's lock for as long as it lives.
//!
//! `firebuild` starts it from itself, by a hidden subcommand ([`spawn`]), in a session of its own,
//! so that no terminal's signal reaches it. [`main`] is what that subcommand does. Between the two
//! there is a socket: the supervisor says on it that the workload has started, or why it could not;
//! and when it closes before that, the command has given up, and so does the supervisor. A command
//! that stays in the foreground hears there of output and of the end.
//!
//! One task has the VM in hand ([`life`]); what others ask of it queues up ([`crate::control`]),
//! and what they wait for is published.

mod life;
pub(crate) mod processes;
mod spawn;
mod turn;

use std::ffi::OsString;
use std::process::ExitCode;

use firebuild_core::MachineId;
use firebuild_store::MachineLock;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use crate::error::Report;
use crate::secret::Contents;
use crate::{Error, Host, sys};
pub(crate) use spawn::spawn;

/// What a supervisor says once to who started it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum First {
    /// The workload has started.
    Started,
    /// It could not be.
    Failed(Report),
}

/// Runs a supervisor until its VM has ended. `arguments` are those that [`spawn`] appended to the
/// command; `host` finds the same store and the same directory of sockets.
///
/// Has to be called first thing in a process: it takes over descriptors that the process was
/// started with.
#[must_use]
pub fn main(host: &Host, arguments: &[OsString]) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = runtime
        .map_err(|source| Error::io("start a supervisor", source))
        .and_then(|runtime| runtime.block_on(supervise(host, arguments)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Writes an error and its causes to standard error, which is a file in the VM's directory.
fn complain(error: &Error) {
    use std::io::Write as _;
    let mut text = format!("{error}");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    // There is nobody else to tell.
    let _ = writeln!(std::io::stderr(), "{text}");
}

async fn supervise(host: &Host, arguments: &[OsString]) -> Result<(), Error> {
    let (lock, starter, secrets) = take_over(arguments)?;
    life::live(host, (lock, secrets), Starter(starter)).await
}

/// Takes the lock, the socket and the secrets that [`spawn`] passed on.
fn take_over(arguments: &[OsString]) -> Result<(MachineLock, UnixStream, Contents), Error> {
    let usage = || Error::Spec("supervisors are started by `firebuild run` only".to_owned());
    let [id, lock, starter, secrets @ ..] = arguments else {
        return Err(usage());
    };
    let text = |argument: &OsString| argument.to_str().map(str::to_owned).ok_or_else(usage);
    let id: MachineId = text(id)?.parse().map_err(|_| usage())?;
    let take = |number: &OsString| {
        let number = text(number)?.parse().map_err(|_| usage())?;
        sys::inherited(number).map_err(|source| Error::io("take over what was passed on", source))
    };
    let lock = MachineLock::take_over(id, take(lock)?);
    let starter = std::os::unix::net::UnixStream::from(take(starter)?);
    let starter = starter
        .set_nonblocking(true)
        .and_then(|()| UnixStream::from_std(starter))
        .map_err(|source| Error::io("take over what was passed on", source))?;
    let secrets = match secrets.first() {
        Some(secrets) => Contents::take_over(take(secrets)?)
            .map_err(|source| Error::io("take over secrets", source))?,
        None => Contents::default(),
    };
    Ok((lock, starter, secrets))
}

/// Who started the supervisor.
struct Starter(UnixStream);

impl Starter {
    /// Tells it the first news.
    async fn tell(&mut self, first: &First) {
        if let Ok(mut line) = serde_json::to_vec(first) {
            line.push(b'\n');
            // Whoever gave up waiting does not need to know.
            let _ = self.0.write_all(&line).await;
        }
    }

    /// Returns when it has given up waiting: it says nothing until the first news.
    async fn gave_up(&self) {
        let _ = self.0.readable().await;
    }
}
