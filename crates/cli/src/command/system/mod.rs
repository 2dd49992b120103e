//! `firebuild system`: care of the whole store.

mod boot;
mod df;
mod install;
mod prune;
mod verify;

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
    /// Read everything again and say what is broken, and which images that hurts
    ///
    /// The exit status is 1 if anything is broken and was not mended.
    Verify(verify::Verify),
    /// Start microVMs with the host: write the systemd unit that does it
    Install(install::Install),
    /// Remove the systemd unit that starts microVMs with the host
    Uninstall(install::Uninstall),
    /// Start the microVMs that start with the host (internal)
    #[command(hide = true)]
    Boot(boot::Boot),
    /// Stop all microVMs because the host ends (internal)
    #[command(hide = true)]
    Halt(boot::Halt),
}

impl System {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        match self {
            Self::Df(command) => command.run(global),
            Self::Prune(command) => command.run(global),
            Self::Verify(command) => command.run(global),
            Self::Install(command) => command.run(global),
            Self::Uninstall(command) => command.run(global),
            Self::Boot(command) => command.run(global),
            Self::Halt(command) => command.run(global),
        }
    }
}
