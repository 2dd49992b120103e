//! `firebuild rm` and `firebuild purge`: microVMs that have ended go, with their disks.

use clap::Args;
use firebuild_builder::care;
use firebuild_machine::{client, reconcile};

use super::{each, host};
use crate::command::Global;
use crate::command::cni::CniDirectories;
use crate::command::gone::GoneNetwork;
use crate::terminal;

#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// End those that still run
    #[arg(long, short)]
    force: bool,
    /// The VMs
    #[arg(required = true)]
    vms: Vec<String>,
}

impl Rm {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let host = host(global)?;
        each(&self.vms, |vm| {
            let id = client::find(&host, vm)?;
            match self.force {
                true => client::end_and_remove(&host, &id)?,
                false => client::rm(&host, &id)?,
            }
            Ok(None)
        })
    }
}

#[derive(Debug, Args)]
pub(crate) struct Purge {
    #[command(flatten)]
    cni: CniDirectories,
    #[command(flatten)]
    gone: GoneNetwork,
}

impl Purge {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        self.gone.warn();
        let mut host = host(global)?;
        host.cni = self.cni.directories()?;
        let purged = reconcile::purge(&host)?;
        for id in &purged.machines {
            terminal::print(format_args!("{id}\n"))?;
        }
        care::unneeded(&host.store)?;
        Ok(())
    }
}
