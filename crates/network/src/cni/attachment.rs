//! What is asked of a network by CNI, and what it gives.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use firebuild_core::MachineId;
use serde::{Deserialize, Serialize};

use crate::{Egress, Mac, PublishedPort, Realm};

/// How long a plugin may take, if nothing else is said. A DHCP server may be slow.
const PLUGIN_TIME: Duration = Duration::from_secs(90);

/// Where configurations, programs and results of CNI are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
pub struct Directories {
    /// Of plugins' programs, the first that has one is taken.
    pub programs: Vec<PathBuf>,
    /// Of networks' configurations.
    pub configurations: Vec<PathBuf>,
    /// Of the results that plugins gave.
    pub cache: PathBuf,
}

impl Default for Directories {
    fn default() -> Self {
        let paths = |paths: [&str; 2]| paths.map(PathBuf::from).to_vec();
        Self {
            programs: paths(["/opt/cni/bin", "/usr/lib/cni"]),
            configurations: paths(["/etc/cni/conf.d", "/etc/cni/net.d"]),
            cache: "/var/lib/cni".into(),
        }
    }
}

/// Where the driver keeps its state, and what it calls its parts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What the tables and the namespaces are called.
    pub name: Realm,
    /// The state root of the VMs that this driver serves: who [`Cni::known`] speaks for.
    pub owner: PathBuf,
    /// The directory of leases, which all state roots of a host share.
    pub leases: PathBuf,
    /// The directory of named network namespaces.
    pub namespaces: PathBuf,
    /// The configuration of the host's resolver: for networks that name no name servers.
    pub resolv_conf: PathBuf,
    /// The directories of CNI.
    pub directories: Directories,
    /// How long a plugin may take.
    pub plugin_time: Duration,
}

impl Settings {
    /// The settings beside those of the built-in network.
    #[must_use]
    pub fn beside(builtin: &crate::Settings, directories: Directories) -> Self {
        Self {
            name: builtin.name.clone(),
            owner: builtin.owner.clone(),
            leases: builtin.leases.clone(),
            namespaces: builtin.namespaces.clone(),
            resolv_conf: builtin.resolv_conf.clone(),
            directories,
            plugin_time: PLUGIN_TIME,
        }
    }
}

/// What a VM asks of a network by CNI.
#[derive(Debug, Clone)]
pub struct Request {
    /// The VM.
    pub id: MachineId,
    /// The network's name.
    pub network: String,
    /// The user that the VMM opens the tap as.
    pub vmm_uid: u32,
    /// The group that the VMM opens the tap as.
    pub vmm_gid: u32,
    /// The guest's address, if it has to be a certain one.
    pub address: Option<Ipv4Addr>,
    /// The guest's hardware address, if it has to be a certain one.
    pub mac: Option<Mac>,
    /// Name servers for plugins that take some.
    pub dns: Vec<IpAddr>,
    /// Ports of the guest that the host is to have.
    pub ports: Vec<PublishedPort>,
    /// What it may reach. Not by name: the network's own name servers tell nobody what they answer.
    pub egress: Egress,
    /// Whether the namespace gets the address of the metadata service.
    pub metadata_address: bool,
}
