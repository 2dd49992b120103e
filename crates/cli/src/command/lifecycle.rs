//! What is done with microVMs that exist: list, show, watch, end, remove.

use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Args;
use firebuild_builder::care;
use firebuild_dockerfile::signal::Signal;
use firebuild_machine::output::{Entry, Stream};
use firebuild_machine::{Host, Record, client, reconcile, supervisor};

use super::{Format, Global};
use crate::error::hinted;
use crate::terminal::{self, Table};

/// What a workload may take to end, in seconds, as Docker has it.
const STOP_TIME: &str = "10";

/// What a workload may take to end before `kill` insists, in seconds, as the original has it.
const KILL_TIME: &str = "15";

/// This host, with whatever dead supervisors left cleaned up.
pub(crate) fn host(global: &Global) -> anyhow::Result<Host> {
    let host = Host::new(global.store()?);
    reconcile::reconcile(&host)?;
    Ok(host)
}

/// The command that starts a supervisor: this program, with the same state.
pub(crate) fn supervisor_command(global: &Global) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("--root")
        .arg(std::path::absolute(&global.root)?)
        .arg("supervise");
    Ok(command)
}

/// A number of seconds, with or without `s`.
fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix('s').unwrap_or(text).parse::<u64>().ok();
    let number = number.filter(|seconds| *seconds <= 86_400);
    number
        .map(Duration::from_secs)
        .ok_or_else(|| "a number of seconds from 0 to 86400 is needed".to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// Also those that have ended
    #[arg(long, short)]
    all: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Ls {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let mut records = client::list(&host(global)?)?;
        records.retain(|record| self.all || !record.state.is_final());
        if self.format == Format::Json {
            return terminal::print_json(&records);
        }
        let mut table = Table::new(&[
            "ID", "NAME", "IMAGE", "STATUS", "ADDRESS", "PORTS", "CREATED",
        ]);
        for record in &records {
            table.row(row(record));
        }
        terminal::print(table)
    }
}

fn row(record: &Record) -> Vec<String> {
    let name = record.spec.name.as_ref().map(ToString::to_string);
    let image = record
        .spec
        .image
        .as_ref()
        .map(|image| image.reference.clone());
    let address = record
        .address()
        .filter(|_| !record.state.is_final())
        .map(|address| address.to_string());
    let ports: Vec<String> = record.spec.ports.iter().map(ToString::to_string).collect();
    vec![
        record.id.to_string(),
        name.unwrap_or_default(),
        image.unwrap_or_else(|| "(build)".to_owned()),
        record.state.word().to_owned(),
        address.unwrap_or_default(),
        ports.join(", "),
        record.created.strftime("%Y-%m-%d %H:%M:%S").to_string(),
    ]
}

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
        terminal::print_json(&client::inspect(&host(global)?, &name)?)
    }
}

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

#[derive(Debug, Args)]
pub(crate) struct Stop {
    /// How long the workload may take, in seconds, before it is killed
    #[arg(long, short, value_name = "SECONDS", default_value = STOP_TIME, value_parser = seconds)]
    time: Duration,
    /// The VMs
    #[arg(required = true)]
    vms: Vec<String>,
}

impl Stop {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let host = host(global)?;
        for vm in &self.vms {
            let record = client::inspect(&host, vm)?;
            client::stop(&host, &record.id, self.time)?;
            terminal::print(format_args!("{vm}\n"))?;
        }
        Ok(())
    }
}

#[derive(Debug, Args)]
pub(crate) struct Kill {
    /// Only send this signal to the workload, by name or number
    #[arg(long, short, value_name = "SIGNAL")]
    signal: Option<String>,
    /// How long the workload may take after it was asked to end, in seconds
    #[arg(long, value_name = "SECONDS", default_value = KILL_TIME, value_parser = seconds)]
    shutdown_timeout: Duration,
    /// The VM, as the original tool has it
    #[arg(long, value_name = "VM")]
    vmm_id: Option<String>,
    /// The VMs
    #[arg(required_unless_present = "vmm_id")]
    vms: Vec<String>,
}

impl Kill {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let host = host(global)?;
        let signal = self.signal.as_deref().map(signal).transpose()?;
        for vm in self.vms.iter().chain(&self.vmm_id) {
            let record = client::inspect(&host, vm)?;
            match signal {
                Some(number) => client::signal(&host, &record.id, number)?,
                None if self.shutdown_timeout.is_zero() => {
                    client::kill(&host, &record.id)?;
                }
                None => {
                    client::stop(&host, &record.id, self.shutdown_timeout)?;
                }
            }
            terminal::print(format_args!("{vm}\n"))?;
        }
        Ok(())
    }
}

/// The number of a signal.
pub(crate) fn signal(text: &str) -> anyhow::Result<u8> {
    let signal: Result<Signal, _> = text.parse();
    signal.map(Signal::number).map_err(|error| {
        hinted(
            error.to_string(),
            "write a name such as SIGTERM, or a number",
        )
    })
}

#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// End those that still run
    #[arg(long, short)]
    force: bool,
    /// The VMs
    #[arg(required = true)]
    vms: Vec<String>,
}

impl Rm {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let host = host(global)?;
        for vm in &self.vms {
            let record = client::inspect(&host, vm)?;
            if self.force {
                client::kill(&host, &record.id)?;
            }
            client::rm(&host, &record.id)?;
            terminal::print(format_args!("{vm}\n"))?;
        }
        Ok(())
    }
}

#[derive(Debug, Args)]
pub(crate) struct Purge {}

impl Purge {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let Self {} = self;
        let host = host(global)?;
        let purged = reconcile::purge(&host)?;
        for id in &purged.machines {
            terminal::print(format_args!("{id}\n"))?;
        }
        care::unneeded(&host.store)?;
        Ok(())
    }
}

#[derive(Debug, Args)]
pub(crate) struct Supervise {
    /// What `run` passes on
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<std::ffi::OsString>,
}

impl Supervise {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let host = Host::new(global.store()?);
        Ok(supervisor::main(&host, &self.arguments))
    }
}
