//! What can go wrong with a VM, by what the caller can do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use firebuild_core::MachineId;
use firebuild_store::VolumeName;
use serde::{Deserialize, Serialize};

use crate::boot::BootError;
use crate::vmm::VmmExit;

/// What the agent begins with when it says on the console why it cannot go on.
const FATAL: &str = "vminit: fatal: ";

/// Why something could not be done with a VM.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] firebuild_store::Error),
    /// The network refused.
    #[error(transparent)]
    Network(#[from] firebuild_network::Error),
    /// A VM's record cannot be understood: it is damaged, or of another firebuild.
    #[error("the record of VM `{id}` cannot be understood")]
    DamagedRecord {
        /// The VM.
        id: MachineId,
        /// Why.
        source: serde_json::Error,
    },
    /// An ended VM's network could not be taken down.
    #[error("cannot remove all of the network of VM `{id}`")]
    Teardown {
        /// The VM.
        id: MachineId,
        /// What is left, and why.
        source: firebuild_network::Errors,
    },
    /// What VMs share on the host could not be taken down after the last of them.
    #[error("cannot remove what the network's VMs shared on the host")]
    HostParts {
        /// What is left, and why.
        source: firebuild_network::Errors,
    },
    /// The VM's own disk could not be made.
    #[error("cannot make the disk of VM `{id}`")]
    Disk {
        /// The VM.
        id: MachineId,
        /// Why.
        source: firebuild_disk::Error,
    },
    /// The disk of a volume or a snapshot could not be made.
    #[error("cannot make {what}")]
    VolumeDisk {
        /// Which.
        what: String,
        /// Why.
        source: firebuild_disk::Error,
    },
    /// VMs have the volume among their mounts, running or not.
    #[error("volume `{name}` belongs to {}", named(users))]
    VolumeHasUsers {
        /// The volume.
        name: VolumeName,
        /// Those VMs.
        users: Vec<String>,
    },
    /// A directory of the host's that was to be mounted is not there, or is none.
    #[error("cannot open the directory `{}` of this host", path.display())]
    NoDirectory {
        /// Where it should be.
        path: PathBuf,
        /// What is there instead.
        source: io::Error,
    },
    /// The program that shares directories with QEMU's guests is not installed.
    #[error("`virtiofsd`, which shares directories of this host with VMs, is not installed")]
    NoVirtiofsd,
    /// The VMM shares no directories with its guests.
    #[error("Firecracker cannot mount the directory `{}` of this host in a VM", .0.display())]
    NoSharing(PathBuf),
    /// The VM would have more devices than its VMM has room for.
    #[error("VM `{id}` would have {needed} devices, and {vmm} has room for {room}")]
    TooManyDevices {
        /// The VM.
        id: MachineId,
        /// How many it would have.
        needed: usize,
        /// Its VMM.
        vmm: String,
        /// How many that can give it.
        room: usize,
    },
    /// A VM's kernel would not come up in so little memory.
    #[error(
        "VM `{id}` has too little memory: with {memory} MiB its kernel `{kernel}` does not come up, which needs {needed}"
    )]
    TooLittleMemory {
        /// The VM.
        id: MachineId,
        /// The memory that it would have, in MiB.
        memory: u32,
        /// The kernel.
        kernel: String,
        /// What it needs at least, in MiB.
        needed: u32,
    },
    /// The kernel cannot be booted.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The TLS identities could not be made.
    #[error(transparent)]
    Identity(#[from] firebuild_protocol::identity::IdentityError),
    /// A certificate or key that was given cannot be used.
    #[error("cannot use {what}")]
    Certificate {
        /// Which.
        what: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What a VM is to be makes no sense.
    #[error("{0}")]
    Spec(String),
    /// The program that runs VMs is not installed.
    #[error("`{program}` is not installed")]
    VmmMissing {
        /// The program.
        program: String,
    },
    /// The VMM that runs the VM has no such thing.
    #[error("`{vmm}` does not offer {what}")]
    NotOffered {
        /// The VMM.
        vmm: String,
        /// What was asked for, such as `pausing`.
        what: &'static str,
    },
    /// The host has no memory for one more VM.
    #[error("a VM of {wanted} MiB is too much: {count} VMs run with {taken} MiB, and together they may have {most} MiB, {}.{:02} times this host's memory", factor / 100, factor % 100)]
    NoMemory {
        /// What the VM is to have, in MiB.
        wanted: u32,
        /// How many others run.
        count: usize,
        /// What those may have, in MiB.
        taken: u64,
        /// What all may have, in MiB.
        most: u64,
        /// By how much that exceeds the host's memory, in hundredths.
        factor: u32,
    },
    /// The VMM ended before the guest had started.
    #[error("{vmm} {exit} while it started VM `{id}`{}", lines(said))]
    VmmFailed {
        /// Which VMM.
        vmm: String,
        /// The VM.
        id: MachineId,
        /// How it ended.
        exit: VmmExit,
        /// Its own last lines.
        said: Vec<String>,
    },
    /// The VMM's program has a version that this was not made for, or is another program.
    #[error("`{}` is no version of Firecracker that can be used; it says `{said}`", program.display())]
    VmmVersion {
        /// The program.
        program: PathBuf,
        /// The first line that it printed.
        said: String,
    },
    /// The VMM refused to make a part of the VM.
    #[error("{vmm} refused `{call}` for VM `{id}` with status {status}: {fault}")]
    VmmRefused {
        /// Which VMM.
        vmm: String,
        /// The VM.
        id: MachineId,
        /// The call.
        call: String,
        /// The answer's status.
        status: u16,
        /// The VMM's own words.
        fault: String,
    },
    /// The VMM's interface did not answer.
    #[error("{vmm} did not answer within {} s while it started VM `{id}`{}", after.as_secs(), lines(said))]
    VmmSilent {
        /// Which VMM.
        vmm: String,
        /// The VM.
        id: MachineId,
        /// How long it had.
        after: Duration,
        /// Its own last lines.
        said: Vec<String>,
    },
    /// The VMM that was asked for cannot be used on this host.
    #[error("`{vmm}` cannot be used on this host: {why}")]
    VmmUnusable {
        /// Which VMM.
        vmm: &'static str,
        /// Why.
        why: String,
    },
    /// The guest ended before it had reached the host.
    #[error(
        "the guest of VM `{id}` ended before it reached the host{}",
        last_words(console)
    )]
    GuestFailed {
        /// The VM.
        id: MachineId,
        /// The last lines of its console.
        console: Vec<String>,
    },
    /// The guest did not reach the host in time.
    #[error("the guest of VM `{id}` did not reach the host within {} s{}", after.as_secs(), lines(console))]
    GuestTimeout {
        /// The VM.
        id: MachineId,
        /// How long it had.
        after: Duration,
        /// The last lines of its console.
        console: Vec<String>,
    },
    /// The guest said nothing for too long.
    #[error("the guest of VM `{id}` has been silent for {} s", after.as_secs())]
    GuestSilent {
        /// The VM.
        id: MachineId,
        /// How long.
        after: Duration,
    },
    /// The guest's agent reports that it cannot go on.
    #[error("the guest of VM `{id}` reports: {text}")]
    GuestReports {
        /// The VM.
        id: MachineId,
        /// What it says.
        text: String,
        /// 126 or 127 if the program cannot be executed or found, else 0.
        status: u8,
    },
    /// The guest does not keep to the protocol.
    #[error("the guest of VM `{id}` does not keep to the protocol: {text}")]
    GuestConfused {
        /// The VM.
        id: MachineId,
        /// What it did.
        text: String,
    },
    /// The metadata is more than Firecracker holds.
    #[error(
        "the VM's metadata has {size} bytes; it can have {}",
        firebuild_protocol::metadata::LIMIT
    )]
    MetadataTooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// A Unix socket's path is too long.
    #[error("the socket path `{}` has {} bytes; it can have {}", path.display(), path.as_os_str().len(), crate::paths::SOCKET_PATH_LIMIT)]
    SocketPath {
        /// The path.
        path: PathBuf,
        /// The directory to shorten.
        root: PathBuf,
    },
    /// Somebody wanted the VM to end before its workload had started.
    #[error("VM `{0}` was stopped before its workload had started")]
    GivenUp(MachineId),
    /// The VM does not run.
    #[error("VM `{0}` does not run")]
    NotRunning(MachineId),
    /// The VM is just being started or ended by somebody else.
    #[error("VM `{0}` is just being started or ended")]
    Busy(MachineId),
    /// The VM is going to end.
    #[error("VM `{0}` is being stopped")]
    IsStopping(MachineId),
    /// The VM's processors stand still.
    #[error("VM `{0}` is paused")]
    IsPaused(MachineId),
    /// The VM ended before what was asked of it had.
    #[error("VM `{0}` ended meanwhile")]
    EndedMeanwhile(MachineId),
    /// So many things are done in the VM already that there can be no more.
    #[error("VM `{id}` has {most} processes beside its workload already, and can have no more")]
    TooMany {
        /// The VM.
        id: MachineId,
        /// How many there can be.
        most: usize,
    },
    /// The VM runs.
    #[error("VM `{0}` runs")]
    IsRunning(MachineId),
    /// The VM's supervisor reported a failure.
    #[error(transparent)]
    Reported(Report),
    /// The VM's supervisor ended without a word.
    #[error("the supervisor of VM `{id}` ended{}", lines(said))]
    SupervisorLost {
        /// The VM.
        id: MachineId,
        /// Its last lines.
        said: Vec<String>,
    },
    /// Something else failed on the host.
    #[error("cannot {doing}")]
    Io {
        /// What was being done, and to what.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
}

