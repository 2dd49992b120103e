//! `firebuild system boot` and `halt`: what the unit of `system install` does when the host starts and
//! ends.

use clap::Args;
use firebuild_machine::Record;
use firebuild_machine::client::{self, Stop};

use crate::command::Global;
use crate::command::lifecycle::{at_a_time, each, each_of, host, supervisor_command};

#[derive(Debug, Args)]
pub(crate) struct Boot {}

#[derive(Debug, Args)]
pub(crate) struct Halt {}

impl Boot {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<()> {
        let Self {} = self;
        let host = host(global)?;
        let ids = chosen(&client::list(&host)?, |record| {
            let policy = record.spec.restart;
            record.state.is_final() && record.lasts() && policy.applies_at_boot(record.was_stopped)
        });
        each_of(&ids, at_a_time(), |id| {
            client::start(
                &host,
                &client::find(&host, id)?,
                supervisor_command(global)?,
            )?;
            Ok(None)
        })
    }
}

impl Halt {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<()> {
        let Self {} = self;
        let host = host(global)?;
        let ids = chosen(&client::list(&host)?, |record| {
            // Builds end by themselves, with those who wait for them.
            !record.state.is_final() && record.lasts()
        });
        let stop = Stop {
            host_ends: true,
            ..Stop::default()
        };
        each(&ids, |id| {
            client::stop(&host, &client::find(&host, id)?, stop)?;
            Ok(None)
        })
    }
}

fn chosen(records: &[Record], is_chosen: impl Fn(&Record) -> bool) -> Vec<String> {
    let chosen = records.iter().filter(|record| is_chosen(record));
    chosen.map(|record| record.id.to_string()).collect()
}
