//! Who has which addresses and which ports: one file for each VM, under one lock.
//!
//! The directory is the host's, not one state root's: devices and rules are shared by all of them. A
//! lease has the facts of the VM's networks too, so what the host needs follows from the leases alone. What
//! must hold: a lease is written before anything else of an attachment is made, and removed after
//! everything else is gone. So whatever is found on the host has a lease, or is nobody's.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use firebuild_core::MachineId;
use fs_err::File;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::{Egress, Error, Listener, Mac, NetworkName, Subnet, Subnet6};

/// What one VM has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    /// The VM.
    pub(crate) id: MachineId,
    /// The state root that the VM belongs to.
    pub(crate) owner: PathBuf,
    /// What tells it from every other VM of the host that has a lease: from 1.
    pub(crate) number: u16,
    /// What others of its networks know it by.
    #[serde(default)]
    pub(crate) names: Vec<String>,
    /// The networks that it is in, in the order of its devices.
    pub(crate) links: Vec<Link>,
    /// What it may reach.
    #[serde(default, skip_serializing_if = "Egress::is_open")]
    pub(crate) egress: Egress,
    /// The ports that it has on the host.
    #[serde(default)]
    pub(crate) listeners: Vec<Listener>,
}

impl Lease {
    /// Reads the lease of one VM, which is there whole, from the directory of leases: without the lock,
    /// for who knows that the VM is attached.
    pub(crate) fn read(directory: &Path, id: &MachineId) -> Result<Self, Error> {
        let path = directory.join(format!("{id}.json"));
        let text = fs_err::read(&path)?;
        serde_json::from_slice(&text).map_err(|source| Error::Damaged { path, source })
    }

    /// The address that published ports lead to: that of the first network that has a way out.
    pub(crate) fn reached(&self) -> Option<&Link> {
        self.links.iter().find(|link| !link.segment.internal)
    }
}

/// A VM's place in one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Link {
    /// The network.
    pub(crate) segment: Segment,
    /// The guest's address.
    pub(crate) address: Ipv4Addr,
    /// The guest's hardware address.
    pub(crate) mac: Mac,
}

impl Link {
    /// The guest's address of IPv6, in a network that has it.
    pub(crate) fn address6(&self) -> Option<Ipv6Addr> {
        Some(self.segment.subnet6?.guest(self.address))
    }
}

/// A network as it is on the host while VMs are in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Segment {
    /// The bridge, which tells it from all others of the host.
    pub(crate) bridge: String,
    /// What people call it.
    pub(crate) network: NetworkName,
    pub(crate) subnet: Subnet,
    pub(crate) gateway: Ipv4Addr,
    pub(crate) mtu: Option<u32>,
    pub(crate) internal: bool,
    pub(crate) subnet6: Option<Subnet6>,
}

/// The directory of leases, locked. The lock goes with the value, or with the process.
pub(crate) struct Leases {
    directory: PathBuf,
    leases: BTreeMap<MachineId, Lease>,
    /// Leases that cannot be read. Nobody gets an address while there are any.
    damaged: BTreeMap<MachineId, Error>,
    lock: File,
}

const LAST: &str = "last-address";
/// What a file is called until it is whole.
pub(crate) const BESIDE: &str = "new";

/// The highest number of a VM. A host has not as many.
const MOST_NUMBER: u16 = 0x7fff;

/// For how many networks it is kept which address was given last.
const MOST_LAST: usize = 1000;

/// Makes a directory of leases if it is not there, and waits for its lock.
pub(crate) fn lock(directory: &Path) -> Result<fs_err::File, Error> {
    fs_err::create_dir_all(directory)?;
    let lock = fs_err::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(directory.join("lock"))?;
    rustix::io::retry_on_intr(|| rustix::fs::flock(lock.file(), FlockOperation::LockExclusive))
        .map_err(io::Error::from)?;
    Ok(lock)
}

impl Leases {
    /// Waits for the lock and reads the leases.
    pub(crate) fn lock(directory: &Path) -> Result<Self, Error> {
        let mut locked = Self {
            directory: directory.to_owned(),
            leases: BTreeMap::new(),
            damaged: BTreeMap::new(),
            lock: lock(directory)?,
        };
        locked.read()?;
        Ok(locked)
    }

    /// Refuses if a lease cannot be read: what it says is taken could be given again.
    pub(crate) fn whole(mut self) -> Result<Self, Error> {
        match self.damaged.pop_first() {
            Some((_, error)) => Err(error),
            None => Ok(self),
        }
    }

    /// The VMs of state root `owner`, and those whose lease cannot be read.
    pub(crate) fn owned_by(&self, owner: &Path) -> impl Iterator<Item = &MachineId> {
        self.all()
            .filter(move |lease| lease.owner == owner)
            .map(|lease| &lease.id)
            .chain(self.damaged.keys())
    }

    /// What the lock is on. It is held as long as any descriptor of it is open.
    pub(crate) fn lock_file(&self) -> &File {
        &self.lock
    }

