//! `firebuild start` and `firebuild restart`: microVMs that have ended, once more.

use clap::Args;
use firebuild_machine::client;

use super::stop::StopArguments;
use super::{each_of, host, supervisor_command};
use crate::command::Global;

/// How many VMs are started at a time, for each of the host's processors.
const AT_A_TIME: usize = 2;

#[derive(Debug, Args)]
#[command(after_help = "\
A VM is started with what `run` was told: the same id, name, disk, networks and ports, and the same
address if it is still free. One that runs is left alone.")]
pub(crate) struct Start {
    /// The VMs
    #[arg(required = true)]
    vms: Vec<String>,
}

impl Start {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let host = host(global)?;
        each_of(&self.vms, at_a_time(), |vm| {
            let id = client::find(&host, vm)?;
            client::start(&host, &id, supervisor_command(global)?)?;
            Ok(None)
        })
    }
}

#[derive(Debug, Args)]
pub(crate) struct Restart {
    #[command(flatten)]
    how: StopArguments,
    /// The VMs
    #[arg(required = true)]
    vms: Vec<String>,
}

impl Restart {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let host = host(global)?;
        let stop = self.how.stop()?;
        each_of(&self.vms, at_a_time(), |vm| {
            let id = client::find(&host, vm)?;
            client::stop(&host, &id, stop)?;
            client::start(&host, &id, supervisor_command(global)?)?;
            Ok(None)
        })
    }
}

/// How many VMs are started at a time: more would only wait for each other.
pub(crate) fn at_a_time() -> usize {
    let processors = std::thread::available_parallelism();
    AT_A_TIME * processors.map_or(1, usize::from)
}
