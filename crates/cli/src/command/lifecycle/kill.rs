//! `firebuild kill`: the end of microVMs at once, or a signal for their workloads.

use std::time::Duration;

use clap::Args;
use firebuild_machine::client::{self, Stop};

use super::{each, host, signal, time};
use crate::arguments::values;
use crate::command::Global;
use crate::command::cni::CniDirectories;
use crate::command::gone::GoneNetwork;

/// What a workload may take to end before `kill` insists, as the original has it.
const KILL_TIME: &str = "15s";

#[derive(Debug, Args)]
pub(crate) struct Kill {
    /// Only send this signal to the workload, by name or number
    #[arg(long, short, value_name = "SIGNAL", value_parser = values::form(signal))]
    signal: Option<String>,
    /// How long the workload may take after it was asked to end, such as 10s or 1m30s
    #[arg(long, value_name = "TIME", default_value = KILL_TIME, value_parser = time)]
    shutdown_timeout: Duration,
    /// The VM, as the original tool has it
    #[arg(long, value_name = "VM")]
    vmm_id: Option<String>,
    #[command(flatten)]
    cni: CniDirectories,
    #[command(flatten)]
    gone: GoneNetwork,
    /// The VMs
    #[arg(required_unless_present = "vmm_id")]
    vms: Vec<String>,
}

impl Kill {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        self.gone.warn();
        let mut host = host(global)?;
        host.cni = self.cni.directories()?;
        let signal = self.signal.as_deref().map(signal).transpose()?;
        let vms: Vec<String> = self.vms.into_iter().chain(self.vmm_id).collect();
        each(&vms, |vm| {
            let id = client::find(&host, vm)?;
            match signal {
                Some(number) => client::signal(&host, &id, number)?,
                None if self.shutdown_timeout.is_zero() => drop(client::kill(&host, &id)?),
                None => drop(client::stop(
                    &host,
                    &id,
                    Stop::within(self.shutdown_timeout),
                )?),
            }
            Ok(None)
        })
    }
}