    pub(crate) fn get(&self, id: &MachineId) -> Option<&Lease> {
        self.leases.get(id)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Lease> {
        self.leases.values()
    }

    pub(crate) fn has(&self, id: &MachineId) -> bool {
        self.leases.contains_key(id) || self.damaged.contains_key(id)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.leases.is_empty() && self.damaged.is_empty()
    }

    /// The networks that VMs are in.
    pub(crate) fn segments(&self) -> BTreeSet<&Segment> {
        let links = self.all().flat_map(|lease| &lease.links);
        links.map(|link| &link.segment).collect()
    }

    /// The lowest number that no VM has.
    pub(crate) fn free_number(&self) -> u16 {
        let taken: BTreeSet<u16> = self.all().map(|lease| lease.number).collect();
        let mut numbers = 1..=MOST_NUMBER;
        numbers
            .find(|number| !taken.contains(number))
            .unwrap_or(MOST_NUMBER)
    }

    /// An address that no VM has: the one wanted, or the next after the last one given, so that
    /// an address rests before somebody else has it.
    pub(crate) fn choose(
        &self,
        segment: &Segment,
        wanted: Option<Ipv4Addr>,
    ) -> Result<Ipv4Addr, Error> {
        let Segment {
            subnet, gateway, ..
        } = *segment;
        let hosts = subnet.hosts();
        let links = self
            .all()
            .flat_map(|lease| lease.links.iter().map(move |link| (&lease.id, link)))
            .filter(|(_, link)| link.segment.bridge == segment.bridge);
        if let Some(address) = wanted {
            if !hosts.contains(&u32::from(address)) || address == gateway {
                return Err(Error::AddressOutside { address, subnet });
            }
            let mut links = links;
            return match links.find(|(_, link)| link.address == address) {
                None => Ok(address),
                Some((id, _)) => Err(Error::AddressTaken {
                    address,
                    by: id.clone(),
                }),
            };
        }
        let mut taken: HashSet<u32> = links.map(|(_, link)| u32::from(link.address)).collect();
        taken.insert(u32::from(gateway));
        let next = self
            .last()
            .get(&segment.bridge)
            .map(|last| u32::from(*last).saturating_add(1))
            .filter(|next| hosts.contains(next))
            .unwrap_or(hosts.start);
        (next..hosts.end)
            .chain(hosts.start..next)
            .find(|address| !taken.contains(address))
            .map(Ipv4Addr::from)
            .ok_or(Error::AddressesExhausted(subnet))
    }

    /// The VM of a network that has a hardware address.
    pub(crate) fn has_mac(&self, segment: &Segment, mac: Mac) -> Option<&MachineId> {
        let has = |lease: &&Lease| {
            let mut links = lease.links.iter();
            links.any(|link| link.segment.bridge == segment.bridge && link.mac == mac)
        };
        self.all().find(has).map(|lease| &lease.id)
    }

    /// The VM that has a port which `listener` wants.
    pub(crate) fn holder(&self, listener: &Listener) -> Option<&MachineId> {
        self.all()
            .find(|lease| lease.listeners.iter().any(|held| held.collides(listener)))
            .map(|lease| &lease.id)
    }

    /// Writes a lease.
    pub(crate) fn insert(&mut self, lease: Lease) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(&lease).map_err(io::Error::from)?;
        let mut last = self.last();
        let used: BTreeSet<&str> = self.segments().iter().map(|s| s.bridge.as_str()).collect();
        if last.len() > MOST_LAST {
            last.retain(|bridge, _| used.contains(bridge.as_str()));
        }
        let links = lease.links.iter();
        last.extend(links.map(|link| (link.segment.bridge.clone(), link.address)));
        let hint = serde_json::to_vec(&last).map_err(io::Error::from)?;
        write_whole(&self.directory, LAST, &hint)?;
        write_whole(&self.directory, &format!("{}.json", lease.id), &text)?;
        self.leases.insert(lease.id.clone(), lease);
        Ok(())
    }

    /// Writes a lease that is there already anew, with other names.
    pub(crate) fn rename(&mut self, id: &MachineId, names: Vec<String>) -> Result<(), Error> {
        let Some(lease) = self.leases.get_mut(id) else {
            return Ok(());
        };
        lease.names = names;
        let text = serde_json::to_vec_pretty(&lease).map_err(io::Error::from)?;
        Ok(write_whole(&self.directory, &format!("{id}.json"), &text)?)
    }

    /// Removes a lease, if there is one.
    pub(crate) fn remove(&mut self, id: &MachineId) -> Result<(), Error> {
        match fs_err::remove_file(self.directory.join(format!("{id}.json"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        self.leases.remove(id);
        self.damaged.remove(id);
        Ok(())
    }

    fn read(&mut self) -> Result<(), Error> {
        remove_half(&self.directory)?;
        for entry in fs_err::read_dir(&self.directory)? {
            let path = entry?.path();
            let named = path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .and_then(|stem| stem.parse::<MachineId>().ok());
            let (Some(id), Some("json")) = (named, path.extension().and_then(|e| e.to_str()))
            else {
                continue;
            };
            match serde_json::from_slice(&fs_err::read(&path)?) {
                Ok(lease) => drop(self.leases.insert(id, lease)),
                Err(source) => drop(self.damaged.insert(id, Error::Damaged { path, source })),
            }
        }
        Ok(())
    }

    /// The address given last, by bridge. Only a hint: whatever it says, no taken address is given.
    fn last(&self) -> BTreeMap<String, Ipv4Addr> {
        let text = fs_err::read(self.directory.join(LAST)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }
}

/// Removes half a file of somebody who was killed, if there is one. Only for who has the lock: nobody else is
/// writing then.
pub(crate) fn remove_half(directory: &Path) -> io::Result<()> {
    match fs_err::remove_file(directory.join(BESIDE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Writes a file beside its place, and renames it there once it is on the disk. Only one process
/// at a time does, the one with the lock, so one name beside is enough.
pub(crate) fn write_whole(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let beside = directory.join(BESIDE);
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs_err::rename(&beside, directory.join(name))
}
