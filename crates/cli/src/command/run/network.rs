//! What `run` takes about the network of a microVM.

use std::net::Ipv4Addr;

use clap::Args;
use firebuild_core::config::ProcessConfig;
use firebuild_machine::spec::CniNetwork;
use firebuild_network::{HostInterface, Join, PublishedPort, PublishedPorts};

use crate::arguments::values;
use crate::error::hinted;

/// The network of a VM.
#[derive(Debug, Args)]
pub(super) struct NetworkArguments {
    /// Publish a guest's port on the host: [interface:][host:]guest[/tcp|udp] (may be repeated)
    ///
    /// The interface is an address of the host (of IPv6 in brackets) or a network device; all addresses
    /// if none is named. Without a port of the host, or with 0, it is a free one, which `firebuild port`
    /// tells. Both may be ranges of the same length: 8000-8010:80-90.
    #[arg(long = "publish", short, visible_alias = "port", value_name = "PORT")]
    ports: Vec<PublishedPorts>,
    /// Publish every port that the image exposes on a free port of the host
    #[arg(long, short = 'P')]
    publish_all: bool,
    /// Put it into this network (may be repeated; `none`: into none) [default: default]
    #[arg(long = "network", value_name = "NAME[:ip=ADDRESS][,mac=ADDRESS]")]
    networks: Vec<Join>,
    /// Give it this address in its first network
    #[arg(long, value_name = "ADDRESS", value_parser = values::address4)]
    ip_address: Option<Ipv4Addr>,
}

impl NetworkArguments {
    /// The ports that the host is to have, of an image that exposes some.
    pub(super) fn ports(&self, config: &ProcessConfig) -> Vec<PublishedPort> {
        let named = self.ports.iter().flat_map(|PublishedPorts(ports)| ports);
        let mut ports: Vec<PublishedPort> = named.cloned().collect();
        if self.publish_all {
            // What an image exposes in another form is nothing that can be published.
            let exposed = config.exposed_ports.keys();
            for port in exposed.filter_map(|text| text.parse::<PublishedPort>().ok()) {
                let same = |other: &PublishedPort| {
                    (other.guest, other.protocol) == (port.guest, port.protocol)
                };
                if port.interface == HostInterface::All && !ports.iter().any(same) {
                    ports.push(PublishedPort { host: None, ..port });
                }
            }
        }
        ports
    }

    /// The networks that it is to be in.
    pub(super) fn networks(&self) -> anyhow::Result<Vec<Join>> {
        let none = |join: &&Join| join.network.as_str() == "none";
        match (&self.networks[..], self.networks.iter().find(none)) {
            ([], _) => Ok(vec![Join::default()]),
            ([join], Some(_)) if join.address.is_none() && join.mac.is_none() => Ok(Vec::new()),
            (_, Some(_)) => Err(hinted(
                "`--network none` stands alone",
                "leave the other networks out, or `none`",
            )),
            (networks, None) => Ok(networks.to_vec()),
        }
    }

    /// The network by CNI that it is to be in, in place of those.
    pub(super) fn or_cni(&self, network: Option<CniNetwork>) -> anyhow::Result<Option<CniNetwork>> {
        match network {
            Some(_) if !self.networks.is_empty() => Err(hinted(
                "a VM is in a network by CNI or in networks of firebuild's own",
                "leave `--network` or `--cni-network-name` out",
            )),
            network => Ok(network),
        }
    }

    /// The address that the guest is to have, if it has to be a certain one.
    pub(super) fn address(&self) -> Option<Ipv4Addr> {
        self.ip_address
    }
}
