//! `firebuild ls`: the microVMs of this host.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use clap::Args;
use firebuild_core::MachineId;
use firebuild_machine::client::Damaged;
use firebuild_machine::{Host, Record, Report, State, client};
use firebuild_network::Listener;
use serde::Serialize;

use crate::command::{Format, Global};
use crate::terminal::{self, Table};

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
        let client::Survey {
            mut records,
            mut damaged,
        } = client::survey(&Host::new(global.store()?))?;
        records.retain(|record| self.all || !record.state.is_final());
        damaged.retain(|damaged| self.all || damaged.runs);
        if self.format == Format::Json {
            let records = records.iter().map(Listed::Record);
            let damaged = damaged.iter().map(Unknown::of).map(Listed::Damaged);
            return terminal::print_json(&records.chain(damaged).collect::<Vec<_>>());
        }
        let mut table = Table::new(&[
            "ID", "NAME", "IMAGE", "STATUS", "ADDRESS", "PORTS", "CREATED",
        ]);
        for record in &records {
            table.row(row(record));
        }
        for Damaged { id, name, .. } in &damaged {
            let name = name.as_ref().map(ToString::to_string).unwrap_or_default();
            let known = [id.to_string(), name, String::new(), DAMAGED.to_lowercase()];
            table.row([&known[..], &[const { String::new() }; 3]].concat());
        }
        terminal::print(table)
    }
}

/// The state of a VM whose record cannot be understood.
const DAMAGED: &str = "Damaged";

/// What is printed of a VM as JSON.
#[derive(Serialize)]
#[serde(untagged)]
enum Listed<'a> {
    Record(&'a Record),
    Damaged(Unknown<'a>),
}

/// What is known of a VM whose record cannot be understood, in the record's form.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Unknown<'a> {
    id: &'a MachineId,
    state: UnknownState<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct UnknownState<'a> {
    status: &'static str,
    reason: &'a Report,
}

impl<'a> Unknown<'a> {
    fn of(damaged: &'a Damaged) -> Self {
        Self {
            id: &damaged.id,
            state: UnknownState {
                status: DAMAGED,
                reason: &damaged.reason,
            },
        }
    }
}

/// Where it is in its life, and how its workload is or was.
fn status(record: &Record) -> String {
    let word = record.state.word();
    match (&record.state, &record.health) {
        (State::Running, Some(health)) => format!("{word} ({})", health.status.word()),
        (state, _) if state.is_final() && record.oom_killed => format!("{word} (out of memory)"),
        (State::Stopped { exit }, _) if exit.code() != 0 => format!("{word} ({})", exit.code()),
        _ => word.to_owned(),
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
    let mut ports: Vec<String> = listeners(record).map(shown).collect();
    if ports.is_empty() {
        ports = record.spec.ports.iter().map(ToString::to_string).collect();
    }
    vec![
        record.id.to_string(),
        name.unwrap_or_default(),
        image.unwrap_or_else(|| "(build)".to_owned()),
        status(record),
        address.unwrap_or_default(),
        ports.join(", "),
        record.created.strftime("%Y-%m-%d %H:%M:%S").to_string(),
    ]
}

/// The ports of a VM that the host has, once each.
fn listeners(record: &Record) -> impl Iterator<Item = &Listener> {
    let interfaces = record.network_interfaces.iter();
    let ports = interfaces.flat_map(|interface| &interface.ports);
    // What is published everywhere is so for both kinds of addresses.
    ports.filter(|port| port.address != IpAddr::V6(Ipv6Addr::UNSPECIFIED))
}

fn shown(port: &Listener) -> String {
    let Listener {
        address,
        host,
        guest,
        protocol,
    } = port;
    if address.is_unspecified() {
        return format!("{host}:{guest}/{protocol}");
    }
    let address = SocketAddr::new(*address, host.get());
    format!("{address}:{guest}/{protocol}")
}
