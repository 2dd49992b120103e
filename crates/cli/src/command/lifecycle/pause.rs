//! `firebuild pause` and `firebuild unpause`: microVMs that stand still.

use clap::Args;
use firebuild_machine::client;

use super::{each, host};
use crate::command::Global;

#[derive(Debug, Args)]
pub(crate) struct Pause {
    /// The VMs
    #[arg(required = true)]
    vms: Vec<String>,
}

impl Pause {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let host = host(global)?;
        each(&self.vms, |vm| {
            client::pause(&host, &client::find(&host, vm)?)?;
            Ok(None)
        })
    }
}

#[derive(Debug, Args)]
pub(crate) struct Unpause {
    /// The VMs
    #[arg(required = true)]
    vms: Vec<String>,
}

impl Unpause {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let host = host(global)?;
        each(&self.vms, |vm| {
            client::unpause(&host, &client::find(&host, vm)?)?;
            Ok(None)
        })
    }
}
