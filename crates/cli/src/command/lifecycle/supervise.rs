//! `firebuild supervise`: what each microVM's own process does.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use firebuild_machine::{Host, supervisor};

use crate::command::Global;
use crate::{arguments, error, tracing};

/// The word that a supervisor's command line begins with.
pub(crate) const WORD: &str = "supervise";

/// What a supervisor is started with.
///
/// It is no subcommand, because nobody types it: the definitions of all commands, which it would be
/// found among, take longer to make than the rest of its start.
#[derive(Debug, Parser)]
#[command(
    name = "firebuild supervise",
    bin_name = "firebuild supervise",
    disable_version_flag = true,
    about = "Be the process that owns a microVM: what `firebuild run` starts, and nobody types",
    long_about = None
)]
pub(crate) struct Supervise {
    #[command(flatten)]
    global: Global,
    /// What `run` passes on
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

impl Supervise {
    /// Is a supervisor until its VM has ended. The command line begins behind the program's name.
    ///
    /// # Errors
    /// Where it is none that [`super::supervisor_command`] makes.
    pub(crate) fn main(line: impl Iterator<Item = OsString>) -> Result<ExitCode, clap::Error> {
        let Self { global, arguments } = arguments::read_alone(line)?;
        global.log.install();
        global.tracing.begin(&[WORD.to_owned()]);
        let result = global.store().map(|store| {
            let host = Host {
                watch: tracing::machine::watch_supervised(),
                ..Host::new(store)
            };
            supervisor::main(&host, &arguments)
        });
        tracing::finish(result.as_ref().err());
        Ok(result.unwrap_or_else(|error| error::report(&error)))
    }
}
