//! Cleaning up after VMs whose owner is gone.
//!
//! Every command begins with [`reconcile`]: it looks at each record once, and only touches a VM
//! whose lock is free and whose record says that it has not ended. [`purge`] also looks at what is
//! left on the host, and removes the records of VMs that have ended. All of it can be done any
//! number of times, by any number of processes at once: whoever holds a VM's lock does it.

use std::time::Duration;

use firebuild_core::MachineId;
use firebuild_network::Namespace;
use firebuild_network::cni::Cni;
use firebuild_store::MachineLock;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::error::Report;
use crate::events::{self, Action};
use crate::paths::Directories;
use crate::record::{self, Record, State};
use crate::spec::Purpose;
use crate::vmm::{firecracker, group};
use crate::{Error, Host};

/// How long the kernel may take to end a process that was killed.
const KILL_TIME: Duration = Duration::from_secs(5);

/// Cleans up after every VM whose owner died. Returns those.
///
/// # Errors
/// [`Error::Store`] if the records cannot be read. What cannot be cleaned up stays for the next
/// time, and is no error here: it must not keep anybody from anything else.
pub fn reconcile(host: &Host) -> Result<Vec<MachineId>, Error> {
    let mut dead = Vec::new();
    for id in host.store.machines().ids()? {
        if let Ok(true) = reconcile_one(host, &id) {
            dead.push(id);
        }
    }
    dead.sort();
    Ok(dead)
}

/// Cleans up after one VM if its owner died. Returns whether it had.
///
/// # Errors
/// What could not be cleaned up.
pub fn reconcile_one(host: &Host, id: &MachineId) -> Result<bool, Error> {
    let machines = host.store.machines();
    // Most have ended: those cost one file to read.
    let before = match record::state(&host.store, id) {
        Err(Error::DamagedRecord { .. }) => return Ok(false),
        other => other?,
    };
    if before.is_final() || machines.is_running(id)? {
        return Ok(false);
    }
    let Some(lock) = machines.lock(id)? else {
        return Ok(false);
    };
    let mut record = match record::read(&host.store, id) {
        // What it says is unknown, so nothing can be written about its end. It can be removed.
        Err(Error::DamagedRecord { .. }) => return Ok(false),
        other => other?,
    };
    // Somebody else may have been quicker.
    if record.state.is_final() {
        return Ok(false);
    }
    let owner = match record.spec.purpose {
        Purpose::Build => "build",
        Purpose::Run { .. } => "supervisor",
    };
    let is_told = record.state == State::Restarting;
    record.finish(State::Failed {
        reason: Report::new(format!("the {owner} of VM `{id}` was killed")),
    });
    bury(host, lock, &mut record, is_told)?;
    Ok(true)
}

/// What [`purge`] did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// VMs that had ended and whose records are gone now.
    pub machines: Vec<MachineId>,
    /// VMs without a record of which the host still had something.
    pub leftovers: Vec<MachineId>,
}

/// Removes the records of all VMs that have ended, and whatever is left of any VM.
///
/// # Errors
/// The first thing that could not be removed; the rest is.
pub fn purge(host: &Host) -> Result<Purged, Error> {
    let mut purged = Purged::default();
    let mut trouble = None;
    let mut note = |id: &MachineId, done: Result<bool, Error>, list: &mut Vec<MachineId>| match done
    {
        Ok(true) => list.push(id.clone()),
        Ok(false) => {}
        Err(error) => trouble = trouble.take().or(Some(error)),
    };
    for identity in host.store.machines().identities()? {
        let id = identity.id;
        let removed = reconcile_one(host, &id).and_then(|_| remove_ended(host, &id));
        note(&id, removed, &mut purged.machines);
    }
    let mut known = host.attached()?;
    known.sort();
    known.dedup();
    for id in &known {
        note(id, remove_leftover(host, id), &mut purged.leftovers);
    }
    for id in group::known() {
        note(&id, remove_groups(host, &id), &mut purged.leftovers);
    }
    host.store.volumes().sweep()?;
    // Whoever took the last VM down may have died before it got to these.
    let shared = host.network.teardown_unused_host_parts();
    let shared = shared.map_err(|source| Error::HostParts { source });
    match trouble.or(shared.err()) {
        Some(error) => Err(error),
        None => Ok(purged),
    }
}

