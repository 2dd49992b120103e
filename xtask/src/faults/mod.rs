//! Nothing is left behind: commands are killed at each point at which they change something, and
//! what they leave is looked at once the next command has run. docs/faults.md tells how and why.

mod cast;
mod choice;
mod class;
mod crowd;
mod host;
mod inner;
mod litter;
mod outer;
mod place;
mod point;
mod prepare;
mod scenario;
mod trace;
mod world;
mod worlds;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub(crate) use inner::WorldArguments;
pub(crate) use outer::Faults;

/// Who dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Victim {
    /// Whoever is about to do something.
    Caller,
    /// The command that was typed.
    Command,
    /// The VM's supervisor.
    Supervisor,
    /// The VMM.
    Vmm,
    /// All of them at once.
    All,
    /// The host: everything but its disks.
    Host,
}
