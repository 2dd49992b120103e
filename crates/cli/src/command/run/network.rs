//! What `run` takes about the network of a microVM.

use std::net::Ipv4Addr;

use clap::Args;
use firebuild_network::PublishedPort;

/// The network of a VM.
#[derive(Debug, Args)]
pub(super) struct NetworkArguments {
    /// Publish a guest's port on the host: [interface:][host:]guest[/tcp|udp] (may be repeated)
    #[arg(long = "publish", short, visible_alias = "port", value_name = "PORT")]
    ports: Vec<PublishedPort>,
    /// Give it this address
    #[arg(long, value_name = "ADDRESS")]
    ip_address: Option<Ipv4Addr>,
}

impl NetworkArguments {
    /// The ports that the host is to have.
    pub(super) fn ports(&self) -> &[PublishedPort] {
        &self.ports
    }

    /// The address that the guest is to have, if it has to be a certain one.
    pub(super) fn address(&self) -> Option<Ipv4Addr> {
        self.ip_address
    }
}
