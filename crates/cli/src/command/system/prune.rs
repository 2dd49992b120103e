//! `firebuild system prune`: everything that nobody uses goes.

use clap::Args;
use firebuild_builder::care;
use firebuild_machine::{client, reconcile};

use crate::command::lifecycle::host;
use crate::command::{Global, image};
use crate::terminal;

#[derive(Debug, Args)]
pub(crate) struct Prune {
    #[command(flatten)]
    choices: image::PruneArguments,
}

impl Prune {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<()> {
        let image::PruneArguments { all, dry_run, .. } = self.choices;
        let host = host(global)?;
        let machines = if dry_run {
            let mut ended = client::list(&host)?;
            ended.retain(|record| record.state.is_final());
            ended.into_iter().map(|record| record.id).collect()
        } else {
            reconcile::purge(&host)?.machines
        };
        for id in &machines {
            terminal::print(format_args!("{id}\n"))?;
        }
        let word = if dry_run { "would remove" } else { "removed" };
        terminal::say(format_args!("{word} {} ended VMs", machines.len()));
        let pruned = care::prune_everything(&host.store, all, dry_run)?;
        image::report(pruned, dry_run)
    }
}
