//! Where a world is: namespaces, mounts and control groups of its own, so that whatever others do on
//! this host meanwhile is neither seen nor blamed.
//!
//! Mounts, network and processes are namespaces. Control groups are not: a namespace of those hides names, but
//! whoever mounts a hierarchy sees all of it. So each world has a group of its own in every hierarchy,
//! which it sees in the place of the hierarchy.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::shell;

/// Where a world finds programs and stores, wherever they are on the host.
pub(super) const BASE: &str = "/mnt";

/// What the groups of worlds are called: this, the process that made it, and a number.
const PREFIX: &str = "faults-world-";

/// Directories of the host's that a world has of its own, empty.
pub(super) const OWN: [&str; 4] = ["/run", "/tmp", "/srv", "/var/lib"];

/// Where in a world's directory that is which is there again after a reboot.
fn kept(directory: &str) -> Option<&'static str> {
    match directory {
        "/srv" => Some("srv"),
        "/var/lib" => Some("var"),
        _ => None,
    }
}

/// How long the kernel may take to take the last process out of a group.
const EMPTYING: Duration = Duration::from_secs(10);

/// The control groups of one world, as its maker has them. They go with this.
#[derive(Debug)]
pub(super) struct Groups {
    /// What they are called.
    pub(super) name: String,
}

impl Groups {
    /// Makes them, wherever that is possible: where it is not, firebuild makes none either.
    pub(super) fn make(number: usize) -> anyhow::Result<Self> {
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        for hierarchy in hierarchies()? {
            let _ = fs_err::create_dir(hierarchy.join(&name));
            for controller in ["cpu", "memory", "pids", "io"] {
                // Only version 2 has to be told what groups below may limit.
                let file = hierarchy.join("cgroup.subtree_control");
                let _ = file
                    .exists()
                    .then(|| fs_err::write(file, format!("+{controller}")));
            }
        }
        Ok(Self { name })
    }

    /// Removes those of makers that are no more.
    pub(super) fn remove_orphans() -> anyhow::Result<()> {
        for hierarchy in hierarchies()? {
            for entry in fs_err::read_dir(hierarchy)?.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let rest = name.strip_prefix(PREFIX);
                let maker = rest.and_then(|rest| rest.split('-').next());
                if maker.is_some_and(|maker| !Path::new("/proc").join(maker).exists()) {
                    remove(&entry.path())?;
                }
            }
        }
        Ok(())
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for hierarchy in hierarchies().into_iter().flatten() {
            // The next one to come removes what cannot be removed now.
            let _ = remove(&hierarchy.join(&self.name));
        }
    }
}

/// Removes a group and those in it, of which nobody is left.
fn remove(group: &Path) -> anyhow::Result<()> {
    if !group.exists() {
        return Ok(());
    }
    for entry in fs_err::read_dir(group)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path())?;
        }
    }
    let begin = Instant::now();
    while let Err(error) = fs_err::remove_dir(group) {
        ensure!(begin.elapsed() < EMPTYING, error);
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Where the hierarchies of this host begin.
pub(super) fn hierarchies() -> anyhow::Result<Vec<PathBuf>> {
    let mounts = fs_err::read_to_string("/proc/self/mounts")?;
    let mut found: Vec<PathBuf> = Vec::new();
    for line in mounts.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        if let [_, place, "cgroup" | "cgroup2", ..] = words[..]
            && !found.iter().any(|it| it == Path::new(place))
        {
            found.push(place.into());
        }
    }
    Ok(found)
}

/// What others had mounted, when this namespace was made, where a world has something of its own. It would be
/// seen among the mounts below that, and go when those others take theirs away.
fn hidden() -> anyhow::Result<Vec<String>> {
    let mounts = fs_err::read_to_string("/proc/self/mountinfo")?;
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let mut hidden: Vec<String> = places
        .filter(|place| is_own(place))
        .map(str::to_owned)
        .collect();
    // What was mounted last is uppermost.
    hidden.reverse();
    Ok(hidden)
}

/// Whether a path is where a world has something of its own.
pub(super) fn is_own(path: &str) -> bool {
    OWN.iter().any(|own| Path::new(path).starts_with(own))
}

/// Makes this process's namespaces a host: `base` is at [`BASE`], the groups called `groups` are all that
/// there are, the network leads nowhere, and what outlives a reboot is in the directory `name` of `base`.
pub(super) fn settle(base: &Path, name: &str, groups: &str) -> anyhow::Result<()> {
    ensure!(
        std::process::id() == 1,
        "this has to be the first process of its namespace"
    );
    let run = |words: &[&str]| shell::quiet(Command::new(words[0]).args(&words[1..]));
    run(&["mount", "--bind", &base.to_string_lossy(), BASE])?;
    for hidden in hidden()? {
        // Whoever mounted it may have taken it away by now.
        let _ = run(&["umount", "--lazy", &hidden]);
    }
    for directory in OWN {
        match kept(directory) {
            None => run(&["mount", "-t", "tmpfs", "tmpfs", directory])?,
            Some(kept) => {
                let kept = Path::new(BASE).join(name).join(kept);
                fs_err::create_dir_all(&kept)?;
                run(&["mount", "--bind", &kept.to_string_lossy(), directory])?
            }
        };
    }
    for hierarchy in hierarchies()? {
        let own = hierarchy.join(groups);
        if own.is_dir() {
            let [own, hierarchy] = [own, hierarchy].map(|it| it.display().to_string());
            run(&["mount", "--bind", &own, &hierarchy])?;
        }
    }
    for words in [
        &["ip", "link", "set", "lo", "up"][..],
        // A way out, that leads nowhere.
        &[
            "ip",
            "link",
            "add",
            "uplink",
            "address",
            "02:00:00:00:00:99",
            "type",
            "bridge",
        ],
        &["ip", "address", "add", "192.0.2.2/24", "dev", "uplink"],
        &["ip", "link", "set", "uplink", "up"],
        &["ip", "route", "add", "default", "via", "192.0.2.1"],
    ] {
        run(words)?;
    }
    Ok(())
}

/// Makes the processor say that it can run VMs, for VMMs of which nothing else is asked here. The file is
/// in `directory`.
pub(super) fn pretend_kvm(directory: &Path) -> anyhow::Result<()> {
    const REAL: &str = "/proc/cpuinfo";
    let said = fs_err::read_to_string(REAL)?.replace("\nflags\t\t:", "\nflags\t\t: vmx");
    let pretended = directory.join("cpuinfo");
    fs_err::write(&pretended, said)?;
    let mut mount = Command::new("mount");
    shell::quiet(mount.arg("--bind").arg(pretended).arg(REAL))?;
    Ok(())
}
