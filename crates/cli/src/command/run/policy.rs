//! What `run` takes about the life of a microVM: its end, and whether it comes back.

use std::time::Duration;

use clap::Args;
use firebuild_core::{ByteSize, ImageConfig};
use firebuild_machine::MachineSpec;
use firebuild_machine::limits::CpuMax;
use firebuild_machine::output::LogLimits;
use firebuild_machine::restart::RestartPolicy;

use crate::arguments::values;
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
    #[arg(
        long,
        value_name = "SIGNAL",
        value_parser = values::form(lifecycle::signal),
        help_heading = "Life"
    )]
    stop_signal: Option<String>,
    /// How long the workload may take to end before it is killed, such as 10s or 1m30s [default: 10s]
    #[arg(
        long,
        value_name = "TIME",
        value_parser = lifecycle::time,
        help_heading = "Life"
    )]
    stop_timeout: Option<Duration>,
    /// The same in seconds, as the original tool has it
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(..=86_400), conflicts_with = "stop_timeout", hide = true)]
    shutdown_graceful_timeout_seconds: Option<u32>,
    /// How large a file of the workload's output gets before the next one begins
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "32M",
        help_heading = "Life"
    )]
    log_max_size: ByteSize,
    /// How many files of the workload's output are kept: 2 to 1000
    #[arg(
        long,
        value_name = "N",
        default_value_t = 2,
        value_parser = values::whole::<u32>(2, 1000),
        help_heading = "Life"
    )]
    log_max_files: u32,
    /// By how much the memory of all VMs may exceed this host's [default: 2]
    #[arg(long, value_name = "FACTOR", value_parser = factor, help_heading = "Life")]
    memory_overcommit: Option<u32>,
}

/// A factor from 1 to 100, in hundredths.
fn factor(text: &str) -> Result<u32, String> {
    let factor: Option<CpuMax> = text.parse().ok();
    let hundredths = factor.map(|factor| u32::from(factor) / 10);
    hundredths
        .filter(|factor| (100..=10_000).contains(factor))
        .ok_or_else(|| "a factor from 1 to 100 is needed, such as `1.5`".to_owned())
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
        let seconds = self.shutdown_graceful_timeout_seconds;
        let seconds = seconds.map(|seconds| Duration::from_secs(seconds.into()));
        spec.stop_time = self.stop_timeout.or(seconds);
        spec.log = LogLimits {
            max_size: self.log_max_size,
            max_files: self.log_max_files,
        };
        spec.overcommit = self.memory_overcommit;
    }
}
