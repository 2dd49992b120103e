//! Who has which address and which ports: one file for each VM, under one lock.
//!
//! The directory is the host's, not one state root's: the bridge is shared by all of them. What
//! must hold: a lease is written before anything else of an attachment is made, and removed after
//! everything else is gone. So whatever is found on the host has a lease, or is nobody's.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use firebuild_core::MachineId;
use fs_err::File;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::{Error, Listener, Mac, Subnet};

/// What one VM has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    /// The VM.
    pub(crate) id: MachineId,
    /// The state root that the VM belongs to.
    pub(crate) owner: PathBuf,
    /// The guest's address.
    pub(crate) address: Ipv4Addr,
    /// The network that the address is of.
    pub(crate) subnet: Subnet,
    /// The guest's hardware address.
    pub(crate) mac: Mac,
    /// The ports that it has on the host.
    #[serde(default)]
    pub(crate) listeners: Vec<Listener>,
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
const BESIDE: &str = "new";

impl Leases {
    /// Waits for the lock and reads the leases.
    pub(crate) fn lock(directory: &Path) -> Result<Self, Error> {
        fs_err::create_dir_all(directory)?;
        let lock = fs_err::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(directory.join("lock"))?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(lock.file(), FlockOperation::LockExclusive))
            .map_err(io::Error::from)?;
        let mut locked = Self {
            directory: directory.to_owned(),
            leases: BTreeMap::new(),
            damaged: BTreeMap::new(),
            lock,
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

    /// An address that no VM has: the one wanted, or the next after the last one given, so that
    /// an address rests before somebody else has it.
    pub(crate) fn choose(
        &self,
        subnet: Subnet,
        wanted: Option<Ipv4Addr>,
    ) -> Result<Ipv4Addr, Error> {
        let guests = subnet.guests();
        if let Some(address) = wanted {
            if !guests.contains(&u32::from(address)) {
                return Err(Error::AddressOutside { address, subnet });
            }
            return match self.all().find(|lease| lease.address == address) {
                None => Ok(address),
                Some(lease) => Err(Error::AddressTaken {
                    address,
                    by: lease.id.clone(),
                }),
            };
        }
        let taken: std::collections::HashSet<u32> =
            self.all().map(|lease| u32::from(lease.address)).collect();
        let next = self
            .last()
            .map(|last| last.saturating_add(1))
            .filter(|next| guests.contains(next))
            .unwrap_or(guests.start);
        (next..guests.end)
            .chain(guests.start..next)
            .find(|address| !taken.contains(address))
            .map(Ipv4Addr::from)
            .ok_or(Error::AddressesExhausted(subnet))
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
        let address = u32::from(lease.address).to_string();
        write_whole(&self.directory, LAST, address.as_bytes())?;
        write_whole(&self.directory, &format!("{}.json", lease.id), &text)?;
        self.leases.insert(lease.id.clone(), lease);
        Ok(())
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
        // Half a file of somebody who was killed; nobody else is writing now.
        let _ = fs_err::remove_file(self.directory.join(BESIDE));
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

    /// Only a hint: whatever it says, no taken address is given.
    fn last(&self) -> Option<u32> {
        let text = fs_err::read_to_string(self.directory.join(LAST)).ok()?;
        text.parse().ok()
    }
}

/// Writes a file beside its place, and renames it there once it is on the disk. Only one process
/// at a time does, the one with the lock, so one name beside is enough.
fn write_whole(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let beside = directory.join(BESIDE);
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs_err::rename(&beside, directory.join(name))
}
