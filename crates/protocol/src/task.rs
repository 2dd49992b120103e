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
