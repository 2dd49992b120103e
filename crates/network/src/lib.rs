//! Attachments of a microVM to the network: namespaces, taps, bridge, addresses, published ports.
//!
//! * [`Builtin`] is the driver of the network that needs no configuration: validate, set up, take
//!   down. Networks by CNI and networks that people name will be drivers beside it.
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
mod error;
mod firewall;
mod guard;
mod inside;
mod lease;
mod name;
mod namespace;
mod netlink;
mod nft;
mod port;
mod reserve;
mod resolver;
mod rules;
mod sys;
mod sysctl;
mod transport;

use std::net::Ipv4Addr;

pub use addressing::{Mac, ParseMacError, ParseSubnetError, Subnet};
pub use attachment::{Attachment, Interface, Request, Settings};
pub use builtin::Builtin;
pub use error::{Error, Errors};
pub use name::{NetworkName, ParseNameError};
pub use namespace::Namespace;
pub use port::{HostInterface, Listener, ParsePortError, Protocol, PublishedPort};

/// Where a guest finds its metadata.
pub const METADATA_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// Where a guest finds the server of its agent.
pub const AGENT_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 253);

/// The tap of every VM, in its namespace.
const TAP: &str = "tap0";

/// The namespace's end of the cable to the bridge.
const ETHERNET: &str = "eth0";
