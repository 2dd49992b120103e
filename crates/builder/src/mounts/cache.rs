//! Cache mounts: the disks that a VM has while it lives, and nobody else at that time.
//!
//! A stage takes disks before it takes a slot for its VM, in the order of their names, and gives all
//! of them back with the VM. So of any two who wait, one waits for somebody who is at work.

use std::collections::BTreeMap;
use std::fs::File;
use std::time::Duration;

use firebuild_core::ByteSize;
use firebuild_disk::ext4;
use firebuild_machine::vmm::AttachedDisk;
use firebuild_plan::{Mount, Operation, Run, Sharing, Step};
use firebuild_store::{CacheDisk, MOST_DISKS, Store};

use crate::current::Current;
use crate::error::{Error, StepError};
use crate::progress::Wait;

/// How much a cache can hold. Its disk takes room only for what is in it.
const SIZE: ByteSize = ByteSize(32 << 30);

/// How often it is looked whether a disk has become free: that is no event that could be awaited.
const POLL: Duration = Duration::from_millis(100);

/// How many disks one VM can have beside its own two.
const MOST_ATTACHED: usize = 16;

/// The cache disks of a VM, by the caches' ids. Dropping them gives them back.
#[derive(Debug, Default)]
pub(crate) struct Disks(BTreeMap<String, (String, CacheDisk)>);

impl Disks {
    /// The serial of a cache's disk.
    pub(crate) fn serial(&self, id: &str) -> Option<&str> {
        self.0.get(id).map(|(serial, _)| serial.as_str())
    }

    /// The cache whose disk has that serial.
    pub(crate) fn id(&self, serial: &str) -> Option<&str> {
        let mut all = self.0.iter();
        let (id, _) = all.find(|(_, (known, _))| known == serial)?;
        Some(id)
    }

    /// The disks, to be attached to the VM.
    pub(crate) fn attached(&self) -> Result<Vec<AttachedDisk>, Error> {
        let attach = |(serial, disk): &(String, CacheDisk)| {
            Ok(AttachedDisk {
                serial: serial.clone(),
                file: disk.open()?,
                read_only: false,
            })
        };
        self.0.values().map(attach).collect()
    }

    fn has_all(&self, wanted: &BTreeMap<&str, Sharing>) -> bool {
        wanted.keys().all(|id| self.0.contains_key(*id))
    }

    pub(super) fn add(&mut self, id: &str, disk: CacheDisk) {
        let serial = format!("cache{}", self.0.len());
        self.0.insert(id.to_owned(), (serial, disk));
    }
}

impl Current<'_> {
    /// Sees to it that the stage's VM, if it has one, has the disks of a RUN's caches; else ends
    /// it. If there is none then, takes the disks that the next one gets.
    pub(crate) async fn disks(&mut self, run: &Run) -> Result<(), StepError> {
        let wanted = caches(run);
        if wanted.len() > MOST_ATTACHED {
            return Err(StepError::TooManyCaches(MOST_ATTACHED));
        }
        if let Some(vm) = &self.vm {
            if vm.disks().has_all(&wanted) {
                return Ok(());
            }
            if let Some(vm) = self.vm.take() {
                vm.finish().await?;
            }
        }
        let mut disks = Disks::default();
        for (id, sharing) in wanted {
            let disk = match take(self.store(), id, sharing)? {
                Some(disk) => disk,
                None => {
                    let store = self.store().clone();
                    let free = until_free(&store, id, sharing);
                    self.wait(Wait::Cache(id), free).await??
                }
            };
            disks.add(id, disk);
        }
        self.take_more(&mut disks)?;
        self.next_disks = disks;
        Ok(())
    }

    /// Takes the disks of the stage's other caches, if they are free: so that the VM need not be
    /// started anew for them.
    fn take_more(&self, disks: &mut Disks) -> Result<(), Error> {
        let run = |step: &Step| match &step.operation {
            Operation::Run(run) => Some(run.clone()),
            _ => None,
        };
        for run in self.stage().steps.iter().filter_map(run) {
            for (id, sharing) in caches(&run) {
                if disks.serial(id).is_some() || disks.0.len() >= MOST_ATTACHED {
                    continue;
                }
                if let Some(disk) = take(self.store(), id, sharing)? {
                    disks.add(id, disk);
                }
            }
        }
        Ok(())
    }

    /// The serial of a cache's disk in the VM.
    pub(super) fn serial(&self, id: &str) -> Result<String, StepError> {
        let disks = self.vm.as_ref().map(|vm| vm.disks());
        let serial = disks.and_then(|disks| disks.serial(id));
        serial
            .map(str::to_owned)
            .ok_or_else(|| StepError::Violation(format!("the VM does not have cache `{id}`")))
    }
}

/// The caches of a RUN in the order in which they are taken. One that is wanted in two ways is
/// taken in the stricter.
fn caches(run: &Run) -> BTreeMap<&str, Sharing> {
    let mut all = BTreeMap::new();
    for mount in &run.mounts {
        if let Mount::Cache(cache) = mount {
            let sharing = all.entry(cache.id.as_str()).or_insert(cache.sharing);
            if cache.sharing == Sharing::Private {
                *sharing = Sharing::Private;
            }
        }
    }
    all
}

/// Takes a cache's disk, if one is free that suits: two VMs cannot write one file system, so
/// `shared` waits its turn like `locked`; `private` takes any, or a new one.
fn take(store: &Store, id: &str, sharing: Sharing) -> Result<Option<CacheDisk>, Error> {
    let numbers = match sharing {
        Sharing::Private => 0..MOST_DISKS,
        Sharing::Shared | Sharing::Locked => 0..1,
    };
    for number in numbers {
        let disk = store.cache_disks().try_take(id, number, make)?;
        if disk.is_some() {
            return Ok(disk);
        }
    }
    Ok(None)
}

async fn until_free(store: &Store, id: &str, sharing: Sharing) -> Result<CacheDisk, Error> {
    loop {
        tokio::time::sleep(POLL).await;
        if let Some(disk) = take(store, id, sharing)? {
            return Ok(disk);
        }
    }
}

/// An empty file system with a journal, so that a VM that is killed leaves one that can be mounted.
pub(super) fn make(file: &File) -> Result<(), Error> {
    let options = ext4::Options {
        label: "cache".to_owned(),
        ..ext4::Options::default()
    };
    ext4::write_empty(file, SIZE, &options).map_err(Error::RootFs)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_takes_another_disk_and_the_rest_waits() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let first = take(&store, "c", Sharing::Shared).unwrap();
        assert!(first.is_some());
        assert!(take(&store, "c", Sharing::Shared).unwrap().is_none());
        assert!(take(&store, "c", Sharing::Locked).unwrap().is_none());
        let second = take(&store, "c", Sharing::Private).unwrap();
        assert!(second.is_some());
        drop(first);
        assert!(take(&store, "c", Sharing::Locked).unwrap().is_some());
        let listed = store.cache_disks().list().unwrap();
        assert_eq!(listed.len(), 2);
        assert!(listed.iter().all(|entry| entry.size < ByteSize(8 << 20)));
    }
}
