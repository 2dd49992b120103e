//! What a VM's namespace has inside. All of it is done by a thread that is in the namespace.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use crate::egress::Egress;
use crate::guard::{self, Wire};
use crate::netlink::Netlink;
use crate::{AGENT_ADDRESS, Error, METADATA_ADDRESS, Realm, sys, sysctl};

/// In a new namespace: no IPv6 of its own, no forwarding (a namespace starts with the host's setting),
/// and a loopback.
pub(crate) fn prepare() -> Result<(), Error> {
    sysctl::set("ipv6/conf/all/disable_ipv6", "1")?;
    sysctl::set("ipv6/conf/default/disable_ipv6", "1")?;
    sysctl::set("ipv4/ip_forward", "0")?;
    Netlink::of_thread()?
        .up("lo")
        .map_err(Error::system("set up the loopback of a VM's namespace"))
}

/// What a namespace is furnished with.
#[derive(Debug)]
pub(crate) struct Furniture<'a> {
    /// Whose rules these are.
    pub(crate) realm: &'a Realm,
    /// The user and the group that the VMM opens taps as.
    pub(crate) vmm: (u32, u32),
    /// The VM's devices, at least one; the first has the services.
    pub(crate) wires: &'a [Wire<'a>],
    /// The largest packet of each, if it is not the usual one.
    pub(crate) mtus: &'a [Option<u32>],
    /// What the VM may reach.
    pub(crate) egress: &'a Egress,
    /// Whether the namespace gets [`METADATA_ADDRESS`].
    pub(crate) metadata_address: bool,
}

/// In a namespace that has its ends of the cables: the taps, the rules, the addresses of services.
/// Returns the taps.
pub(crate) fn furnish(furniture: &Furniture<'_>) -> Result<Vec<OwnedFd>, Error> {
    let mut taps = Vec::new();
    for wire in furniture.wires {
        taps.push(make_tap(wire.tap, furniture.vmm)?);
    }
    // Rules before the devices are up: no frame ever finds them without.
    guard::install(furniture.realm.table(), furniture.wires, furniture.egress)?;
    let mut netlink = Netlink::of_thread()?;
    for (wire, mtu) in furniture.wires.iter().zip(furniture.mtus) {
        for device in std::iter::once(wire.tap).chain(wire.ethernet) {
            let doing = || Error::system(format!("set up the device `{device}` of a VM"));
            if let Some(mtu) = mtu {
                netlink.set_mtu(device, *mtu).map_err(doing())?;
            }
            netlink.up(device).map_err(doing())?;
        }
    }
    if let Some(first) = furniture.wires.first() {
        offer_services(
            &mut netlink,
            first.tap,
            first.address,
            furniture.metadata_address,
        )?;
    }
    Ok(taps)
}

fn make_tap(name: &str, (uid, gid): (u32, u32)) -> Result<OwnedFd, Error> {
    let tun = fs_err::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .map_err(Error::TapMissing)?;
    let tap = tun.into_parts().0.into();
    sys::make_tap(&tap, name, uid, gid)
        .map_err(Error::system(format!("make the tap device `{name}`")))?;
    Ok(tap)
}

/// Gives a tap the addresses of the services, and a way to the guest behind it.
pub(crate) fn offer_services(
    netlink: &mut Netlink,
    tap: &str,
    guest: Ipv4Addr,
    metadata: bool,
) -> Result<(), Error> {
    let doing = || Error::system(format!("give `{tap}` the addresses of services"));
    let link = netlink
        .link(tap)
        .and_then(|link| link.ok_or(io::ErrorKind::NotFound.into()))
        .map_err(doing())?;
    let services = [Some(AGENT_ADDRESS), metadata.then_some(METADATA_ADDRESS)];
    for address in services.into_iter().flatten() {
        netlink
            .add_address(link.index, address, 32)
            .map_err(doing())?;
    }
    netlink.add_host_route(link.index, guest).map_err(doing())
}
