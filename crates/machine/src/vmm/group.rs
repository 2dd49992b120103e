//! The control groups of a VMM that we start ourselves: `firebuild/ID` in the hierarchy of each
//! controller that the host has, whether it is of version 1 or 2.
//!
//! Every VM that runs something gets them where they can be had, so that limits can change later.
//! Only a limit that was asked for and cannot be kept is an error. The VMM's process enters its groups
//! before it becomes another user; nothing that it starts can leave them. They are removed by the
//! VM's id alone.
//!
//! A group that nobody has entered yet looks like one that was left behind: whoever makes one has a
//! shared lock on its directory (`flock(2)`) until the VMM is in it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use firebuild_core::MachineId;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, mkdir, open, openat};
use rustix::io::{Errno, retry_on_intr};

use super::firecracker::cgroup::{CgroupVersion, Hierarchies};
use crate::Error;
use crate::limits::Limits;

/// The group that has the groups of all VMs.
const PARENT: &str = "firebuild";

/// How often a group is made that others remove before it is locked.
const TRIES: usize = 1000;

/// A VM's groups, made for a process that is to enter them. They are not taken for abandoned as long as
/// this is there.
#[derive(Debug, Default)]
pub(crate) struct Groups(Vec<Group>);

#[derive(Debug)]
struct Group {
    /// Locked.
    _directory: OwnedFd,
    /// Its list of processes.
    processes: OwnedFd,
}

impl Groups {
    /// Has the process that calls this enter the groups. Makes system calls only.
    ///
    /// # Errors
    /// A group takes nobody.
    pub(crate) fn enter(&self) -> io::Result<()> {
        for group in &self.0 {
            // The process that writes.
            rustix::io::write(&group.processes, b"0")?;
        }
        Ok(())
    }
}

impl Group {
    /// Makes the group at `path`, or takes what is there of a turn before this one.
    ///
    /// # Errors
    /// It cannot be made; it is no control group, as where something is mounted over the hierarchy.
    fn make(path: &Path) -> io::Result<Self> {
        let mut made = Self::try_make(path);
        for _ in 1..TRIES {
            match made {
                // Removed before it was locked.
                Err(Errno::NOENT | Errno::NODEV) => made = Self::try_make(path),
                _ => break,
            }
        }
        made.map_err(|error| {
            let error = io::Error::from(error);
            io::Error::new(error.kind(), format!("`{}`: {error}", path.display()))
        })
    }

    fn try_make(path: &Path) -> Result<Self, Errno> {
        // Root's alone: whoever can open it can lock it.
        match mkdir(path, Mode::RWXU) {
            Err(Errno::EXIST) | Ok(()) => {}
            Err(error) => return Err(error),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = open(path, flags, Mode::empty())?;
        retry_on_intr(|| flock(&directory, FlockOperation::LockShared))?;
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let processes = openat(&directory, "cgroup.procs", flags, Mode::empty())?;
        Ok(Self {
            _directory: directory,
            processes,
        })
    }
}

/// A controller of control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Controller {
    Cpu,
    Memory,
    Pids,
    Io,
}

impl Controller {
    const ALL: [Self; 4] = [Self::Cpu, Self::Memory, Self::Pids, Self::Io];

