//! Which VMs have a network by CNI now, and whose they are: a file each, in a directory that all
//! state roots of the host share.
//!
//! It is void once the host has restarted, as the namespaces are. What must hold: a lease is there
//! before its namespace and goes after it, so a namespace without one is nobody's.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use firebuild_core::MachineId;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::lease::{self, BESIDE, remove_half};

/// What is known of a VM that has, or is to have, a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    pub(crate) id: MachineId,
    /// The state root that the VM belongs to.
    pub(crate) owner: PathBuf,
    /// The directory of cached results.
    pub(crate) cache: PathBuf,
    /// What tells it from every other VM of the host that has a lease here: from [`FIRST_NUMBER`].
    pub(crate) number: u16,
}

/// The lowest number: the built-in network's VMs have those below.
const FIRST_NUMBER: u16 = 0x8000;

/// The directory of leases, locked as long as this lives.
pub(crate) struct Leases {
    directory: PathBuf,
    _lock: fs_err::File,
}

impl Leases {
    /// Waits for the lock.
    pub(crate) fn lock(directory: &Path) -> Result<Self, Error> {
        let lock = lease::lock(directory)?;
        remove_half(directory)?;
        Ok(Self {
            directory: directory.to_owned(),
            _lock: lock,
        })
    }

    /// The lease of one VM; none if there is none or it is damaged.
    pub(crate) fn get(&self, id: &MachineId) -> Option<Lease> {
        let text = fs_err::read(self.path(id)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Whether a VM has a lease, damaged or not.
    pub(crate) fn has(&self, id: &MachineId) -> bool {
        self.path(id).exists()
    }

    /// Every VM that has a lease, with its owner if that can be read.
    pub(crate) fn all(&self) -> Result<Vec<(MachineId, Option<PathBuf>)>, Error> {
        let mut all = Vec::new();
        for entry in fs_err::read_dir(&self.directory)? {
            let name = entry?.file_name();
            let name = name.to_string_lossy();
            if let Some(Ok(id)) = name.strip_suffix(".json").map(str::parse::<MachineId>) {
                let owner = self.get(&id).map(|lease| lease.owner);
                all.push((id, owner));
            }
        }
        Ok(all)
    }

    /// The lowest number that no VM has.
    pub(crate) fn free_number(&self) -> Result<u16, Error> {
        let mut taken = BTreeSet::new();
        for (id, _) in self.all()? {
            taken.extend(self.get(&id).map(|lease| lease.number));
        }
        let mut numbers = FIRST_NUMBER..=u16::MAX;
        // A host has not as many VMs.
        Ok(numbers
            .find(|number| !taken.contains(number))
            .unwrap_or(FIRST_NUMBER))
    }

    /// Writes a lease.
    pub(crate) fn insert(&self, lease: &Lease) -> Result<(), Error> {
        let text = serde_json::to_vec(lease).map_err(io::Error::from)?;
        // Only who has the lock writes, and nothing here outlives the host's memory: no sync.
        let beside = self.directory.join(BESIDE);
        fs_err::write(&beside, text)?;
        Ok(fs_err::rename(&beside, self.path(&lease.id))?)
    }

    /// Removes a lease, if there is one.
    pub(crate) fn remove(&self, id: &MachineId) -> Result<(), Error> {
        match fs_err::remove_file(self.path(id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => Ok(other?),
        }
    }

    fn path(&self, id: &MachineId) -> PathBuf {
        self.directory.join(format!("{id}.json"))
    }
}
