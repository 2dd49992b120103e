//! Records of machines: a directory for each, which appears and goes as a whole.
//!
//! A machine runs exactly when somebody holds its lock, who is its supervisor. The store reads
//! only a machine's identity, of which nothing but the name ever changes; the record is its
//! supervisor's own.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use firebuild_core::{Digest, MachineId, MachineName};
use serde::{Deserialize, Serialize};

use crate::Store;
use crate::error::{Doing, Error, Result};
use crate::lock::{Lock, Mode};

/// What most records have less than, in bytes.
const USUAL_SIZE: usize = 4096;

/// What none of a machine's files has, in bytes.
const LARGEST: u64 = 64 << 20;

/// What a machine is called and what it keeps from being removed. Only its name ever changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Its id.
    pub id: MachineId,
    /// Its name, if it was given one: no two machines have the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<MachineName>,
    /// The keys of the root file system images that it runs from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rootfs: Vec<Digest>,
}

/// The records of machines. See [`Store::machines`].
#[derive(Debug)]
pub struct Machines<'a> {
    store: &'a Store,
}

/// Held by a machine's supervisor for as long as it lives.
#[derive(Debug)]
pub struct MachineLock {
    id: MachineId,
    lock: Lock,
}

impl MachineLock {
    /// Whose lock it is.
    #[must_use]
    pub fn id(&self) -> &MachineId {
        &self.id
    }

    /// Gives up the lock to a child process: the open file is for the child to inherit, and the
    /// lock lasts until both have closed it. So there is no moment at which nobody holds it.
    ///
    /// # Errors
    /// [`Error::Io`] if too many files are open.
    pub fn hand_over(self) -> Result<OwnedFd> {
        self.lock.hand_over().map(Into::into)
    }

    /// Takes the lock that a parent handed over.
    #[must_use]
    pub fn take_over(id: MachineId, file: OwnedFd) -> Self {
        Self {
            id,
            lock: Lock::held(file.into()),
        }
    }
}