/// Removes a VM's record, if it has ended. Returns whether it had. Of one whose record cannot be
/// understood everything that the host may have goes first.
///
/// # Errors
/// [`Error::Store`]; of such a record, what could not be given back.
pub fn remove_ended(host: &Host, id: &MachineId) -> Result<bool, Error> {
    let machines = host.store.machines();
    let lock = match machines.lock(id) {
        Ok(Some(lock)) => lock,
        Ok(None) | Err(firebuild_store::Error::NoMachine(_)) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let record = record::read(&host.store, id);
    if record.is_err() {
        give_back_unknown(host, id)?;
    }
    machines.remove(lock)?;
    if let Ok(record) = record {
        events::note(&host.store, &record, Action::Destroy);
    }
    Ok(true)
}

/// Gives back whatever the host has of a VM by its id alone, without a record that would tell.
fn give_back_unknown(host: &Host, id: &MachineId) -> Result<(), Error> {
    let cni = host.cni(None);
    kill_inside(host, &cni, id)?;
    firecracker::clean_up_unknown(id)?;
    group::remove(id)?;
    teardown(host, &cni, id)?;
    let runtime = Directories::of(&host.store, &host.run, id)?.runtime;
    gone(fs_err::remove_dir_all(runtime))
        .map_err(|source| Error::io(format!("remove the files of VM `{id}`"), source))
}

fn remove_leftover(host: &Host, id: &MachineId) -> Result<bool, Error> {
    // Whoever makes a VM has its lock before it has anything else.
    let lock = match host.store.machines().lock(id) {
        Ok(Some(lock)) => Some(lock),
        Ok(None) => return Ok(false),
        Err(firebuild_store::Error::NoMachine(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let cni = host.cni(None);
    kill_inside(host, &cni, id)?;
    group::remove(id)?;
    teardown(host, &cni, id)?;
    drop(lock);
    Ok(true)
}

/// Removes the control groups of a VM of which nothing else is left. Other state roots have VMs in the
/// same place: those have a namespace, or processes.
fn remove_groups(host: &Host, id: &MachineId) -> Result<bool, Error> {
    let namespaces = [host.network.namespace(id), host.cni(None).namespace(id)];
    if namespaces.iter().any(|it| it.path().exists()) {
        return Ok(false);
    }
    group::remove_if_empty(id)
}

/// Gives back everything that a VM had, then writes its last record or removes it, then lets the
/// lock go. The record says how it ended, which is an event unless that `is_told` already.
///
/// # Errors
/// The first thing that could not be given back. The record is written all the same.
pub(crate) fn bury(
    host: &Host,
    lock: MachineLock,
    record: &mut Record,
    is_told: bool,
) -> Result<(), Error> {
    let cni = host.cni(record.spec.cni.as_ref());
    let given_back = [
        kill_inside(host, &cni, &record.id),
        firecracker::clean_up(record),
        group::remove(&record.id),
        teardown(host, &cni, &record.id),
        remove_files(record),
    ];
    let goes = !record.lasts();
    if !is_told {
        events::note_end(&host.store, record, &record.state);
    }
    let given_back = given_back.into_iter().collect::<Result<(), Error>>();
    if goes && given_back.is_ok() {
        host.store.machines().remove(lock)?;
        events::note(&host.store, record, Action::Destroy);
    } else {
        record::write(&host.store, &lock, record)?;
    }
    given_back
}

/// Gives back what a VM had in its namespace, in its jail and on the network, and keeps the rest: it
/// will be started again in a moment.
///
/// # Errors
/// The first thing that could not be given back.
pub(crate) fn clear(host: &Host, record: &Record) -> Result<(), Error> {
    let id = &record.id;
    let cni = host.cni(record.spec.cni.as_ref());
    let cleared = [
        kill_inside(host, &cni, id),
        firecracker::clean_up(record),
        group::remove(id),
        teardown(host, &cni, id),
    ];
    cleared.into_iter().collect()
}

/// Takes down what a VM has in any network: which it was in, its record may not tell.
fn teardown(host: &Host, cni: &Cni, id: &MachineId) -> Result<(), Error> {
    let taken_down = [cni.teardown(id), host.network.teardown(id)];
    let taken_down: Result<(), _> = taken_down.into_iter().collect();
    taken_down.map_err(|source| Error::Teardown {
        id: id.clone(),
        source,
    })
}

fn remove_files(record: &Record) -> Result<(), Error> {
    let directories = &record.directories;
    // The disk of a VM that lasts is what it is started with again.
    let disk = match record.lasts() {
        true => directories.disk.with_extension("new"),
        false => directories.disk.clone(),
    };
    gone(fs_err::remove_dir_all(&directories.runtime))
        .and_then(|()| gone(fs_err::remove_file(disk)))
        .map_err(|source| Error::io(format!("remove the files of VM `{}`", record.id), source))
}

/// What is not there need not be removed.
fn gone(removed: std::io::Result<()>) -> std::io::Result<()> {
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Kills whatever still runs in the VM's network namespace, and waits until it is gone.
fn kill_inside(host: &Host, cni: &Cni, id: &MachineId) -> Result<(), Error> {
    let namespaces = [host.network.namespace(id), cni.namespace(id)];
    let killed = namespaces.iter().map(|namespace| kill_in(namespace, id));
    killed.collect()
}

fn kill_in(namespace: &Namespace, id: &MachineId) -> Result<(), Error> {
    let doing = || format!("end the processes of VM `{id}`");
    let inside = || namespace.processes().map_err(|e| Error::io(doing(), e));
    for pid in inside()? {
        let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
            continue;
        };
        let Ok(handle) = pidfd_open(raw, PidfdFlags::empty()) else {
            continue;
        };
        // The handle is of a process that is inside, not of another that has its number by now.
        if inside()?.contains(&pid) {
            let _ = pidfd_send_signal(&handle, Signal::KILL);
            let limit = Timespec::try_from(KILL_TIME).map_err(|_| {
                Error::io(
                    doing(),
                    std::io::Error::from(std::io::ErrorKind::InvalidInput),
                )
            })?;
            let mut end = [PollFd::new(&handle, PollFlags::IN)];
            let _ = poll(&mut end, Some(&limit));
        }
    }
    Ok(())
}
