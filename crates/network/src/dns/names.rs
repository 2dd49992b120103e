//! Who is called what in the networks of one VM: read from the leases, which are files that are there
//! whole or not at all, so no lock is needed.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use firebuild_core::MachineId;

use crate::lease::Lease;

/// How old a directory has to be for another change to show in its time.
const SETTLED: Duration = Duration::from_millis(50);

/// The names of the VMs that one VM shares a network with.
#[derive(Debug)]
pub(crate) struct Names {
    leases: PathBuf,
    id: MachineId,
    known: Known,
    read: Option<SystemTime>,
}

/// What the leases said.
#[derive(Debug, Default)]
struct Known {
    /// By name, in lower case: the networks and the addresses there.
    by_name: BTreeMap<String, Vec<Place>>,
    /// By address: the name and the network.
    by_address: BTreeMap<IpAddr, String>,
    /// The VM's own networks.
    networks: Vec<(String, crate::Subnet)>,
}

#[derive(Debug, Clone)]
struct Place {
    network: String,
    address: Ipv4Addr,
    address6: Option<std::net::Ipv6Addr>,
}

impl Names {
    /// The names that VM `id` may ask for, by the leases in a directory.
    pub(crate) fn new(leases: PathBuf, id: MachineId) -> Self {
        Self {
            leases,
            id,
            known: Known::default(),
            read: None,
        }
    }

    /// The addresses of `name` (or `name.network`), in lower case and without a dot at its end; none if
    /// no VM is called so.
    pub(crate) fn addresses(&mut self, name: &str) -> Option<Vec<IpAddr>> {
        self.refresh();
        let all = self.known.by_name.get(name).cloned();
        let in_network = || {
            let (name, network) = name.rsplit_once('.')?;
            let mut places = self.known.by_name.get(name)?.clone();
            places.retain(|place| place.network == network);
            Some(places).filter(|places| !places.is_empty())
        };
        let places = all.or_else(in_network)?;
        let of_both = |place: &Place| {
            let v6 = place.address6.map(IpAddr::V6);
            std::iter::once(IpAddr::V4(place.address)).chain(v6)
        };
        Some(places.iter().flat_map(of_both).collect())
    }

    /// What the VM with an address is called: `name.network`; none if the address is nobody's.
    pub(crate) fn name(&mut self, address: IpAddr) -> Option<String> {
        self.refresh();
        self.known.by_address.get(&address).cloned()
    }

    /// Whether an address is of one of the VM's networks.
    pub(crate) fn is_own(&mut self, address: IpAddr) -> bool {
        self.refresh();
        let IpAddr::V4(address) = address else {
            return false;
        };
        let mut networks = self.known.networks.iter();
        networks.any(|(_, subnet)| subnet.contains(address))
    }

    /// Reads the leases again if there may be others than before.
    fn refresh(&mut self) {
        let changed = fs_err::metadata(&self.leases).and_then(|it| it.modified());
        let changed = changed.unwrap_or(SystemTime::UNIX_EPOCH);
        if self.read == Some(changed) {
            return;
        }
        self.known = self.read();
        let age = SystemTime::now().duration_since(changed);
        // A change of the same moment would not show.
        self.read = age.is_ok_and(|age| age > SETTLED).then_some(changed);
    }

    fn read(&self) -> Known {
        let entries = fs_err::read_dir(&self.leases).into_iter().flatten();
        let leases: Vec<Lease> = entries
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                let is_lease = path.extension().is_some_and(|kind| kind == "json");
                let text = is_lease.then(|| fs_err::read(&path))?.ok()?;
                serde_json::from_slice(&text).ok()
            })
            .collect();
        let mut known = Known::default();
        let Some(own) = leases.iter().find(|lease| lease.id == self.id) else {
            return known;
        };
        for link in &own.links {
            let segment = &link.segment;
            known
                .networks
                .push((segment.network.to_string(), segment.subnet));
        }
        // VMs of other state roots are strangers, though they share the network `default`.
        for lease in leases.iter().filter(|lease| lease.owner == own.owner) {
            let shared = lease.links.iter().filter(|link| {
                let mut links = own.links.iter();
                links.any(|mine| mine.segment.bridge == link.segment.bridge)
            });
            for link in shared {
                known.add(lease, link);
            }
        }
        known
    }
}

impl Known {
    fn add(&mut self, lease: &Lease, link: &crate::lease::Link) {
        let place = Place {
            network: link.segment.network.to_string(),
            address: link.address,
            address6: link.address6(),
        };
        for name in &lease.names {
            let places = self.by_name.entry(name.to_ascii_lowercase()).or_default();
            if !places.iter().any(|other| other.address == place.address) {
                places.push(place.clone());
            }
        }
        if let Some(name) = lease.names.first() {
            let whole = format!("{}.{}", name.to_ascii_lowercase(), place.network);
            self.by_address.insert(place.address.into(), whole.clone());
            if let Some(address) = place.address6 {
                self.by_address.insert(address.into(), whole);
            }
        }
    }
}
