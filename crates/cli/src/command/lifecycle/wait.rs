//! `firebuild wait`: until microVMs have ended.

use clap::Args;
use firebuild_machine::{State, client};

use super::{each, host};
use crate::command::Global;

#[derive(Debug, Args)]
#[command(after_help = "\
Prints for each VM, in their order, the status that its workload ended with: as a shell tells it, 128 more
than the number of a signal; 125 if the VM ended otherwise. A VM that its restart policy starts again has
not ended.")]
pub(crate) struct Wait {
    /// The VMs
    #[arg(required = true)]
    vms: Vec<String>,
}

impl Wait {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let host = host(global)?;
        each(&self.vms, |vm| {
            let record = client::wait(&host, &client::find(&host, vm)?)?;
            let code = match record.state {
                State::Stopped { exit } => exit.code(),
                State::Failed { reason } => reason.status,
                _ => 125,
            };
            Ok(Some(code.to_string()))
        })
    }
}
