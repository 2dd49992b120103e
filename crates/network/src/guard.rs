//! The rules inside a VM's namespace: they carry frames between the tap and the bridge, and let
//! through only what is the VM's own.
//!
//! What must hold, whatever the guest sends: nothing leaves with another hardware or IPv4 address
//! than the VM's; the service addresses are reached by this VM only, and never from the bridge;
//! nothing link-local passes, because there the clouds hand the host's credentials to who asks.

use std::net::Ipv4Addr;

use crate::{Mac, NetworkName, nft};

/// The addresses of the services that firebuild offers to the one VM of a namespace.
const SERVICES: &str = "169.254.169.252/30";

/// What must not be routed (RFC 3927, 2.7).
const LINK_LOCAL: &str = "169.254.0.0/16";

/// The two devices of a namespace between which frames are carried.
#[derive(Clone, Copy)]
pub(crate) struct Devices<'a> {
    /// The VM's tap.
    pub(crate) tap: &'a str,
    /// The way to the world.
    pub(crate) cable: &'a str,
}

/// Puts the rules into the calling thread's namespace, which has both devices.
pub(crate) fn install(
    name: &NetworkName,
    devices: Devices<'_>,
    mac: Mac,
    address: Ipv4Addr,
) -> Result<(), crate::Error> {
    nft::run(
        "set the rules of a VM's namespace",
        &script(name, devices, mac, address),
    )
}

/// `netdev` chains see a frame as it comes from the device, before any other part of the kernel,
/// and `fwd` sends it out of another device as it is: unsegmented, its checksum still to be made.
fn script(name: &NetworkName, devices: Devices<'_>, mac: Mac, address: Ipv4Addr) -> String {
    let table = name.table();
    let Devices { tap, cable } = devices;
    format!(
        r#"table netdev {table} {{
    chain from_guest {{
        type filter hook ingress device "{tap}" priority 0; policy drop;
        ether saddr != {mac} drop
        ether type arp goto arp_from_guest
        ether type != ip drop
        ip saddr != {address} drop
        ip daddr {SERVICES} accept
        ip daddr {LINK_LOCAL} drop
        fwd to "{cable}"
    }}
    chain arp_from_guest {{
        arp htype != 1 drop
        arp ptype != ip drop
        arp hlen != 6 drop
        arp plen != 4 drop
        arp saddr ether != {mac} drop
        arp saddr ip != {address} drop
        arp daddr ip {SERVICES} accept
        fwd to "{cable}"
    }}
    chain to_guest {{
        type filter hook ingress device "{cable}" priority 0; policy drop;
        ether saddr {mac} ether daddr != {mac} drop
        ether daddr & 01:00:00:00:00:00 == 00:00:00:00:00:00 ether daddr != {mac} drop
        ether type arp goto arp_to_guest
        ether type != ip drop
        ip saddr {LINK_LOCAL} drop
        ip daddr {LINK_LOCAL} drop
        fwd to "{tap}"
    }}
    chain arp_to_guest {{
        arp htype != 1 drop
        arp ptype != ip drop
        arp hlen != 6 drop
        arp plen != 4 drop
        arp daddr ip != {address} drop
        arp saddr ip {LINK_LOCAL} drop
        fwd to "{tap}"
    }}
}}
"#
    )
}
