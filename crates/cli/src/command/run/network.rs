//! What `run` takes about the network of a microVM.

use std::net::Ipv4Addr;

use clap::Args;
use firebuild_network::{Join, PublishedPort};

use crate::error::hinted;

/// The network of a VM.
#[derive(Debug, Args)]
pub(super) struct NetworkArguments {
    /// Publish a guest's port on the host: [interface:][host:]guest[/tcp|udp] (may be repeated)
    #[arg(long = "publish", short, visible_alias = "port", value_name = "PORT")]
    ports: Vec<PublishedPort>,
    /// Put it into this network (may be repeated; `none`: into none) [default: default]
    #[arg(long = "network", value_name = "NAME[:ip=ADDRESS][,mac=ADDRESS]")]
    networks: Vec<Join>,
    /// Give it this address in its first network
    #[arg(long, value_name = "ADDRESS")]
    ip_address: Option<Ipv4Addr>,
}

impl NetworkArguments {
    /// The ports that the host is to have.
    pub(super) fn ports(&self) -> &[PublishedPort] {
        &self.ports
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

    /// The address that the guest is to have, if it has to be a certain one.
    pub(super) fn address(&self) -> Option<Ipv4Addr> {
        self.ip_address
    }
}