/// VMs in a sentence.
fn named(users: &[String]) -> String {
    let word = if users.len() == 1 { "VM" } else { "VMs" };
    format!("{word} `{}`", users.join("`, `"))
}

fn lines(said: &[String]) -> String {
    said.iter().fold(String::new(), |mut text, line| {
        text.push_str("\n  ");
        text.push_str(line);
        text
    })
}

/// What the agent says, or else all that there is.
fn last_words(console: &[String]) -> String {
    let mut found = console.iter().filter_map(|line| line.split_once(FATAL));
    match found.next() {
        Some((_, reason)) => format!(": {reason}"),
        None => lines(console),
    }
}

impl Error {
    pub(crate) fn io(doing: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Io {
            doing: doing.into(),
            source: source.into(),
        }
    }

    /// What a person can do about it, if that is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint().map(Into::into),
            Self::Network(error) => error.hint(),
            Self::Boot(error) => error.hint(),
            Self::Reported(report) => report.hint.clone(),
            Self::VmmMissing { program } if program.contains("qemu") => {
                Some("install QEMU: `apt-get install qemu-system-x86`".to_owned())
            }
            Self::VmmMissing { .. } => Some(
                "install Firecracker and its jailer, or name them with --binary-firecracker and --binary-jailer"
                    .to_owned(),
            ),
            Self::VmmVersion { .. } => Some(
                "versions 1.10 to 1.17 of Firecracker are known, and later ones of 1 are taken".to_owned(),
            ),
            Self::VmmUnusable { .. } => Some("`--vmm qemu` runs VMs on any host".to_owned()),
            Self::SocketPath { root, .. } => Some(format!(
                "choose a shorter directory in place of `{}`",
                root.display()
            )),
            Self::NoMemory { .. } => Some(
                "stop a VM, give this one less with `--mem`, or allow more with `--memory-overcommit`"
                    .to_owned(),
            ),
            Self::DamagedRecord { id, .. } => Some(format!(
                "if a newer firebuild made the VM, use that; when it does not run, `firebuild rm {id}` removes it with its disk"
            )),
            Self::IsRunning(id) => Some(format!("stop it first: `firebuild stop {id}`")),
            Self::IsPaused(id) => Some(format!("let it go on first: `firebuild unpause {id}`")),
            Self::NotRunning(_) => Some("see `firebuild ls -a`".to_owned()),
            Self::Teardown { .. } | Self::HostParts { .. } => Some("run `firebuild purge` to try again".to_owned()),
            Self::VolumeHasUsers { users, .. } => Some(format!(
                "remove them first: `firebuild rm {}`",
                users.join(" ")
            )),
            Self::NoDirectory { path, .. } => Some(format!(
                "only directories can be mounted, by the path that no link leads through; make it with `mkdir -p {}`",
                path.display()
            )),
            Self::NoVirtiofsd => Some(
                "install it: `apt-get install virtiofsd`, or `qemu-system-common` on Debian 12; or mount `:snapshot`"
                    .to_owned(),
            ),
            Self::NoSharing(path) => Some(format!(
                "mount what it holds now, read-only: `-v {}:/path:snapshot`; or copy with `firebuild cp`; or run it with `--vmm qemu`",
                path.display()
            )),
            Self::TooManyDevices { .. } => Some(
                "each volume, snapshot, directory of the host and network is a device; anonymous volumes together are one"
                    .to_owned(),
            ),
            Self::TooLittleMemory { needed, .. } => Some(format!(
                "give it more: `--mem {}`, or what its workload needs beyond that",
                needed.next_multiple_of(16)
            )),
            Self::GuestTimeout { .. } => Some(
                "a slow host needs more time: see the flag for the initial communication time-out"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    /// The status with which a foreground `run` ends because of this.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::GuestReports { status, .. } if *status != 0 => *status,
            Self::Reported(report) => report.status,
            _ => 125,
        }
    }
}

