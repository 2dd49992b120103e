//! The guest's network: first what is needed to reach the metadata, then what that says.
//!
//! A device is known by its hardware address: in which order a VMM's devices are found is the kernel's
//! affair. They are called `eth0`, `eth1` and so on in the order in which the metadata has them.

mod netlink;

use std::net::Ipv4Addr;

use firebuild_protocol::boot::BootArguments;
use firebuild_protocol::metadata::{self, Interface, Ipv6, Network};
use netlink::{Netlink, Route};

use crate::error::{Doing as _, GuestError, Result};

/// The network of the metadata service and of the host's side of the agent's conversation.
const HOST_NETWORK: (Ipv4Addr, u8) = (Ipv4Addr::new(169, 254, 169, 252), 30);

/// The device by which the host is reached.
const DEVICE: &str = "eth0";

/// Where the kernel tells of devices.
const DEVICES: &str = "/sys/class/net";

/// Brings the loopback device and the first network device up, so that the host is reachable.
pub(crate) fn reach_host(arguments: BootArguments) -> Result<()> {
    let mut netlink = open()?;
    netlink
        .link_up(index("lo")?, None)
        .doing(|| "bring `lo` up".to_owned())?;
    if let Some(mac) = arguments.mac {
        call(&mut netlink, mac, DEVICE)?;
    }
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
    let mut netlink = open()?;
    if network.interfaces.is_empty() {
        let device = index(DEVICE)?;
        set_mtu(&mut netlink, DEVICE, device, network.mtu)?;
        return default_route(&mut netlink, device, network.gateway);
    }
    for (number, interface) in network.interfaces.iter().enumerate() {
        furnish(&mut netlink, number, interface)?;
    }
    Ok(())
}

/// Gives a device what the metadata says of it.
fn furnish(netlink: &mut Netlink, number: usize, interface: &Interface) -> Result<()> {
    let name = format!("eth{number}");
    // The first has had its name and its address since the beginning.
    if number > 0 {
        call(netlink, octets(&interface.mac)?, &name)?;
    }
    let device = index(&name)?;
    if number > 0 {
        netlink
            .address(device, interface.address, interface.prefix)
            .doing(|| format!("give `{name}` its address"))?;
    }
    if interface.ipv6.is_some() {
        // Addresses and routes are the host's to tell; a kernel without the switch has no IPv6.
        let _ = fs_err::write(format!("/proc/sys/net/ipv6/conf/{name}/accept_ra"), "0");
    }
    set_mtu(netlink, &name, device, interface.mtu)?;
    if number > 0 {
        netlink
            .link_up(device, None)
            .doing(|| format!("bring `{name}` up"))?;
    }
    for route in &interface.routes {
        let metadata::Route {
            destination,
            prefix,
            gateway,
        } = *route;
        let route = Route {
            destination,
            prefix,
            gateway,
            device,
        };
        netlink
            .route(route)
            .doing(|| format!("add the route to `{destination}/{prefix}`"))?;
    }
    default_route(netlink, device, interface.gateway)?;
    match &interface.ipv6 {
        Some(ipv6) => furnish6(netlink, &name, device, ipv6),
        None => Ok(()),
    }
}

fn furnish6(netlink: &mut Netlink, name: &str, device: u32, ipv6: &Ipv6) -> Result<()> {
    netlink
        .address6(device, ipv6.address, ipv6.prefix)
        .doing(|| format!("give `{name}` its address of IPv6"))?;
    let Some(gateway) = ipv6.gateway else {
        return Ok(());
    };
    netlink
        .default_route6(device, gateway)
        .doing(|| format!("add the route by `{gateway}`"))
}

fn set_mtu(netlink: &mut Netlink, name: &str, device: u32, mtu: Option<u32>) -> Result<()> {
    if mtu.is_none() {
        return Ok(());
    }
    netlink
        .link_up(device, mtu)
        .doing(|| format!("set the MTU of `{name}`"))
}

fn default_route(netlink: &mut Netlink, device: u32, gateway: Option<Ipv4Addr>) -> Result<()> {
    let Some(gateway) = gateway else {
        return Ok(());
    };
    let route = Route {
        destination: Ipv4Addr::UNSPECIFIED,
        prefix: 0,
        gateway: Some(gateway),
        device,
    };
    netlink
        .route(route)
        .doing(|| format!("add the route by `{gateway}`"))
}

/// Calls the device that has a hardware address by this name, and the one that had the name otherwise.
/// Both are down.
fn call(netlink: &mut Netlink, mac: [u8; 6], name: &str) -> Result<()> {
    let present = device_of(mac)?;
    if present == name {
        return Ok(());
    }
    let rename = |netlink: &mut Netlink, from: &str, to: &str| {
        netlink
            .rename(index(from)?, to)
            .doing(|| format!("call the device `{from}` `{to}`"))
    };
    if fs_err::exists(format!("{DEVICES}/{name}")).unwrap_or(false) {
        rename(netlink, name, "swap0")?;
        rename(netlink, &present, name)?;
        return rename(netlink, "swap0", &present);
    }
    rename(netlink, &present, name)
}

/// The name of the device that has a hardware address.
fn device_of(mac: [u8; 6]) -> Result<String> {
    let entries = fs_err::read_dir(DEVICES).doing(|| "list the network devices".to_owned())?;
    for entry in entries.flatten() {
        let address = fs_err::read_to_string(entry.path().join("address")).unwrap_or_default();
        if octets(address.trim()).is_ok_and(|own| own == mac) {
            return Ok(entry.file_name().to_string_lossy().into_owned());
        }
    }
    let text = format!("no network device has the hardware address {mac:02x?}");
    Err(GuestError::Told(text))
}

fn octets(text: &str) -> Result<[u8; 6]> {
    let octets: Option<Vec<u8>> = text
        .split(':')
        .map(|part| u8::from_str_radix(part, 16).ok())
        .collect();
    let octets = octets.and_then(|octets| octets.try_into().ok());
    octets.ok_or_else(|| GuestError::Told(format!("`{text}` is not a hardware address")))
}

fn open() -> Result<Netlink> {
    Netlink::open().doing(|| "open a netlink socket".to_owned())
}

fn index(device: &str) -> Result<u32> {
    let path = format!("{DEVICES}/{device}/ifindex");
    fs_err::read_to_string(path)
        .and_then(|text| text.trim().parse().map_err(std::io::Error::other))
        .doing(|| format!("find network device `{device}`"))
}
