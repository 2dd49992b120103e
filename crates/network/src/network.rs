//! Networks that people define: what one is, and where the definitions are kept.
//!
//! A definition is one file of the state root, there whole or not at all. Bridge and rules are made when
//! the first VM needs them, and go with the last, so a definition alone takes nothing on the host. The
//! network `default` needs none.

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::lease::{remove_half, write_whole};
use crate::{Error, NetworkName, Subnet, Subnet6};

/// The most networks that one state root defines.
const MOST: usize = 256;

/// What IPv6 needs (RFC 8200, section 5), and more than IPv4 needs; and the largest of a device.
const MTU: std::ops::RangeInclusive<u32> = 1280..=65_535;

/// What a network is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Network {
    /// What people call it.
    pub name: NetworkName,
    /// Its addresses. None for `default`, which takes one of a few when its first VM comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet: Option<Subnet>,
    /// The host's address in it; the first of the subnet if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Ipv4Addr>,
    /// The largest packet, in bytes, 1280 to 65535; that of Ethernet, 1500, if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Whether its VMs reach nothing but each other.
    #[serde(default)]
    pub internal: bool,
    /// Its addresses of IPv6; none if it has no IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet6: Option<Subnet6>,
}

impl Network {
    /// The network of this name with nothing said about it.
    #[must_use]
    pub fn named(name: NetworkName) -> Self {
        Self {
            name,
            subnet: None,
            gateway: None,
            mtu: None,
            internal: false,
            subnet6: None,
        }
    }

    /// Checks what types alone do not say.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let no = |text: String| Err(Error::Definition(text));
        if let Some(mtu) = self.mtu.filter(|mtu| !MTU.contains(mtu)) {
            return no(format!("an MTU is 1280 to 65535 bytes, not {mtu}"));
        }
        let Some(subnet) = self.subnet else {
            let gateway = self.gateway.map(|gateway| gateway.to_string());
            return gateway.map_or(Ok(()), |gateway| {
                no(format!("the gateway `{gateway}` needs a subnet to be in"))
            });
        };
        if !(8..=30).contains(&subnet.prefix()) {
            return no(format!(
                "the subnet `{subnet}` has {} bits, and 8 to 30 are possible",
                subnet.prefix()
            ));
        }
        let first = subnet.network();
        if first.is_loopback()
            || first.is_link_local()
            || first.is_multicast()
            || first.octets()[0] == 0
        {
            return no(format!("the subnet `{subnet}` is not one for VMs"));
        }
        match self.gateway {
            Some(gateway) if !subnet.hosts().contains(&gateway.to_bits()) => no(format!(
                "the gateway `{gateway}` is not an address of the subnet `{subnet}`"
            )),
            _ => Ok(()),
        }
    }
}

/// The directory of definitions of one state root. Whoever writes holds the lock of the leases.
#[derive(Debug, Clone)]
pub(crate) struct Definitions {
    directory: PathBuf,
}

impl Definitions {
    pub(crate) fn at(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }

    /// One network; `default` is there without a definition.
    pub(crate) fn get(&self, name: &NetworkName) -> Result<Network, Error> {
        if name.is_default() {
            return Ok(Network::named(name.clone()));
        }
        let path = self.path(name);
        let text = match fs_err::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NoNetwork(name.clone()));
            }
            other => other?,
        };
        let network: Network = serde_json::from_slice(&text)
            .map_err(|source| Error::DamagedDefinition { path, source })?;
        network.check()?;
        Ok(network)
    }

    /// All networks by name, `default` first.
    pub(crate) fn all(&self) -> Result<Vec<Network>, Error> {
        let mut names = Vec::new();
        match fs_err::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => {
                for entry in other? {
                    let file = entry?.file_name();
                    let name = file.to_str().and_then(|file| file.strip_suffix(".json"));
                    names.extend(name.and_then(|name| name.parse::<NetworkName>().ok()));
                }
            }
        }
        names.sort();
        let named = names.iter().filter(|name| !name.is_default());
        std::iter::once(Ok(Network::named(NetworkName::default())))
            .chain(named.map(|name| self.get(name)))
            .collect()
    }

    pub(crate) fn insert(&self, network: &Network) -> Result<(), Error> {
        let all = self.all()?;
        if all.iter().any(|other| other.name == network.name) {
            return Err(Error::NetworkExists(network.name.clone()));
        }
        if all.len() > MOST {
            return Err(Error::Definition(format!(
                "there are {MOST} networks already"
            )));
        }
        fs_err::create_dir_all(&self.directory)?;
        let text = serde_json::to_vec_pretty(network).map_err(io::Error::from)?;
        let file = format!("{}.json", network.name);
        Ok(write_whole(&self.directory, &file, &text)?)
    }

    /// Removes half a definition of somebody who was killed, if there is one.
    pub(crate) fn tidy(&self) -> Result<(), Error> {
        Ok(remove_half(&self.directory)?)
    }

    pub(crate) fn remove(&self, name: &NetworkName) -> Result<(), Error> {
        match fs_err::remove_file(self.path(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(Error::NoNetwork(name.clone()))
            }
            other => Ok(other?),
        }
    }

    fn path(&self, name: &NetworkName) -> PathBuf {
        self.directory.join(format!("{name}.json"))
    }
}
