//! From what a network is to be to what it is on the host: which bridge, which addresses.

use std::net::Ipv4Addr;

use crate::lease::{Leases, Segment};
use crate::netlink::Netlink;
use crate::network::Definitions;
use crate::resolver::Resolver;
use crate::{Builtin, Error, Network, NetworkName, Settings, Subnet, Subnet6, sysctl};

/// Names that mean something else where a network is named.
const RESERVED: [&str; 2] = ["none", "host"];

/// The length of the prefix of a network that is made without a subnet.
const USUAL_PREFIX: u8 = 24;

/// Finds networks for one VM.
pub(crate) struct Segments<'a> {
    settings: &'a Settings,
    leases: &'a Leases,
    resolver: &'a Resolver,
}

impl<'a> Segments<'a> {
    pub(crate) fn new(settings: &'a Settings, leases: &'a Leases, resolver: &'a Resolver) -> Self {
        Self {
            settings,
            leases,
            resolver,
        }
    }

    /// A network as it is, if VMs are in it, or as it is to be.
    pub(crate) fn find(
        &mut self,
        name: &NetworkName,
        netlink: &mut Netlink,
    ) -> Result<Segment, Error> {
        let definition = Definitions::at(&self.settings.networks).get(name)?;
        let bridge = self.settings.name.bridge_of(&self.settings.owner, name);
        let segments = self.leases.segments();
        if let Some(present) = segments.iter().find(|segment| segment.bridge == bridge) {
            return Ok((*present).clone());
        }
        let subnet = match definition.subnet {
            Some(subnet) => self.unless_taken(name, subnet, netlink)?,
            None => self.choose(&self.settings.subnets, netlink)?,
        };
        Ok(Segment {
            bridge,
            network: definition.name,
            subnet,
            gateway: definition.gateway.unwrap_or(subnet.gateway()),
            mtu: definition.mtu,
            internal: definition.internal,
            subnet6: definition.subnet6,
        })
    }

    /// The first of some subnets that clashes with nothing.
    fn choose(&self, subnets: &[Subnet], netlink: &mut Netlink) -> Result<Subnet, Error> {
        let routed = self.routed(netlink)?;
        let segments = self.leases.segments();
        let free = |subnet: &&Subnet| {
            let is_routed = routed.iter().any(|route| route.overlaps(**subnet));
            let is_used = segments.iter().any(|used| used.subnet.overlaps(**subnet));
            !is_routed && !is_used && !self.resolver.within(**subnet)
        };
        subnets.iter().find(free).copied().ok_or_else(|| {
            let shown: Vec<String> = subnets.iter().map(Subnet::to_string).collect();
            Error::NoSubnet(shown.join(", "))
        })
    }

    fn unless_taken(
        &self,
        name: &NetworkName,
        subnet: Subnet,
        netlink: &mut Netlink,
    ) -> Result<Subnet, Error> {
        let taken = |with: String| Error::SubnetTaken {
            network: name.clone(),
            subnet: subnet.to_string(),
            with,
        };
        let segments = self.leases.segments();
        if let Some(used) = segments.iter().find(|used| used.subnet.overlaps(subnet)) {
            return Err(taken(format!(
                "the network `{}` of VMs that run",
                used.network
            )));
        }
        let routed = self.routed(netlink)?;
        match routed.iter().find(|route| route.overlaps(subnet)) {
            Some(route) => Err(taken(format!("the host's route to `{route}`"))),
            None => Ok(subnet),
        }
    }

    /// Where the host has routes to, but for those to VMs.
    fn routed(&self, netlink: &mut Netlink) -> Result<Vec<Subnet>, Error> {
        let doing = || Error::system("read the host's routes");
        let mut own = Vec::new();
        let realm = &self.settings.name;
        for link in netlink.links().map_err(doing())? {
            let is_marked = link.alias.as_ref().is_some_and(|mark| realm.marks(mark));
            if link.is_bridge && (is_marked || link.name == realm.bridge()) {
                own.push(link.index);
            }
        }
        netlink.routed(&own).map_err(doing())
    }
}

