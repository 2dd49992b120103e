//! What a Linux process expects below `/proc`, `/sys` and `/dev`.

use std::ffi::{CStr, CString};

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat, symlink};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_bind, mount_remount};

use super::Isolation;
use crate::error::{Doing as _, Result};

const NODES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

/// What the kernel lets root change, whatever its capabilities.
const SETTINGS: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// For what holds no programs and no devices.
const HARMLESS: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC);

/// Mounts them all into the root, which has the directories. A `confined` process cannot change the
/// kernel's settings.
pub(super) fn populate(
    isolation: Isolation,
    confined: bool,
    shared_memory: Option<u64>,
) -> Result<()> {
    show_processes(confined)?;
    let system = if confined {
        HARMLESS | MountFlags::RDONLY
    } else {
        HARMLESS
    };
    mounted("sysfs", "/sys", system, c"")?;
    // A kernel without control groups can still run most things.
    let _ = mounted("cgroup2", "/sys/fs/cgroup", system, c"nsdelegate");
    match isolation {
        Isolation::Step => own_devices()?,
        Isolation::Workload | Isolation::Init => {
            mounted("devtmpfs", "/dev", MountFlags::NOSUID, c"mode=0755")?;
        }
    }
    for (target, link) in LINKS {
        present(symlink(target, link)).doing(|| format!("make `{link}`"))?;
    }
    for directory in ["/dev/pts", "/dev/shm", "/dev/mqueue"] {
        present(rustix::fs::mkdir(directory, Mode::from_raw_mode(0o755)))
            .doing(|| format!("make `{directory}`"))?;
    }
    let size = shared_memory.map(|size| format!(",size={size}"));
    let options = format!("mode=1777{}", size.unwrap_or_default());
    let quiet = MountFlags::NOSUID | MountFlags::NOEXEC;
    mounted(
        "devpts",
        "/dev/pts",
        quiet,
        c"newinstance,ptmxmode=0666,mode=0620,gid=5",
    )?;
    mounted(
        "tmpfs",
        "/dev/shm",
        MountFlags::NOSUID | MountFlags::NODEV,
        &CString::new(options).doing(|| "mount `/dev/shm`".to_owned())?,
    )?;
    // Message queues are optional in the kernel, too.
    let _ = mounted("mqueue", "/dev/mqueue", HARMLESS, c"");
    Ok(())
}

/// Mounts `/proc`, which shows the processes that the calling one can see.
pub(super) fn show_processes(confined: bool) -> Result<()> {
    mounted("proc", "/proc", HARMLESS, c"")?;
    if confined { protect_settings() } else { Ok(()) }
}

fn protect_settings() -> Result<()> {
    for path in SETTINGS {
        let protect = || {
            mount_bind(path, path)?;
            mount_remount(path, HARMLESS | MountFlags::BIND | MountFlags::RDONLY, c"")
        };
        match protect() {
            // Not every kernel has all of them.
            Err(Errno::NOENT) => {}
            other => other.doing(|| format!("make `{path}` read-only"))?,
        }
    }
    Ok(())
}

/// The devices of every container: nothing that leads to the VM's drives.
fn own_devices() -> Result<()> {
    mounted("tmpfs", "/dev", MountFlags::NOSUID, c"mode=0755,size=64k")?;
    for (path, major, minor) in NODES {
        let device = makedev(major, minor);
        mknodat(
            CWD,
            path,
            FileType::CharacterDevice,
            Mode::from_raw_mode(0o666),
            device,
        )
        .doing(|| format!("make `{path}`"))?;
    }
    symlink("pts/ptmx", "/dev/ptmx").doing(|| "make `/dev/ptmx`".to_owned())?;
    // A step has no console; what it writes there is its output.
    symlink("/proc/self/fd/1", "/dev/console").doing(|| "make `/dev/console`".to_owned())
}

fn mounted(kind: &str, target: &str, flags: MountFlags, options: &CStr) -> Result<()> {
    mount(kind, target, kind, flags, options).doing(|| format!("mount {kind} on `{target}`"))
}

fn present(result: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match result {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}