impl<'a> Machines<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// Makes a machine's directory with its first record, already locked, so that nobody takes it
    /// for a dead one.
    ///
    /// # Errors
    /// [`Error::NameTaken`]; [`Error::NoRootfs`]; [`Error::Io`], also if the id is taken;
    /// [`Error::NoSpace`].
    pub fn create(&self, identity: &Identity, record: &[u8]) -> Result<MachineLock> {
        let staged = self.store.temporary_directory()?;
        let _lock = self.store.lock("machines", Mode::Exclusive)?;
        for key in &identity.rootfs {
            if !self.store.rootfs_path(key).exists() {
                return Err(Error::NoRootfs(*key));
            }
        }
        self.check_name(identity)?;
        // Not the whole file system, to which others may be writing: a VM waits for it.
        let write = |name: &str, bytes: &[u8]| {
            let path = staged.path().join(name);
            let written = fs_err::File::create(&path)
                .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
            written.writing(staged.path(), || format!("write `{}`", path.display()))
        };
        let json = serde_json::to_vec(identity).map_err(|source| Error::Damaged {
            path: staged.path().join("identity.json"),
            source,
        })?;
        write("identity.json", &json)?;
        write("record.json", record)?;
        let lock = Lock::wait(&staged.path().join("lock"), Mode::Exclusive)?;
        staged.persist_synced(&self.path(&identity.id))?;
        Ok(MachineLock {
            id: identity.id.clone(),
            lock,
        })
    }

    /// Gives a machine another name, whether it runs or not.
    ///
    /// # Errors
    /// [`Error::NameTaken`], [`Error::NoMachine`], [`Error::DamagedMachine`], [`Error::Io`],
    /// [`Error::NoSpace`].
    pub fn rename(&self, id: &MachineId, name: &MachineName) -> Result<()> {
        let _lock = self.store.lock("machines", Mode::Exclusive)?;
        let mut identity = self.identity(id)?;
        identity.name = Some(name.clone());
        self.check_name(&identity)?;
        let path = self.path(id).join("identity.json");
        self.store.write_json(&path, &identity)
    }

    fn check_name(&self, new: &Identity) -> Result<()> {
        let Some(name) = &new.name else {
            return Ok(());
        };
        let mut others = self.identities()?.into_iter();
        match others.find(|other| other.name.as_ref() == Some(name) && other.id != new.id) {
            Some(other) => Err(Error::NameTaken {
                name: name.clone(),
                id: other.id,
            }),
            None => Ok(()),
        }
    }

    /// All identities, in the order of their ids. One that cannot be understood has its id only, so
    /// that it keeps nobody from the others, and can be found and removed.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn identities(&self) -> Result<Vec<Identity>> {
        let mut all = Vec::new();
        for (id, identity) in self.each()? {
            match identity {
                Ok(identity) => all.push(identity),
                Err(Error::DamagedMachine { .. }) => all.push(Identity {
                    id,
                    name: None,
                    rootfs: Vec::new(),
                }),
                Err(error) => return Err(error),
            }
        }
        all.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(all)
    }

    /// All machines, in no order, with what comes of reading their identities.
    fn each(&self) -> Result<Vec<(MachineId, Result<Identity>)>> {
        let mut all = Vec::new();
        for id in self.ids()? {
            match self.identity(&id) {
                // Removed in the meantime.
                Err(Error::NoMachine(_)) => {}
                identity => all.push((id, identity)),
            }
        }
        Ok(all)
    }

    /// The ids of all machines, in no order.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn ids(&self) -> Result<Vec<MachineId>> {
        let directory = self.store.path().join("machines");
        let doing = || format!("read the directory `{}`", directory.display());
        let mut ids = Vec::new();
        for entry in fs_err::read_dir(&directory).doing(doing)? {
            let name = entry.doing(doing)?.file_name();
            ids.extend(
                name.to_str()
                    .and_then(|name| name.parse::<MachineId>().ok()),
            );
        }
        Ok(ids)
    }

    /// The root file systems of machines, as their identities list them; those of machines that have
    /// ended only `with_ended`.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::DamagedMachine`] of one that runs: nobody knows what from.
    pub fn rootfs(&self, with_ended: bool) -> Result<Vec<Vec<Digest>>> {
        let mut all = Vec::new();
        for (id, identity) in self.each()? {
            let counts = match self.is_running(&id) {
                // Removed in the meantime.
                Err(Error::NoMachine(_)) => false,
                runs => {
                    let damaged = matches!(identity, Err(Error::DamagedMachine { .. }));
                    runs? || with_ended && !damaged
                }
            };
            if counts {
                all.push(identity?.rootfs);
            }
        }
        Ok(all)
    }

    /// A machine that needs the root file system `key`, whether it runs or not. One that has ended
    /// and whose identity is damaged needs none: nobody can start it again.
    pub(crate) fn user_of(&self, key: &Digest) -> Result<Option<MachineId>> {
        for (id, identity) in self.each()? {
            match identity {
                Ok(identity) if identity.rootfs.contains(key) => return Ok(Some(id)),
                Err(Error::DamagedMachine { .. }) if !self.is_running(&id)? => {}
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
        Ok(None)
    }

    /// A machine's identity.
    ///
    /// # Errors
    /// [`Error::NoMachine`], [`Error::Io`], [`Error::DamagedMachine`].
    pub fn identity(&self, id: &MachineId) -> Result<Identity> {
        let bytes = self.read(id, "identity.json")?;
        let damaged = |source| Error::DamagedMachine {
            id: id.clone(),
            source,
        };
        serde_json::from_slice(&bytes).map_err(damaged)
    }

    /// Finds a machine by its name, its id, or the beginning of its id if no other begins so.
    ///
    /// # Errors
    /// [`Error::NoMachine`], [`Error::AmbiguousMachine`], [`Error::Io`].
    pub fn find(&self, text: &str) -> Result<Identity> {
        let mut all = self.identities()?;
        let named = |identity: &Identity| {
            let name = identity.name.as_ref().map(MachineName::as_str);
            name == Some(text) || identity.id.as_str() == text
        };
        if let Some(at) = all.iter().position(named) {
            return Ok(all.swap_remove(at));
        }
        all.retain(|identity| !text.is_empty() && identity.id.as_str().starts_with(text));
        let count = all.len();
        match all.pop() {
            Some(only) if count == 1 => Ok(only),
            Some(_) => Err(Error::AmbiguousMachine {
                prefix: text.to_owned(),
                count,
            }),
            None => Err(Error::NoMachine(text.to_owned())),
        }
    }

    /// A machine's record.
    ///
    /// # Errors
    /// [`Error::NoMachine`], [`Error::Io`].
    pub fn record(&self, id: &MachineId) -> Result<Vec<u8>> {
        self.read(id, "record.json")
    }

    /// As [`write_record`](Self::write_record), but after the host's sudden end it may be the record
    /// before that is there: for what the next one says as well.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NoSpace`].
    pub fn note_record(&self, lock: &MachineLock, record: &[u8]) -> Result<()> {
        let path = self.path(&lock.id).join("record.json");
        self.store.write_whole(&path, record)
    }

    /// Writes a machine's record whole. The lock shows that it is the supervisor who writes.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NoSpace`].
    pub fn write_record(&self, lock: &MachineLock, record: &[u8]) -> Result<()> {
        let path = self.path(&lock.id).join("record.json");
        self.store.write_bytes(&path, record)
    }

    /// A machine's directory, for its disk and logs.
    #[must_use]
    pub fn path(&self, id: &MachineId) -> PathBuf {
        self.store.path().join("machines").join(id.as_str())
    }

    /// Takes a machine's lock; none if somebody holds it.
    ///
    /// # Errors
    /// [`Error::NoMachine`], [`Error::Io`].
    pub fn lock(&self, id: &MachineId) -> Result<Option<MachineLock>> {
        loop {
            if let Some(lock) = self.try_lock(id, Mode::Exclusive)? {
                let id = id.clone();
                return Ok(Some(MachineLock { id, lock }));
            }
            // Others who only look hold it for a moment, shared.
            if self.try_lock(id, Mode::Shared)?.is_none() {
                return Ok(None);
            }
        }
    }

    /// Whether somebody holds a machine's lock.
    ///
    /// # Errors
    /// [`Error::NoMachine`], [`Error::Io`].
    pub fn is_running(&self, id: &MachineId) -> Result<bool> {
        Ok(self.try_lock(id, Mode::Shared)?.is_none())
    }

    /// Removes a machine's directory with all that is in it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove(&self, lock: MachineLock) -> Result<()> {
        let _lock = self.store.lock("machines", Mode::Exclusive)?;
        self.store.discard(&self.path(&lock.id))
    }

    fn try_lock(&self, id: &MachineId, mode: Mode) -> Result<Option<Lock>> {
        let path = self.path(id);
        if !path.exists() {
            return Err(Error::NoMachine(id.to_string()));
        }
        match Lock::try_take(&path.join("lock"), mode) {
            Err(_) if !path.exists() => Err(Error::NoMachine(id.to_string())),
            other => other,
        }
    }

    fn read(&self, id: &MachineId, name: &str) -> Result<Vec<u8>> {
        let path = self.path(id).join(name);
        match content(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(Error::NoMachine(id.to_string()))
            }
            other => other.doing(|| format!("read `{}`", path.display())),
        }
    }
}

/// A small file's bytes. Commands read those of a thousand machines, so nothing is asked about the file
/// that reading it does not tell.
fn content(path: &Path) -> io::Result<Vec<u8>> {
    let file = fs_err::File::open(path)?;
    let mut bytes = Vec::with_capacity(USUAL_SIZE);
    file.take(LARGEST).read_to_end(&mut bytes)?;
    match bytes.len() as u64 {
        LARGEST => Err(ErrorKind::FileTooLarge.into()),
        _ => Ok(bytes),
    }
}
