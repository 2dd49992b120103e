//! Whether the host has memory for one more VM: the sum of what VMs may have is bounded.
//!
//! Memory is taken when it is touched, so VMs together may have more than there is: the bound is the
//! host's memory times a factor. It is held against those that run and those that are being started,
//! under a lock that lasts until the new one's record is there: a hundred at once do not get more.

use firebuild_store::{AdmissionLock, Store};

use crate::record::{self, Record};
use crate::{Error, Host};

/// By how much the memory of all VMs may exceed the host's, in hundredths, if nobody says otherwise.
pub const OVERCOMMIT: u32 = 200;

/// Lets a VM in, or not. What is returned is held until the VM's record says that it is being started,
/// and its lock is held.
///
/// # Errors
/// [`Error::NoMemory`]; [`Error::Store`]; [`Error::Io`].
pub(crate) fn admit(host: &Host, new: &Record) -> Result<AdmissionLock, Error> {
    let lock = host.store.admission()?;
    let Some(memory) = host_memory() else {
        return Ok(lock);
    };
    let factor = new.spec.overcommit.unwrap_or(OVERCOMMIT);
    let most = memory.saturating_mul(factor.into()) / 100;
    let (count, taken) = taken(&host.store, new)?;
    if taken + u64::from(new.spec.memory) > most {
        return Err(Error::NoMemory {
            wanted: new.spec.memory,
            count,
            taken,
            most,
            factor,
        });
    }
    Ok(lock)
}

/// How many other VMs run, and what they may have together, in MiB.
fn taken(store: &Store, new: &Record) -> Result<(usize, u64), Error> {
    let machines = store.machines();
    let (mut count, mut sum) = (0, 0);
    for identity in machines.identities()? {
        if identity.id == new.id {
            continue;
        }
        // What is not there any more, or cannot be understood, runs no VM that could be counted.
        let Ok(record) = record::read(store, &identity.id) else {
            continue;
        };
        if !record.state.is_final() && machines.is_running(&identity.id).unwrap_or(false) {
            count += 1;
            sum += u64::from(record.spec.memory);
        }
    }
    Ok((count, sum))
}

/// The host's memory in MiB.
fn host_memory() -> Option<u64> {
    total(&fs_err::read_to_string("/proc/meminfo").ok()?)
}

fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kibibytes >> 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_the_kernel_says() {
        assert_eq!(
            total("MemTotal:       24684032 kB\nMemFree: 1 kB\n"),
            Some(24_105)
        );
        assert_eq!(total("MemFree: 1 kB\n"), None);
        assert!(host_memory().unwrap() > 0);
    }
}
