//! What `run` takes about what a microVM may take of its host.

use clap::Args;
use firebuild_core::ByteSize;
use firebuild_machine::MachineSpec;
use firebuild_machine::limits::{CpuMax, DiskRates, Limits, Weight};

use crate::arguments::values;

/// What the VMM of a VM may take of its host.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
struct GroupArguments {
    /// Its share of the processors when there are not enough: 1 to 10000, where others have 100
    #[arg(long, value_name = "WEIGHT")]
    cpu_weight: Option<Weight>,
    /// How much of the host's processors it gets at most, such as 1.5
    #[arg(long, value_name = "N")]
    cpu_max: Option<CpuMax>,
    /// How much memory its VMM may have, the guest's included: 128M more than that at least
    #[arg(long, value_name = "SIZE")]
    memory_max: Option<ByteSize>,
    /// Its share of the host's disks when there is not enough: 1 to 10000, where others have 100
    #[arg(long, value_name = "WEIGHT")]
    io_weight: Option<Weight>,
    /// How many processes and threads its VMM may have
    #[arg(long, value_name = "N", value_parser = values::whole::<u32>(16, 1 << 22))]
    pids_max: Option<u32>,
}

impl GroupArguments {
    /// The same for a VM.
    fn limits(&self) -> Limits {
        Limits {
            cpu_weight: self.cpu_weight,
            cpu_max: self.cpu_max,
            memory_max: self.memory_max,
            io_weight: self.io_weight,
            pids_max: self.pids_max,
            ..Limits::default()
        }
    }
}

/// What a VM may take of its host.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArguments {
    #[command(flatten)]
    group: GroupArguments,
    /// How much its disks together read in a second, such as 10M
    #[arg(long, value_name = "SIZE", value_parser = rate)]
    device_read_bps: Option<ByteSize>,
    /// How much its disks together write in a second, such as 10M
    #[arg(long, value_name = "SIZE", value_parser = rate)]
    device_write_bps: Option<ByteSize>,
    /// How often its disks together are read in a second
    #[arg(long, value_name = "N", value_parser = values::whole::<u64>(1, 1 << 32))]
    device_read_iops: Option<u64>,
    /// How often its disks together are written in a second
    #[arg(long, value_name = "N", value_parser = values::whole::<u64>(1, 1 << 32))]
    device_write_iops: Option<u64>,
    /// How much each of its network devices passes in a second, in each direction, such as 10M
    #[arg(long, value_name = "SIZE", value_parser = rate)]
    net_rate: Option<ByteSize>,
}

/// A rate in bytes a second, of which a packet or a block is not too much.
fn rate(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse().map_err(|error| format!("{error}"))?;
    if !(ByteSize(16 << 10)..=ByteSize(1 << 40)).contains(&size) {
        return Err("a rate of 16K to 1T a second is needed".to_owned());
    }
    Ok(size)
}

impl LimitArguments {
    /// Notes them.
    pub(super) fn apply(&self, spec: &mut MachineSpec) {
        spec.limits = self.limits();
    }

    /// The same for a VM.
    pub(crate) fn limits(&self) -> Limits {
        let bytes = |size: Option<ByteSize>| size.map(|size| size.0);
        Limits {
            disks: DiskRates {
                read_bytes: bytes(self.device_read_bps),
                write_bytes: bytes(self.device_write_bps),
                read_operations: self.device_read_iops,
                write_operations: self.device_write_iops,
            },
            network: bytes(self.net_rate),
            ..self.group.limits()
        }
    }
}