/// An error as it travels between processes and stays in a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Report {
    /// What happened.
    pub text: String,
    /// Why, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Box<Report>>,
    /// What a person can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The status with which a foreground `run` ends because of it.
    #[serde(default = "own_failure")]
    pub status: u8,
}

fn own_failure() -> u8 {
    125
}

impl Report {
    /// A report without a cause.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            cause: None,
            hint: None,
            status: own_failure(),
        }
    }

    fn of_chain(error: &(dyn std::error::Error + 'static)) -> Self {
        Self {
            cause: error.source().map(|cause| Box::new(Self::of_chain(cause))),
            ..Self::new(error.to_string())
        }
    }
}

impl From<&Error> for Report {
    fn from(error: &Error) -> Self {
        Self {
            hint: error.hint(),
            status: error.exit_status(),
            ..Self::of_chain(error)
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Report {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let cause = self.cause.as_deref()?;
        Some(cause)
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn a_report_keeps_the_chain_and_the_hint() {
        let error = Error::io("read `x`", io::Error::other("no such luck"));
        let report = Report::from(&error);
        let text = serde_json::to_string(&report).unwrap();
        let read: Report = serde_json::from_str(&text).unwrap();
        assert_eq!(read, report);
        assert_eq!(read.to_string(), "cannot read `x`");
        assert_eq!(read.source().unwrap().to_string(), "no such luck");
        assert!(read.source().unwrap().source().is_none());
        let missing = Error::VmmMissing {
            program: "q".into(),
        };
        let again = Error::Reported(Report::from(&missing));
        assert_eq!(again.hint(), missing.hint());
        assert_eq!(again.to_string(), missing.to_string());
    }

    #[test]
    fn what_the_agent_says_last_is_the_reason() {
        let failed = |text: &str| {
            let error = Error::GuestFailed {
                id: MachineId::from_random([0; 20]),
                console: text.lines().map(str::to_owned).collect(),
            };
            let text = error.to_string();
            let (_, end) = text.split_once("ended before it reached the host").unwrap();
            end.to_owned()
        };
        assert_eq!(failed("noise\nvminit: fatal: no: `x`"), ": no: `x`");
        assert_eq!(failed("noise\nmore"), "\n  noise\n  more");
    }

    #[test]
    fn a_program_that_is_not_found_has_its_own_status() {
        let error = Error::GuestReports {
            id: MachineId::from_random([0; 20]),
            text: "cannot find `x`".into(),
            status: 127,
        };
        assert_eq!(error.exit_status(), 127);
        assert_eq!(Error::Reported(Report::from(&error)).exit_status(), 127);
        assert_eq!(Error::Spec("x".into()).exit_status(), 125);
    }
}
