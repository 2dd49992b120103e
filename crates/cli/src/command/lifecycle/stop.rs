//! `firebuild stop`: the orderly end of microVMs.

use std::time::Duration;

use clap::Args;
use firebuild_machine::client;

use super::{each, host, signal, time};
use crate::arguments::values;
use crate::command::Global;

/// How a workload is asked to end.
#[derive(Debug, Args)]
pub(crate) struct StopArguments {
    /// How long a workload may take before it is killed, such as 10s or 1m30s [default: what `run
    /// --stop-timeout` said, else 10s]
    #[arg(long, short, value_name = "TIME", value_parser = time)]
    time: Option<Duration>,
    /// Ask with this signal instead of the VM's own
    #[arg(long, short, value_name = "SIGNAL", value_parser = values::form(signal))]
    signal: Option<String>,
}

impl StopArguments {
    /// The same for a supervisor.
    pub(super) fn stop(&self) -> anyhow::Result<client::Stop> {
        Ok(client::Stop {
            grace: self.time,
            signal: self.signal.as_deref().map(signal).transpose()?,
            host_ends: false,
        })
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
The VM keeps its disk: `firebuild start` starts it again as it was, `firebuild rm` removes it. Several VMs
are stopped at the same time.")]
pub(crate) struct Stop {
    #[command(flatten)]
    how: StopArguments,
    /// The VMs
    #[arg(required = true)]
    vms: Vec<String>,
}

impl Stop {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let host = host(global)?;
        let stop = self.how.stop()?;
        each(&self.vms, |vm| {
            client::stop(&host, &client::find(&host, vm)?, stop)?;
            Ok(None)
        })
    }
}