    /// What a version calls it.
    fn name(self, version: CgroupVersion) -> &'static str {
        match (self, version) {
            (Self::Cpu, _) => "cpu",
            (Self::Memory, _) => "memory",
            (Self::Pids, _) => "pids",
            (Self::Io, CgroupVersion::V1) => "blkio",
            (Self::Io, CgroupVersion::V2) => "io",
        }
    }

    /// The files to write for what is limited: their names and values.
    fn settings(self, limits: &Limits, version: CgroupVersion) -> Vec<(&'static str, String)> {
        let one = |file: &'static str, value: Option<String>| value.map(|value| (file, value));
        let settings = match (self, version) {
            (Self::Cpu, CgroupVersion::V2) => [
                one(
                    "cpu.weight",
                    limits.cpu_weight.map(|it| it.get().to_string()),
                ),
                one(
                    "cpu.max",
                    limits
                        .cpu_max
                        .map(|it| format!("{} {}", it.quota(), crate::limits::CPU_PERIOD)),
                ),
            ],
            (Self::Cpu, CgroupVersion::V1) => [
                one(
                    "cpu.shares",
                    limits.cpu_weight.map(|it| it.shares().to_string()),
                ),
                one(
                    "cpu.cfs_quota_us",
                    limits.cpu_max.map(|it| it.quota().to_string()),
                ),
            ],
            (Self::Memory, CgroupVersion::V2) => [
                one("memory.max", limits.memory_max.map(|it| it.0.to_string())),
                None,
            ],
            (Self::Memory, CgroupVersion::V1) => [
                one(
                    "memory.limit_in_bytes",
                    limits.memory_max.map(|it| it.0.to_string()),
                ),
                None,
            ],
            (Self::Pids, _) => [
                one("pids.max", limits.pids_max.map(|it| it.to_string())),
                None,
            ],
            (Self::Io, CgroupVersion::V2) => [
                one(
                    "io.weight",
                    limits.io_weight.map(|it| format!("default {}", it.get())),
                ),
                None,
            ],
            (Self::Io, CgroupVersion::V1) => [
                one(
                    "blkio.weight",
                    limits.io_weight.map(|it| it.blkio().to_string()),
                ),
                None,
            ],
        };
        settings.into_iter().flatten().collect()
    }
}

/// Makes a VM's groups.
///
/// # Errors
/// [`Error::Spec`] if the host has not what a limit needs; [`Error::Io`] if a limit cannot be set.
pub(crate) fn make(id: &MachineId, limits: &Limits) -> Result<Groups, Error> {
    let host = Hierarchies::of_host()?;
    let mut places: Vec<PathBuf> = Vec::new();
    let mut groups = Groups::default();
    for controller in Controller::ALL {
        let Some(place) = place(&host, controller, id, limits)? else {
            continue;
        };
        if places.contains(&place) {
            continue;
        }
        match pass_on(&place, &host).and_then(|()| Group::make(&place)) {
            Ok(group) => {
                groups.0.push(group);
                places.push(place);
            }
            Err(_) if !is_needed(controller, limits) => {}
            Err(source) => return Err(failed(id, source)),
        }
    }
    apply(&host, id, limits)?;
    Ok(groups)
}

/// Sets limits of a VM that runs.
///
/// # Errors
/// Those of [`make`].
pub(crate) fn change(id: &MachineId, limits: &Limits) -> Result<(), Error> {
    apply(&Hierarchies::of_host()?, id, limits)
}

/// How often the kernel has killed something in a VM's group for want of memory, as far as that is known.
pub(crate) fn oom_kills(id: &MachineId) -> u64 {
    let found = Hierarchies::of_host().ok();
    let found = found.and_then(|host| hierarchy(&host, Controller::Memory));
    let Some((version, root)) = found else {
        return 0;
    };
    let file = match version {
        CgroupVersion::V1 => "memory.oom_control",
        CgroupVersion::V2 => "memory.events",
    };
    let text = fs_err::read_to_string(root.join(PARENT).join(id.as_str()).join(file));
    let text = text.unwrap_or_default();
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.parse().ok()).unwrap_or(0)
}

fn apply(host: &Hierarchies, id: &MachineId, limits: &Limits) -> Result<(), Error> {
    for controller in Controller::ALL {
        let Some((version, root)) = hierarchy(host, controller) else {
            continue;
        };
        let group = root.join(PARENT).join(id.as_str());
        for (file, value) in controller.settings(limits, version) {
            fs_err::write(group.join(file), value).map_err(|source| failed(id, source))?;
        }
    }
    Ok(())
}

