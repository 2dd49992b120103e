//! What a VM's namespace has inside. All of it is done by a thread that is in the namespace.

use std::io;
use std::os::fd::OwnedFd;

use crate::lease::Lease;
use crate::netlink::Netlink;
use crate::{
    AGENT_ADDRESS, ETHERNET, Error, METADATA_ADDRESS, NetworkName, Request, TAP, guard, sys, sysctl,
};

/// In a new namespace: no IPv6, no forwarding (a namespace starts with the host's setting), and a
/// loopback.
pub(crate) fn prepare() -> Result<(), Error> {
    sysctl::set("ipv6/conf/all/disable_ipv6", "1")?;
    sysctl::set("ipv6/conf/default/disable_ipv6", "1")?;
    sysctl::set("ipv4/ip_forward", "0")?;
    Netlink::of_thread()?
        .up("lo")
        .map_err(Error::system("set up the loopback of a VM's namespace"))
}

/// In a namespace that has its end of the cable: the tap, the rules, the addresses of services.
pub(crate) fn furnish(
    name: &NetworkName,
    request: &Request,
    lease: &Lease,
) -> Result<OwnedFd, Error> {
    let tun = fs_err::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .map_err(Error::TapMissing)?;
    let tap = tun.into_parts().0.into();
    let doing = || Error::system(format!("make the tap device `{TAP}`"));
    sys::make_tap(&tap, TAP, request.vmm_uid, request.vmm_gid).map_err(doing())?;
    // Rules before the devices are up: no frame ever finds them without.
    let devices = guard::Devices {
        tap: TAP,
        cable: ETHERNET,
    };
    guard::install(name, devices, lease.mac, lease.address)?;
    let mut netlink = Netlink::of_thread()?;
    let link = netlink
        .link(TAP)
        .and_then(|link| link.ok_or(io::ErrorKind::NotFound.into()))
        .map_err(doing())?;
    netlink.up(TAP).map_err(doing())?;
    netlink.up(ETHERNET).map_err(doing())?;
    let services = [
        Some(AGENT_ADDRESS),
        request.metadata_address.then_some(METADATA_ADDRESS),
    ];
    for address in services.into_iter().flatten() {
        netlink
            .add_address(link.index, address, 32)
            .map_err(doing())?;
    }
    netlink
        .add_host_route(link.index, lease.address)
        .map_err(doing())?;
    Ok(tap)
}
