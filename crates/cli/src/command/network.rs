//! `firebuild network`: the networks that microVMs are in.

use std::net::Ipv4Addr;

use clap::{Args, Subcommand};
use firebuild_machine::{Host, client};
use firebuild_network::{Member, Network as Definition, NetworkName, Subnet, Subnet6};
use serde::Serialize;

use super::cni::{self, CniDirectories};
use super::lifecycle::each;
use super::{Format, Global};
use crate::arguments::values;
use crate::terminal::{self, Table};

#[derive(Debug, Subcommand)]
pub(crate) enum Network {
    /// Define a network
    ///
    /// VMs of one network reach each other, VMs of different networks do not. The host makes a
    /// network's bridge and rules when the first VM comes, and removes them with the last.
    Create(Create),
    /// List networks
    Ls(Ls),
    /// Show everything about a network, and who is in it
    Inspect(Inspect),
    /// Remove networks that no VM is in
    Rm(Rm),
    /// Have CNI's plugins check that VMs' networks are as they made them
    ///
    /// Says nothing but the VM's name if all is well; what a plugin finds amiss is an error.
    Check(Check),
    /// Have CNI's plugins remove what they have for VMs and containers that are gone
    ///
    /// Plugins can since version 1.1.0 of CNI, which the network's list has to name; others are not asked.
    /// Everything that this host's cache of CNI does not know counts as gone. Where other programs
    /// attach containers to the same network and keep no results there, they would lose theirs.
    Gc(Gc),
}

impl Network {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        match self {
            Self::Create(command) => command.run(global),
            Self::Ls(command) => command.run(global),
            Self::Inspect(command) => command.run(global),
            Self::Rm(command) => command.run(global),
            Self::Check(command) => command.run(global),
            Self::Gc(command) => command.run(global),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Its addresses, as in 10.9.0.0/24 [default: 256 that nothing has]
    #[arg(long, value_name = "CIDR")]
    subnet: Option<Subnet>,
    /// The host's address in it [default: the first]
    #[arg(long, value_name = "ADDRESS", value_parser = values::address4)]
    gateway: Option<Ipv4Addr>,
    /// The largest packet, in bytes [default: 1500]
    #[arg(long, value_name = "BYTES", value_parser = values::whole::<u32>(1280, 65_535))]
    mtu: Option<u32>,
    /// No way out: its VMs reach each other and nothing else
    #[arg(long)]
    internal: bool,
    /// Give its VMs IPv6 as well
    #[arg(long)]
    ipv6: bool,
    /// Its addresses of IPv6, as in fd00:1:2:3::/64 [default: a private network of its own]
    #[arg(long, value_name = "CIDR", requires = "ipv6")]
    subnet6: Option<Subnet6>,
    /// What to call it
    name: NetworkName,
}

impl Create {
    fn run(self, global: &Global) -> anyhow::Result<()> {
        let definition = Definition {
            subnet: self.subnet,
            gateway: self.gateway,
            mtu: self.mtu,
            internal: self.internal,
            subnet6: self.subnet6,
            ..Definition::named(self.name)
        };
        let made = host(global)?.network.create(definition, self.ipv6)?;
        terminal::print(format_args!("{}\n", made.name))
    }
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The VMs
    #[arg(required = true, value_name = "VM")]
    vms: Vec<String>,
}

impl Check {
    fn run(self, global: &Global) -> anyhow::Result<()> {
        let host = host(global)?;
        each(&self.vms, |vm| {
            client::check_network(&host, &client::find(&host, vm)?)?;
            Ok(None)
        })
    }
}

#[derive(Debug, Args)]
pub(crate) struct Gc {
    /// The network by CNI
    #[arg(value_name = "NAME", value_parser = cni::network_name)]
    network: String,
    #[command(flatten)]
    directories: CniDirectories,
}

impl Gc {
    fn run(self, global: &Global) -> anyhow::Result<()> {
        let mut host = host(global)?;
        host.cni = self.directories.directories()?;
        host.cni(None).collect(&self.network)?;
        Ok(())
    }
}

#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Ls {
    fn run(self, global: &Global) -> anyhow::Result<()> {
        let host = host(global)?;
        let mut networks = Vec::new();
        for network in host.network.networks()? {
            networks.push(Shown::of(&host, &network.name)?);
        }
        if self.format == Format::Json {
            return terminal::print_json(&networks);
        }
        let mut table = Table::new(&["NAME", "SUBNET", "GATEWAY", "IPV6", "INTERNAL", "VMS"]);
        for network in &networks {
            table.row(network.row());
        }
        terminal::print(table)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// How to print; facts of a network are JSON either way
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The network
    name: NetworkName,
}

impl Inspect {
    fn run(self, global: &Global) -> anyhow::Result<()> {
        let Self {
            name,
            format: Format::Text | Format::Json,
        } = self;
        terminal::print_json(&Shown::of(&host(global)?, &name)?)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// The networks
    #[arg(required = true)]
    names: Vec<NetworkName>,
}

impl Rm {
    fn run(self, global: &Global) -> anyhow::Result<()> {
        let host = super::lifecycle::host(global)?;
        for name in &self.names {
            host.network.remove(name)?;
            terminal::print(format_args!("{name}\n"))?;
        }
        Ok(())
    }
}

fn host(global: &Global) -> anyhow::Result<Host> {
    Ok(Host::new(global.store()?))
}

/// A network and who is in it, as they are printed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown {
    #[serde(flatten)]
    network: Definition,
    #[serde(rename = "VMs")]
    members: Vec<Member>,
}

impl Shown {
    fn of(host: &Host, name: &NetworkName) -> anyhow::Result<Self> {
        let (network, members) = host.network.network(name)?;
        Ok(Self { network, members })
    }

    fn row(&self) -> Vec<String> {
        let Definition {
            name,
            subnet,
            gateway,
            internal,
            subnet6,
            ..
        } = &self.network;
        let gateway = gateway.or(subnet.map(Subnet::gateway));
        let text = |address: Option<String>| address.unwrap_or_else(|| "-".to_owned());
        vec![
            name.to_string(),
            text(subnet.map(|subnet| subnet.to_string())),
            text(gateway.map(|gateway| gateway.to_string())),
            text(subnet6.map(|subnet| subnet.to_string())),
            if *internal { "yes" } else { "no" }.to_owned(),
            self.members.len().to_string(),
        ]
    }
}
