//! What is asked of a network, and what it gives.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use firebuild_core::MachineId;
use serde::{Deserialize, Serialize};

use crate::{Egress, Join, Listener, Mac, Namespace, NetworkName, PublishedPort, Realm, Subnet};

/// Where the network keeps its state, and what it calls its parts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What the bridges, the tables and the namespaces are called.
    pub name: Realm,
    /// The state root of the VMs that this driver serves: who [`Builtin::known`] speaks for.
    pub owner: PathBuf,
    /// The directory of leases. All state roots of a host have to share it, since they share the
    /// bridge; what is in it is void once the host has restarted.
    pub leases: PathBuf,
    /// The directory of named network namespaces.
    pub namespaces: PathBuf,
    /// The directory of the definitions of networks of the VMs that this driver serves.
    pub networks: PathBuf,
    /// Addresses of the network `default`: the first of these that the host has no route into.
    pub subnets: Vec<Subnet>,
    /// What the subnets of networks that are made without one are taken from.
    pub pools: Vec<Subnet>,
    /// The configuration of the host's resolver.
    pub resolv_conf: PathBuf,
}

impl Settings {
    /// The settings of a host, for the VMs of state root `owner`.
    #[must_use]
    pub fn of_host(owner: impl Into<PathBuf>) -> Self {
        // 4093 guests each, four times what a bridge has ports for. Away from what Docker
        // (172.17 to 172.31, 192.168), Podman (10.88), Kubernetes (10.42, 10.96, 10.244), libvirt
        // (192.168.122) and the clouds (10.128 and up by halves, 172.31) start with; the last one
        // is of the range for measurements (RFC 2544), which nobody routes.
        let subnets = [
            [10, 77, 208, 0],
            [10, 109, 64, 0],
            [172, 16, 176, 0],
            [192, 168, 208, 0],
            [198, 19, 240, 0],
        ];
        let owner = owner.into();
        let pools = [[10, 77, 0, 0], [10, 109, 128, 0], [192, 168, 224, 0]];
        Self {
            name: Realm::default(),
            networks: owner.join("networks"),
            owner,
            leases: "/run/firebuild/network".into(),
            namespaces: "/run/netns".into(),
            subnets: subnets
                .into_iter()
                .filter_map(|network| Subnet::new(network.into(), 20))
                .collect(),
            pools: pools
                .into_iter()
                .zip([17, 17, 19])
                .filter_map(|(network, prefix)| Subnet::new(network.into(), prefix))
                .collect(),
            resolv_conf: "/etc/resolv.conf".into(),
        }
    }
}

/// What a VM asks of the network.
#[derive(Debug, Clone)]
pub struct Request {
    /// The VM.
    pub id: MachineId,
    /// The user that the VMM opens the tap as.
    pub vmm_uid: u32,
    /// The group that the VMM opens the tap as.
    pub vmm_gid: u32,
    /// The networks that it is to be in, 8 at most, in the order of its devices. With none it has one
    /// device, through which it reaches its metadata and its agent's server, and nothing else.
    pub networks: Vec<Join>,
    /// Addresses that it had before: it has them again where they are free and no other is asked for.
    pub before: BTreeMap<NetworkName, Ipv4Addr>,
    /// What other VMs of its networks know it by.
    pub names: Vec<String>,
    /// Ports of the guest that the host is to have.
    pub ports: Vec<PublishedPort>,
    /// What it may reach.
    pub egress: Egress,
    /// Whether the namespace gets [`METADATA_ADDRESS`]. Not for a VMM that answers at that address
    /// itself, as Firecracker does.
    pub metadata_address: bool,
}

/// A VM's network interface: the facts, for its record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// The network; `none` for the one device of a VM that is in no network.
    pub network: String,
    /// The tap for the VMM, inside the VM's namespace.
    pub tap: String,
    /// The guest's hardware address.
    pub mac: Mac,
    /// The guest's address.
    pub address: Ipv4Addr,
    /// The network that the address is of.
    pub subnet: Subnet,
    /// The guest's router, if anything beyond the subnet can be reached.
    pub gateway: Option<Ipv4Addr>,
    /// What is reached in another way than by that router.
    pub routes: Vec<Route>,
    /// The same of IPv6, in a network that has it.
    pub ipv6: Option<Ipv6Interface>,
    /// The largest packet, in bytes; 1500 if none.
    pub mtu: Option<u32>,
    /// The name servers that the guest is to ask, most wanted first. Empty if the host has none
    /// that a guest can reach.
    pub dns: Vec<Ipv4Addr>,
    /// Domains in which the guest looks for names.
    pub search: Vec<String>,
    /// The bridge on the host; empty if there is none.
    pub bridge: String,
    /// The cable's end on the host; empty if there is none.
    pub host_device: String,
    /// The published ports that lead to this interface.
    pub listeners: Vec<Listener>,
}

/// A way to a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Route {
    /// The network.
    pub to: Subnet,
    /// The router; none for what is on the link itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Ipv4Addr>,
}

/// What an interface has of IPv6.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipv6Interface {
    /// The guest's address.
    pub address: Ipv6Addr,
    /// The length of its network's prefix, in bits.
    pub prefix: u8,
    /// The guest's router, if anything beyond the network can be reached.
    pub gateway: Option<Ipv6Addr>,
}

/// A VM's attachment to its networks. The supervisor keeps it for as long as the VM lives: with it
/// go the reserved ports. It does not take the attachment down; that is [`Builtin::teardown`].
#[derive(Debug)]
pub struct Attachment {
    /// The VM's network namespace.
    pub namespace: Namespace,
    /// The facts of every device, in the order in which the guest has them; at least one.
    pub interfaces: Vec<Interface>,
    /// What tells the VM from all others of the host that a driver of this kind serves, from 1; none
    /// if the driver does not number them.
    pub number: Option<u16>,
    taps: Vec<OwnedFd>,
    _reserved: Vec<OwnedFd>,
}

impl Attachment {
    /// An attachment with one open tap for each of `interfaces`, and sockets that are to be held for
    /// as long as it is.
    pub(crate) fn new(
        namespace: Namespace,
        interfaces: Vec<Interface>,
        number: Option<u16>,
        taps: Vec<OwnedFd>,
        reserved: Vec<OwnedFd>,
    ) -> Self {
        Self {
            namespace,
            interfaces,
            number,
            taps,
            _reserved: reserved,
        }
    }

    /// The open taps, in the order of the interfaces, with virtio-net headers and closed on exec: for
    /// [`Namespace::enter_on_start`]. None after [`close_taps`](Self::close_taps).
    pub fn taps(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.taps.iter().map(AsFd::as_fd)
    }

    /// Closes the taps here: a VMM that opens one by name could not while it is open, and one that
    /// inherited it has its own descriptor. The devices stay.
    pub fn close_taps(&mut self) {
        self.taps.clear();
    }
}
