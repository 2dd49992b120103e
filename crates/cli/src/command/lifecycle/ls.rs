//! `firebuild ls`: the microVMs of this host.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use clap::Args;
use firebuild_machine::{Record, State, client};
use firebuild_network::Listener;

use super::host;
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

/// Where it is in its life, and how its workload is.
fn status(record: &Record) -> String {
    let word = record.state.word();
    match &record.health {
        Some(health) if record.state == State::Running => {
            format!("{word} ({})", health.status.word())
        }
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
