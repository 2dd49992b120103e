//! `firebuild logs`: what a workload wrote.

use clap::Args;
use firebuild_machine::client;
use firebuild_machine::output::{Entry, Stream};

use super::host;
use crate::command::Global;
use crate::terminal;

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Go on until the VM has ended
    #[arg(long, short)]
    follow: bool,
    /// The VM
    vm: String,
}

impl Logs {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let host = host(global)?;
        let record = client::inspect(&host, &self.vm)?;
        for entry in client::logs(&host, &record.id, self.follow)? {
            show(&entry?)?;
        }
        Ok(())
    }
}

/// Passes a workload's output on, each stream to its own.
pub(crate) fn show(entry: &Entry) -> anyhow::Result<()> {
    match entry.stream {
        Stream::Stdout => terminal::print_bytes(&entry.data),
        Stream::Stderr => terminal::print_error_bytes(&entry.data),
    }
}
