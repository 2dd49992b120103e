//! What a VM does beside its workload, for a command that waits: the JSON of `ToGuest.Task`. The
//! conversation about it is the call `Terminal` of the service `Machine`.

use serde::{Deserialize, Serialize};

use crate::command::Terminal;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub enum Task {
    /// Run a process where the workload runs.
    Execute(Process),
    /// Pass on what is typed to the workload itself, and signals. What it writes goes the usual way.
    Attach,
    /// Write what is at a path in the workload's root to standard output, as [`crate::files`] pack it.
    Pack {
        /// An absolute path.
        path: String,
        /// Whether what a link leads to is meant.
        follow: bool,
    },
    /// Unpack the archive on standard input in the workload's root, as [`crate::files`] do.
    Unpack {
        /// An absolute path.
        path: String,
        /// Whether what a directory holds goes there, and not the directory itself.
        contents: bool,
        /// Whether the archive is a person's own.
        archive: bool,
    },
    /// Tell of all processes: JSON of a list of [`Entry`], on standard output.
    Processes,
    /// Tell what the VM uses: JSON of [`Usage`] on standard output, a line at once and then one every
    /// second until somebody hangs up.
    Usage,
}

/// A process, as a guest tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// Its id.
    pub pid: u32,
    /// Its parent's.
    pub ppid: u32,
    /// Its user's number.
    pub uid: u32,
    /// The letter of its state.
    pub state: String,
    /// The number of its terminal, 0 if it has none.
    pub tty: u32,
    /// Its time on a processor, in milliseconds.
    pub cpu: u64,
    /// How long ago it started, in milliseconds.
    pub age: u64,
    /// Memory that it has, in KiB.
    pub rss: u64,
    /// Addresses that it uses, in KiB.
    pub vsz: u64,
    /// How many threads it has.
    pub threads: u32,
    /// What it is called, at most 15 bytes.
    pub name: String,
    /// Its arguments, with spaces between them.
    pub command: String,
}

/// What a VM uses, as its guest counts it since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// How long it has been up, in milliseconds.
    pub uptime: u64,
    /// Time that all processors together were busy, in milliseconds.
    pub cpu: u64,
    /// How many processors it has.
    pub cpus: u32,
    /// Memory in use, in KiB, without what the kernel could give back.
    pub memory: u64,
    /// All memory, in KiB.
    pub memory_total: u64,
    /// Bytes that came by the network.
    pub received: u64,
    /// Bytes that went by the network.
    pub sent: u64,
    /// Bytes read from drives.
    pub read: u64,
    /// Bytes written to drives.
    pub written: u64,
    /// How many processes there are.
    pub processes: u32,
}

/// A process beside the workload: in its root, its namespaces, and its environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Process {
    /// Program and arguments; at least the program.
    pub arguments: Vec<String>,
    /// What its environment has beyond the workload's, or instead; each name once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<(String, String)>,
    /// Where it starts, which is there; where the workload started if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Who it is, as in [`Workload::user`](crate::workload::Workload::user); who the workload is if
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What its standard streams are.
    pub streams: Streams,
}

/// The standard streams of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Streams {
    /// None: nobody stays with it, and it goes on by itself.
    Detached,
    /// Output and errors are passed on; there is nothing to read.
    Output,
    /// All three are passed on.
    Pipes,
    /// A terminal of its own.
    Terminal(Terminal),
}
