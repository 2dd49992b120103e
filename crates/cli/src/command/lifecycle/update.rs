//! `firebuild update`: what of microVMs can change while they run.

use std::time::Duration;

use clap::Args;
use firebuild_machine::change::Change;
use firebuild_machine::client;
use firebuild_machine::restart::RestartPolicy;

use super::{each, host, time};
use crate::command::Global;
use crate::command::run::LimitArguments;
use crate::error::hinted;

#[derive(Debug, Args)]
#[command(after_help = "\
What is not named stays as it is, and what is named holds at once, in a VM that runs, too.
Processors, memory and disk of a VM are fixed when it is made.")]
pub(crate) struct Update {
    /// Start them again when they have ended: no, on-failure[:N], always, unless-stopped
    #[arg(long, value_name = "POLICY")]
    restart: Option<RestartPolicy>,
    /// How long their workloads may take to end before they are killed, such as 10s or 1m30s
    #[arg(long, value_name = "TIME", value_parser = time)]
    stop_timeout: Option<Duration>,
    #[command(flatten)]
    limits: LimitArguments,
    /// The VMs
    #[arg(required = true)]
    vms: Vec<String>,
}

impl Update {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let change = Change {
            name: None,
            restart: self.restart,
            stop_time: self.stop_timeout,
            limits: self.limits.limits(),
        };
        if change == Change::default() {
            return Err(hinted(
                "nothing was said that is to change",
                "see `firebuild update --help`",
            ));
        }
        let host = host(global)?;
        each(&self.vms, |vm| {
            client::change(&host, &client::find(&host, vm)?, change.clone())?;
            Ok(None)
        })
    }
}
