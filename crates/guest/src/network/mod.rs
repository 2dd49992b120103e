//! The guest's network: first what is needed to reach the metadata, then what that says.

mod netlink;

use std::net::Ipv4Addr;

use firebuild_protocol::boot::BootArguments;
use firebuild_protocol::metadata::Network;
use netlink::{Netlink, Route};

use crate::error::{Doing as _, Result};

/// The network of the metadata service and of the host's side of the agent's conversation.
const HOST_NETWORK: (Ipv4Addr, u8) = (Ipv4Addr::new(169, 254, 169, 252), 30);
const DEVICE: &str = "eth0";

/// Brings the loopback device and the first network device up, so that the host is reachable.
pub(crate) fn reach_host(arguments: BootArguments) -> Result<()> {
    let mut netlink = Netlink::open().doing(|| "open a netlink socket".to_owned())?;
    netlink
        .link_up(index("lo")?, None)
        .doing(|| "bring `lo` up".to_owned())?;
    let device = index(DEVICE)?;
    netlink
        .address(device, arguments.address, arguments.prefix)
        .doing(|| format!("give `{DEVICE}` its address"))?;
    netlink
        .link_up(device, None)
        .doing(|| format!("bring `{DEVICE}` up"))?;
    let (destination, prefix) = HOST_NETWORK;
    let route = Route {
        destination,
        prefix,
        gateway: None,
        device,
    };
    netlink
        .route(route)
        .doing(|| "add the route to the host".to_owned())
}

/// Brings up the loopback device of the calling thread's network namespace, which is new.
pub(crate) fn own_loopback() -> Result<()> {
    // It is the first device of every network.
    Netlink::open()
        .and_then(|mut netlink| netlink.link_up(1, None))
        .doing(|| "bring `lo` up".to_owned())
}

/// Applies what the metadata says beyond that.
pub(crate) fn reach_world(network: &Network) -> Result<()> {
    let mut netlink = Netlink::open().doing(|| "open a netlink socket".to_owned())?;
    let device = index(DEVICE)?;
    if network.mtu.is_some() {
        netlink
            .link_up(device, network.mtu)
            .doing(|| format!("set the MTU of `{DEVICE}`"))?;
    }
    if let Some(gateway) = network.gateway {
        let destination = Ipv4Addr::UNSPECIFIED;
        let route = Route {
            destination,
            prefix: 0,
            gateway: Some(gateway),
            device,
        };
        netlink
            .route(route)
            .doing(|| format!("add the route by `{gateway}`"))?;
    }
    Ok(())
}

fn index(device: &str) -> Result<u32> {
    let path = format!("/sys/class/net/{device}/ifindex");
    fs_err::read_to_string(path)
        .and_then(|text| text.trim().parse().map_err(std::io::Error::other))
        .doing(|| format!("find network device `{device}`"))
}
