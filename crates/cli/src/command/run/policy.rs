//! What `run` takes about the life of a microVM: its end, and whether it comes back.

use std::time::Duration;

use clap::Args;
use firebuild_core::ImageConfig;
use firebuild_machine::MachineSpec;
use firebuild_machine::restart::RestartPolicy;

use crate::command::lifecycle;

/// The signal that asks a workload to end where nothing names one: SIGTERM.
const DEFAULT_STOP_SIGNAL: u8 = 15;

/// How a VM ends, and whether it is started again.
#[derive(Debug, Args)]
pub(super) struct PolicyArguments {
    /// Start it again when it has ended: no, on-failure[:N], always, unless-stopped
    #[arg(
        long,
        value_name = "POLICY",
        default_value = "no",
        help_heading = "Life"
    )]
    restart: RestartPolicy,
    /// The signal that asks the workload to end [default: the image's, else SIGTERM]
    #[arg(long, value_name = "SIGNAL", help_heading = "Life")]
    stop_signal: Option<String>,
    /// How long the workload may take to end before it is killed, such as 10s or 1m30s [default: 10s]
    #[arg(
        long,
        value_name = "TIME",
        value_parser = lifecycle::time,
        help_heading = "Life"
    )]
    stop_timeout: Option<Duration>,
}

impl PolicyArguments {
    /// The signal that asks the workload to end.
    pub(super) fn stop_signal(&self, config: &ImageConfig) -> anyhow::Result<u8> {
        let named = self.stop_signal.as_ref();
        let named = named.or(config.config.stop_signal.as_ref());
        let number = named.map(|name| lifecycle::signal(name)).transpose()?;
        Ok(number.unwrap_or(DEFAULT_STOP_SIGNAL))
    }

    /// Notes the rest of it.
    pub(super) fn apply(&self, spec: &mut MachineSpec) {
        spec.restart = self.restart;
        spec.stop_time = self.stop_timeout;
    }
}
