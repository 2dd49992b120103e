//! `firebuild inspect`: everything about one microVM.

use clap::Args;
use firebuild_machine::client;

use super::host;
use crate::command::{Format, Global};
use crate::terminal;

/// A VM, in the words of containers or of the original tool.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The VM: its name, its id, or the beginning of its id
    #[arg(required_unless_present = "vmm_id")]
    vm: Option<String>,
    /// The same, as the original tool has it
    #[arg(long, value_name = "VM", conflicts_with = "vm")]
    vmm_id: Option<String>,
    /// How to print; facts of a VM are JSON either way
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Inspect {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let Self {
            vm,
            vmm_id,
            format: Format::Text | Format::Json,
        } = self;
        let name = vm.or(vmm_id).unwrap_or_default();
        let host = host(global)?;
        let mut record = client::inspect(&host, &name)?;
        if !record.state.is_final() {
            record.count(&host.network.settings().name);
        }
        terminal::print_json(&record)
    }
}
