//! `firebuild supervise`: what each microVM's own process does.

use std::process::ExitCode;

use clap::Args;
use firebuild_machine::{Host, supervisor};

use crate::command::Global;
use crate::tracing;

#[derive(Debug, Args)]
pub(crate) struct Supervise {
    /// What `run` passes on
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<std::ffi::OsString>,
}

impl Supervise {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let host = Host {
            watch: tracing::machine::watch_supervised(),
            ..Host::new(global.store()?)
        };
        Ok(supervisor::main(&host, &self.arguments))
    }
}