/// Where a controller is on this host: in the hierarchy of version 2, if it is there.
fn hierarchy(host: &Hierarchies, controller: Controller) -> Option<(CgroupVersion, PathBuf)> {
    [CgroupVersion::V2, CgroupVersion::V1]
        .into_iter()
        .find_map(|version| Some((version, host.root_of(version, controller.name(version))?)))
}

fn is_needed(controller: Controller, limits: &Limits) -> bool {
    !controller.settings(limits, CgroupVersion::V2).is_empty()
}

/// A VM's group of a controller; none if the host has none, and none is needed.
fn place(
    host: &Hierarchies,
    controller: Controller,
    id: &MachineId,
    limits: &Limits,
) -> Result<Option<PathBuf>, Error> {
    match hierarchy(host, controller) {
        Some((_, root)) => Ok(Some(root.join(PARENT).join(id.as_str()))),
        None if is_needed(controller, limits) => Err(Error::Spec(format!(
            "this host's control groups have no controller `{}`, which a limit of VM `{id}` needs",
            controller.name(CgroupVersion::V2)
        ))),
        None => Ok(None),
    }
}

/// Makes the parents of a group, with what they have to pass on in version 2.
fn pass_on(group: &Path, host: &Hierarchies) -> io::Result<()> {
    let Some(parent) = group.parent() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    fs_err::create_dir_all(parent)?;
    if let Some(root) = parent.parent() {
        for controller in Controller::ALL {
            let name = controller.name(CgroupVersion::V2);
            if host.root_of(CgroupVersion::V2, name).as_deref() == Some(root) {
                for above in [root, parent] {
                    // What cannot be passed on is noticed when it is set.
                    let _ = fs_err::write(above.join("cgroup.subtree_control"), format!("+{name}"));
                }
            }
        }
    }
    Ok(())
}

fn failed(id: &MachineId, source: io::Error) -> Error {
    Error::io(format!("limit what VM `{id}` takes of the host"), source)
}

/// Kills what is left in a VM's groups, and removes them.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn remove(id: &MachineId) -> Result<(), Error> {
    let removed = Hierarchies::of_host()?.remove(PARENT, id);
    removed.map_err(|source| Error::io(format!("remove the control groups of VM `{id}`"), source))
}

/// Removes a VM's groups as far as there is nobody in them, nor about to enter. Returns whether one went.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn remove_if_empty(id: &MachineId) -> Result<bool, Error> {
    let mut is_gone = false;
    for root in Hierarchies::of_host()?.roots() {
        let removed = remove_abandoned(&root.join(PARENT).join(id.as_str()));
        is_gone |= removed.map_err(|source| {
            Error::io(format!("remove the control groups of VM `{id}`"), source)
        })?;
    }
    Ok(is_gone)
}

fn remove_abandoned(group: &Path) -> io::Result<bool> {
    let removed = || {
        let directory = fs_err::File::open(group)?;
        let operation = FlockOperation::NonBlockingLockExclusive;
        retry_on_intr(|| flock(&directory, operation))?;
        fs_err::remove_dir(group)
    };
    match removed() {
        Ok(()) => Ok(true),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::WouldBlock | io::ErrorKind::ResourceBusy => {
                Ok(false)
            }
            _ => Err(error),
        },
    }
}