impl Builtin {
    /// Defines a network. Without a subnet it gets 256 addresses that nothing has; with `ipv6` and
    /// without a subnet of IPv6, one of its own. Returns what it is now.
    ///
    /// # Errors
    /// The definition makes no sense, one of that name is there, or its addresses are in use.
    pub fn create(&self, mut network: Network, ipv6: bool) -> Result<Network, Error> {
        let name = network.name.to_string();
        if network.name.is_default() {
            return Err(Error::NetworkExists(network.name));
        }
        if RESERVED.contains(&name.as_str()) {
            return Err(Error::Definition(format!(
                "no network can be called `{name}`"
            )));
        }
        network.check()?;
        let (leases, resolver) = (self.lock()?, self.resolver());
        let settings = self.settings();
        let segments = Segments::new(settings, &leases, &resolver);
        let definitions = Definitions::at(&settings.networks);
        let others = definitions.all()?;
        let mut netlink = Netlink::of_thread()?;
        if let Some(subnet) = network.subnet {
            let overlaps = |other: &&Network| other.subnet.is_some_and(|it| it.overlaps(subnet));
            if let Some(other) = others.iter().find(overlaps) {
                return Err(Error::SubnetTaken {
                    network: network.name,
                    subnet: subnet.to_string(),
                    with: format!("the network `{}`", other.name),
                });
            }
            segments.unless_taken(&network.name, subnet, &mut netlink)?;
        } else {
            let defined: Vec<Subnet> = others.iter().filter_map(|other| other.subnet).collect();
            let free = subnets_of(&settings.pools, &defined);
            network.subnet = Some(segments.choose(&free, &mut netlink)?);
        }
        if (ipv6 || network.subnet6.is_some()) && !sysctl::has_ipv6() {
            return Err(Error::NoIpv6(network.name));
        }
        if ipv6 && network.subnet6.is_none() {
            let seed = format!("{}\0{name}", settings.owner.display());
            network.subnet6 = Some(Subnet6::of_name(&seed));
        }
        if let Some(subnet) = network.subnet6 {
            let overlaps = |other: &&Network| other.subnet6.is_some_and(|it| it.overlaps(subnet));
            if let Some(other) = others.iter().find(overlaps) {
                return Err(Error::SubnetTaken {
                    network: network.name,
                    subnet: subnet.to_string(),
                    with: format!("the network `{}`", other.name),
                });
            }
        }
        definitions.insert(&network)?;
        Ok(network)
    }

    /// All networks, `default` first; that one with the addresses that it has while VMs are in it.
    ///
    /// # Errors
    /// A definition cannot be read.
    pub fn networks(&self) -> Result<Vec<Network>, Error> {
        Definitions::at(&self.settings().networks).all()
    }

    /// One network, and the VMs of any state root that are in it now.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn network(&self, name: &NetworkName) -> Result<(Network, Vec<Member>), Error> {
        let settings = self.settings();
        let mut network = Definitions::at(&settings.networks).get(name)?;
        let bridge = settings.name.bridge_of(&settings.owner, name);
        let leases = self.lock()?;
        let links = leases
            .all()
            .flat_map(|lease| lease.links.iter().map(move |link| (lease, link)))
            .filter(|(_, link)| link.segment.bridge == bridge);
        let mut members = Vec::new();
        for (lease, link) in links {
            network.subnet = Some(link.segment.subnet);
            network.gateway = Some(link.segment.gateway);
            members.push(Member {
                id: lease.id.clone(),
                names: lease.names.clone(),
                address: link.address,
                mac: link.mac,
            });
        }
        Ok((network, members))
    }

    /// Removes the definition of a network that no VM is in.
    ///
    /// # Errors
    /// There is none of that name, it is `default`, or VMs are in it.
    pub fn remove(&self, name: &NetworkName) -> Result<(), Error> {
        if name.is_default() {
            return Err(Error::NetworkStays);
        }
        let settings = self.settings();
        let bridge = settings.name.bridge_of(&settings.owner, name);
        let leases = self.lock()?.whole()?;
        let uses = |lease: &&crate::lease::Lease| {
            let mut links = lease.links.iter();
            links.any(|link| link.segment.bridge == bridge)
        };
        if let Some(lease) = leases.all().find(uses) {
            return Err(Error::NetworkInUse {
                network: name.clone(),
                by: lease.id.clone(),
            });
        }
        Definitions::at(&settings.networks).remove(name)
    }
}

/// A VM in a network.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Member {
    /// The VM.
    #[serde(rename = "ID")]
    pub id: firebuild_core::MachineId,
    /// What the others know it by.
    pub names: Vec<String>,
    /// Its address there.
    #[serde(rename = "IP")]
    pub address: Ipv4Addr,
    /// Its hardware address there.
    #[serde(rename = "MACAddress")]
    pub mac: crate::Mac,
}

/// The subnets of the usual size in some pools that overlap with none of `taken`.
fn subnets_of(pools: &[Subnet], taken: &[Subnet]) -> Vec<Subnet> {
    pools
        .iter()
        .flat_map(|pool| {
            let many = 1_u32 << USUAL_PREFIX.saturating_sub(pool.prefix()).min(16);
            let first = pool.network().to_bits();
            (0..many).filter_map(move |number| {
                let address = first + number * (1 << (32 - u32::from(USUAL_PREFIX)));
                Subnet::new(Ipv4Addr::from(address), USUAL_PREFIX)
            })
        })
        .filter(|subnet| !taken.iter().any(|other| other.overlaps(*subnet)))
        .collect()
}
