//! Nothing is left behind: commands are killed at each point at which they change something, and
//! what they leave is looked at once the next command has run. docs/faults.md tells how and why.

mod crowd;
mod host;
mod outer;
mod point;
mod scenario;
mod trace;
mod world;

use clap::ValueEnum;

pub(crate) use outer::{Faults, WorldArguments};

/// Who dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
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