/// The VMs of which there are groups, whatever their state root is.
pub(crate) fn known() -> Vec<MachineId> {
    let Ok(host) = Hierarchies::of_host() else {
        return Vec::new();
    };
    let mut known: Vec<MachineId> = Vec::new();
    for root in host.roots() {
        let entries = fs_err::read_dir(root.join(PARENT)).into_iter().flatten();
        let names = entries.flatten().map(|entry| entry.file_name());
        known.extend(names.filter_map(|name| name.to_str()?.parse().ok()));
    }
    known.sort();
    known.dedup();
    known
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::process::Command;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::limits::DiskRates;

    fn limits() -> Limits {
        Limits {
            cpu_weight: "50".parse().ok(),
            cpu_max: "1.5".parse().ok(),
            memory_max: Some(firebuild_core::ByteSize::mib(512)),
            io_weight: None,
            pids_max: Some(99),
            disks: DiskRates::default(),
            network: None,
        }
    }

    #[test]
    fn both_versions_get_what_they_know() {
        let all = |version| -> Vec<String> {
            Controller::ALL
                .iter()
                .flat_map(|controller| controller.settings(&limits(), version))
                .map(|(file, value)| format!("{file}={value}"))
                .collect()
        };
        let two = "cpu.weight=50 cpu.max=150000 100000 memory.max=536870912 pids.max=99";
        assert_eq!(all(CgroupVersion::V2).join(" "), two);
        let one =
            "cpu.shares=512 cpu.cfs_quota_us=150000 memory.limit_in_bytes=536870912 pids.max=99";
        assert_eq!(all(CgroupVersion::V1).join(" "), one);
        let weight = Limits {
            io_weight: "100".parse().ok(),
            ..Limits::default()
        };
        let io = |version| Controller::Io.settings(&weight, version);
        assert_eq!(
            io(CgroupVersion::V2),
            [("io.weight", "default 100".to_owned())]
        );
        assert_eq!(io(CgroupVersion::V1), [("blkio.weight", "500".to_owned())]);
    }

    #[test]
    fn a_process_is_in_its_groups_and_goes_with_them() {
        let id = MachineId::from_random(crate::random().unwrap());
        let groups = make(&id, &limits()).unwrap();
        assert!(!groups.0.is_empty());
        let mut command = Command::new("sleep");
        command.arg("1000");
        crate::sys::confine(&mut command, None, Vec::new(), groups);
        let mut child = command.spawn().unwrap();
        let inside = fs_err::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
        for part in ["cpu", "memory", "pids"] {
            let line = inside
                .lines()
                .find(|line| line.split(':').nth(1) == Some(part));
            let place = line.or_else(|| inside.lines().find(|line| line.starts_with("0::")));
            assert!(
                place.unwrap().ends_with(&format!("/{PARENT}/{id}")),
                "{part}: {inside}"
            );
        }
        assert!(known().contains(&id));
        for root in Hierarchies::of_host().unwrap().roots() {
            if let Ok(group) = fs_err::metadata(root.join(PARENT).join(id.as_str())) {
                assert_eq!(group.mode() & 0o7777, 0o700);
            }
        }
        let smaller = Limits {
            pids_max: Some(7),
            ..Limits::default()
        };
        change(&id, &smaller).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        remove(&id).unwrap();
        remove(&id).unwrap();
        assert!(!known().contains(&id));
    }

    #[test]
    fn a_directory_that_is_no_group_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let error = Group::make(&directory.path().join("vm")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("/vm`: No such file"), "{error}");
        assert!(Group::make(&directory.path().join("none/vm")).is_err());
    }

    #[test]
    fn groups_that_are_about_to_be_entered_are_not_abandoned() {
        let id = MachineId::from_random(crate::random().unwrap());
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let others = scope.spawn(|| {
                let mut removed = 0_u32;
                while !is_over.load(Ordering::Relaxed) {
                    removed += u32::from(remove_if_empty(&id).unwrap());
                }
                removed
            });
            let started: Result<Vec<_>, Error> = (0..100)
                .map(|_| {
                    let groups = make(&id, &limits())?;
                    let mut command = Command::new("true");
                    crate::sys::confine(&mut command, None, Vec::new(), groups);
                    Ok(command.status())
                })
                .collect();
            is_over.store(true, Ordering::Relaxed);
            for status in started.unwrap() {
                assert!(status.unwrap().success());
            }
            assert!(others.join().unwrap() > 0);
        });
        remove(&id).unwrap();
    }
}
