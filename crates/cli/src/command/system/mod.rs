//! `firebuild system`: care of the whole store.

mod df;
mod prune;

use clap::Subcommand;

use super::Global;

#[derive(Debug, Subcommand)]
pub(crate) enum System {
    /// Show what the store takes on the disk, and how much of it can be had back
    Df(df::Df),
    /// Remove what nobody uses: ended microVMs, images without a name, results of earlier builds,
    /// cache mounts
    ///
    /// What a running build or a microVM needs stays.
    Prune(prune::Prune),
}

impl System {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        match self {
            Self::Df(command) => command.run(global),
            Self::Prune(command) => command.run(global),
        }
    }
}
