//! Attachments of a microVM to the network: namespaces, taps, bridge, addresses, published ports.
//!
//! * [`Builtin`] is the driver of firebuild's own networks, the one that needs no definition and those
//!   that people define ([`Network`]): validate, set up, take down.
//! * [`Namespace`] is where a VM's VMM and its services live; sockets and processes are put into it.
//! * [`PublishedPort`] is what `-p` takes.
//!
//! Everything on the host carries firebuild's name, and the VM's id where it is one VM's: whatever
//! is left of a VM is found and removed by its id alone.

mod addressing;
mod attachment;
mod builtin;
pub mod cni;
mod conntrack;
mod dns;
pub mod egress;
mod error;
mod firewall;
mod guard;
mod inside;
mod join;
mod lease;
mod name;
mod namespace;
mod netlink;
mod network;
mod nft;
mod port;
mod reserve;
mod resolver;
mod rules;
mod segment;
mod sys;
mod sysctl;
mod transport;

use std::net::Ipv4Addr;

pub use addressing::{Mac, ParseMacError, ParseSubnet6Error, ParseSubnetError, Subnet, Subnet6};
pub use attachment::{Attachment, Interface, Ipv6Interface, Request, Route, Settings};
pub use builtin::Builtin;
pub use dns::NameServer;
pub use egress::{Egress, EgressReport, EgressTerm};
pub use error::{Error, Errors};
pub use join::{Join, ParseJoinError};
pub use name::{NetworkName, ParseNetworkNameError, ParseRealmError, Realm};
pub use namespace::Namespace;
pub use network::Network;
pub use port::{HostInterface, Listener, ParsePortError, Protocol, PublishedPort, PublishedPorts};
pub use segment::Member;

/// Where a guest finds its metadata.
pub const METADATA_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// Where a guest finds the server of its agent.
pub const AGENT_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 253);

/// The address of a guest that is in no network: what it reaches its services with.
const ALONE: Ipv4Addr = Ipv4Addr::new(169, 254, 168, 1);

/// The tap of a VM's device of number `index`, in its namespace.
fn tap_name(index: usize) -> String {
    format!("tap{index}")
}

/// The namespace's end of the cable to the bridge of number `index`.
fn ethernet_name(index: usize) -> String {
    format!("eth{index}")
}
