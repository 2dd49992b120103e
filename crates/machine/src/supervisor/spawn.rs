//! How a command starts a supervisor.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use super::First;
use crate::secret::Contents;
use crate::{Error, Machine, sys};

/// How many lines of a supervisor that died are shown.
const SHOWN_LINES: usize = 10;

/// Starts the supervisor of `machine`, which has just been made, and waits until the workload has
/// started. Returns the connection on which the supervisor says what happens (see
/// [`crate::control::attached`]). `command` is the program with its hidden subcommand; what [`super::main`] needs is
/// appended to it.
///
/// # Errors
/// [`Error::Reported`] with what the supervisor says, [`Error::SupervisorLost`], [`Error::Io`].
pub(crate) fn spawn(
    mut command: Command,
    machine: Machine,
) -> Result<BufReader<UnixStream>, Error> {
    let id = machine.id().clone();
    let doing = || format!("start the supervisor of VM `{id}`");
    let failed = |source: std::io::Error| Error::io(doing(), source);
    let directories = machine.record().directories.clone();
    let log = fs_err::File::create(&directories.supervisor_log).map_err(failed)?;
    // Read by who wants the VM to start, with its rights and its environment; the supervisor, which
    // lives for long, has no variable that is one.
    let wanted = &machine.record().spec.secrets;
    let secrets = Contents::read(wanted)?;
    for name in wanted.iter().filter_map(|secret| secret.source.variable()) {
        command.env_remove(name);
    }
    let secrets = secrets.hand_over().map_err(failed)?;
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let lock = machine.hand_over()?;
    let mut kept = vec![lock, OwnedFd::from(theirs)];
    kept.extend(secrets);
    let numbers = kept.iter().map(|fd| fd.as_raw_fd().to_string());
    let arguments: Vec<OsString> = std::iter::once(id.to_string())
        .chain(numbers)
        .map(OsString::from)
        .collect();
    command
        .args(arguments)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.file().try_clone().map_err(failed)?)
        .stderr(log.into_parts().0);
    sys::detach(&mut command, kept);
    let mut child = command.spawn().map_err(failed)?;
    // Closes what was kept open for the child: the lock is its alone from here on.
    drop(command);
    let mut line = String::new();
    // Ends with the line, or with the supervisor.
    let mut ours = BufReader::new(ours);
    let read = ours.read_line(&mut line);
    let first = read.ok().and_then(|_| serde_json::from_str(&line).ok());
    match first {
        Some(First::Started) => Ok(ours),
        Some(First::Failed(report)) => {
            let _ = child.wait();
            Err(Error::Reported(report))
        }
        None => {
            let _ = child.wait();
            let text = fs_err::read_to_string(&directories.supervisor_log).unwrap_or_default();
            let said: Vec<String> = text.lines().map(str::to_owned).collect();
            let said = said[said.len().saturating_sub(SHOWN_LINES)..].to_vec();
            Err(Error::SupervisorLost { id, said })
        }
    }
}
