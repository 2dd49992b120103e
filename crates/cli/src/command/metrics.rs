//! `firebuild metrics`: the host's VMs and its store in numbers.

use std::net::SocketAddr;

use clap::Args;

use super::{Global, block_on, lifecycle};
use crate::metrics;
use crate::terminal;

#[derive(Debug, Args)]
pub(crate) struct Metrics {
    /// Serve them over HTTP at this address, until the command is ended; at the default one, nobody on
    /// other hosts can ask
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "127.0.0.1:9180"
    )]
    serve: Option<SocketAddr>,
}

impl Metrics {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let host = lifecycle::host(global)?;
        match self.serve {
            Some(address) => block_on(metrics::serve::serve(host, address))?,
            None => terminal::print(metrics::gather(&host)?),
        }
    }
}
