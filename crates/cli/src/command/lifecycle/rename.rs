//! `firebuild rename`: another name for a microVM.

use clap::Args;
use firebuild_core::MachineName;
use firebuild_machine::client;

use super::host;
use crate::command::Global;

#[derive(Debug, Args)]
pub(crate) struct Rename {
    /// The VM
    vm: String,
    /// What to call it
    name: MachineName,
}

impl Rename {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let host = host(global)?;
        let id = client::find(&host, &self.vm)?;
        Ok(client::rename(&host, &id, self.name)?)
    }
}
