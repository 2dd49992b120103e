//! What is asked of a network, and what it gives.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use firebuild_core::MachineId;
use serde::{Deserialize, Serialize};

use crate::{Listener, Mac, Namespace, NetworkName, PublishedPort, Subnet};

/// Where the network keeps its state, and what it calls its parts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What the bridge, the tables and the namespaces are called.
    pub name: NetworkName,
    /// The state root of the VMs that this driver serves: who [`Builtin::known`] speaks for.
    pub owner: PathBuf,
    /// The directory of leases. All state roots of a host have to share it, since they share the
    /// bridge; what is in it is void once the host has restarted.
    pub leases: PathBuf,
    /// The directory of named network namespaces.
    pub namespaces: PathBuf,
    /// Networks to use: the first that the host has no route into.
    pub subnets: Vec<Subnet>,
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
        Self {
            name: NetworkName::default(),
            owner: owner.into(),
            leases: "/run/firebuild/network".into(),
            namespaces: "/run/netns".into(),
            subnets: subnets
                .into_iter()
                .filter_map(|network| Subnet::new(network.into(), 20))
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
    /// The guest's address, if it has to be a certain one.
    pub address: Option<Ipv4Addr>,
    /// Ports of the guest that the host is to have.
    pub ports: Vec<PublishedPort>,
    /// Whether the namespace gets [`METADATA_ADDRESS`]. Not for a VMM that answers at that address
    /// itself, as Firecracker does.
    pub metadata_address: bool,
}

/// A VM's network interface: the facts, for its record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// The VM's network namespace.
    pub namespace: Namespace,
    /// The tap for the VMM, inside the namespace.
    pub tap: String,
    /// The guest's hardware address.
    pub mac: Mac,
    /// The guest's address.
    pub address: Ipv4Addr,
    /// The network that the address is of.
    pub subnet: Subnet,
    /// The guest's default router.
    pub gateway: Ipv4Addr,
    /// The name servers that the guest is to ask, most wanted first. Empty if the host has none
    /// that a guest can reach.
    pub dns: Vec<Ipv4Addr>,
    /// The bridge on the host.
    pub bridge: String,
    /// The bridge's port on the host.
    pub host_device: String,
    /// The published ports.
    pub listeners: Vec<Listener>,
}

/// A VM's attachment to the network. The supervisor keeps it for as long as the VM lives: with it
/// go the reserved ports. It does not take the attachment down; that is [`Builtin::teardown`].
#[derive(Debug)]
pub struct Attachment {
    /// The facts.
    pub interface: Interface,
    tap: Option<OwnedFd>,
    _reserved: Vec<OwnedFd>,
}

impl Attachment {
    pub(crate) fn new(interface: Interface, tap: OwnedFd, reserved: Vec<OwnedFd>) -> Self {
        Self {
            interface,
            tap: Some(tap),
            _reserved: reserved,
        }
    }

    /// The tap, opened with virtio-net headers and closed on exec: for
    /// [`Namespace::enter_on_start`].
    #[must_use]
    pub fn tap(&self) -> Option<BorrowedFd<'_>> {
        self.tap.as_ref().map(AsFd::as_fd)
    }

    /// Closes the tap here: a VMM that opens it by name could not while it is open, and one that
    /// inherited it has its own descriptor. The device stays.
    pub fn close_tap(&mut self) {
        self.tap = None;
    }
}
