//! How much room there is for VMs: memory and processors that this process can have, of its host
//! and of the control groups that it is in.
//!
//! A container or a service of systemd's sees all of its host's memory in `/proc/meminfo`, and is
//! killed for using more than its groups may have. What is said in `Documentation/admin-guide` of
//! the kernel, `cgroup-v2.rst` and `cgroup-v1/memory.rst`, is read here. Quotas of processors are
//! looked after by the standard library.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// How many VMs a host runs at once without getting slower: each has its processors and memory.
pub(crate) fn default_jobs(cpus: u8, memory: u32) -> NonZeroUsize {
    // The processors that this process may run on, and no more than its groups' quotas of them.
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    fitting(cores, memory_below(Path::new("/")), cpus, memory)
}

fn fitting(cores: usize, available: Option<u64>, cpus: u8, memory: u32) -> NonZeroUsize {
    let by_cores = cores / usize::from(cpus.max(1));
    let by_memory = available.map_or(u64::MAX, |bytes| (bytes >> 20) / u64::from(memory.max(1)));
    let by_memory = usize::try_from(by_memory).unwrap_or(usize::MAX);
    NonZeroUsize::new(by_cores.min(by_memory)).unwrap_or(NonZeroUsize::MIN)
}

/// The memory that can be had without swapping, in bytes. `root` is where `/proc` and `/sys` are.
fn memory_below(root: &Path) -> Option<u64> {
    let read = |path: &str| fs_err::read_to_string(root.join(path)).unwrap_or_default();
    let host = of_host(&read("proc/meminfo"));
    let hierarchies = hierarchies(&read("proc/self/cgroup"), &read("proc/self/mountinfo"));
    let groups = hierarchies.iter().filter_map(|found| found.room(root));
    host.into_iter().chain(groups).min()
}

/// What is free on the host or would be on demand.
fn of_host(meminfo: &str) -> Option<u64> {
    let mut lines = meminfo.lines();
    let line = lines.find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The two forms of control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Version {
    /// The files with limits, and the one with what is used.
    fn files(self) -> (&'static [&'static str], &'static str) {
        match self {
            Self::One => (&["memory.limit_in_bytes"], "memory.usage_in_bytes"),
            // Above `high` processes are slowed down.
            Self::Two => (&["memory.max", "memory.high"], "memory.current"),
        }
    }

    /// What of the memory that is used is files that can be dropped, in `memory.stat`.
    fn droppable(self) -> [&'static str; 2] {
        match self {
            // With those of the groups below.
            Self::One => ["total_inactive_file", "total_active_file"],
            Self::Two => ["inactive_file", "active_file"],
        }
    }
}

/// The groups of this process in one hierarchy that limits memory.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    version: Version,
    /// Where it is mounted.
    mount: PathBuf,
    /// The process's group, relative to that.
    group: PathBuf,
}

impl Hierarchy {
    /// What the group and all those that it is in leave. None if no one has a limit.
    fn room(&self, root: &Path) -> Option<u64> {
        let mount = root.join(self.mount.strip_prefix("/").unwrap_or(&self.mount));
        let groups = self.group.ancestors().map(|group| mount.join(group));
        groups.filter_map(|group| self.room_of(&group)).min()
    }

    fn room_of(&self, group: &Path) -> Option<u64> {
        let read = |name: &str| fs_err::read_to_string(group.join(name)).ok();
        // No limit is no number, or one that is larger than any memory.
        let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
        let (limits, usage) = self.version.files();
        let limit = limits.iter().filter_map(|name| number(name)).min()?;
        let used = number(usage).unwrap_or(0);
        let stat = read("memory.stat").unwrap_or_default();
        let droppable = self.version.droppable();
        let kept = droppable.iter().fold(used, |used, name| {
            used.saturating_sub(field(&stat, name).unwrap_or(0))
        });
        Some(limit.saturating_sub(kept))
    }
}

/// A number of `memory.stat`.
fn field(stat: &str, name: &str) -> Option<u64> {
    let mut lines = stat.lines().map(|line| line.split_once(' '));
    let value = lines.find_map(|line| line.filter(|(found, _)| *found == name));
    value?.1.trim().parse().ok()
}

/// The hierarchies that may limit memory, by `/proc/self/cgroup` and `/proc/self/mountinfo`.
fn hierarchies(cgroup: &str, mountinfo: &str) -> Vec<Hierarchy> {
    let lines = cgroup.lines();
    let found = lines.filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let version = match controllers {
            "" => Version::Two,
            _ if controllers.split(',').any(|name| name == "memory") => Version::One,
            _ => return None,
        };
        let (mount, root) = mounted(mountinfo, version)?;
        // Of a container that does not see its own groups from above, the mount is the group.
        let group = Path::new(path).strip_prefix(&root).unwrap_or(Path::new(""));
        let outside = group.starts_with("..");
        Some(Hierarchy {
            version,
            mount,
            group: if outside { "".into() } else { group.into() },
        })
    });
    found.collect()
}

/// Where a hierarchy is mounted, and what of it.
fn mounted(mountinfo: &str, version: Version) -> Option<(PathBuf, PathBuf)> {
    mountinfo.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, at) = (mount.next()?, mount.next()?);
        let mut file_system = file_system.split(' ');
        let (kind, options) = (file_system.next()?, file_system.nth(1)?);
        let right = match version {
            Version::One => kind == "cgroup" && options.split(',').any(|name| name == "memory"),
            Version::Two => kind == "cgroup2",
        };
        right.then(|| (at.into(), root.into()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_vms_as_there_is_room_for() {
        for ((cores, mib, cpus, memory), expected) in [
            ((8, Some(64_000), 1, 1024), 8),
            ((8, Some(64_000), 2, 1024), 4),
            ((8, Some(64_000), 3, 1024), 2),
            ((8, Some(3000), 1, 1024), 2),
            ((1, Some(100), 4, 1024), 1),
            ((2, None, 1, 1024), 2),
        ] {
            let available = mib.map(|mib: u64| mib << 20);
            assert_eq!(fitting(cores, available, cpus, memory).get(), expected);
        }
    }

    #[test]
    fn what_the_host_has() {
        let text = "MemTotal:       24683520 kB\nMemFree:  1 kB\nMemAvailable:   23196000 kB\n";
        assert_eq!(of_host(text), Some(23_196_000 * 1024));
        assert_eq!(of_host("MemAvailable: many\n"), None);
        assert!(memory_below(Path::new("/")).is_some());
    }

    /// A line of `/proc/self/mountinfo`.
    fn mount(root: &str, at: &str, kind: &str, options: &str) -> String {
        format!("31 23 0:28 {root} {at} rw,relatime shared:9 - {kind} {kind} {options}\n")
    }

    #[test]
    fn where_the_groups_are() {
        let two = mount("/", "/sys/fs/cgroup", "cgroup2", "rw,nsdelegate");
        let one = mount("/", "/sys/fs/cgroup/memory", "cgroup", "rw,memory");
        let cpu = mount("/", "/sys/fs/cgroup/cpu", "cgroup", "rw,cpu,cpuacct");
        let of_docker = mount("/docker/1", "/sys/fs/cgroup/memory", "cgroup", "rw,memory");
        let both = format!("{cpu}{one}{}", mount("/", "/unified", "cgroup2", "rw"));
        type Found<'a> = (Version, &'a str, &'a str);
        let cases: [(&str, &str, &[Found<'_>]); 8] = [
            ("", &two, &[]),
            ("0::/a/b\n", "", &[]),
            ("0::/\n", &two, &[(Version::Two, "/sys/fs/cgroup", "")]),
            (
                "0::/a/b\n",
                &two,
                &[(Version::Two, "/sys/fs/cgroup", "a/b")],
            ),
            (
                "0::/../../c\n",
                &two,
                &[(Version::Two, "/sys/fs/cgroup", "")],
            ),
            (
                "4:memory:/docker/1/x\n",
                &of_docker,
                &[(Version::One, "/sys/fs/cgroup/memory", "x")],
            ),
            (
                "4:memory:/elsewhere\n",
                &of_docker,
                &[(Version::One, "/sys/fs/cgroup/memory", "")],
            ),
            (
                "5:cpu,cpuacct:/c\n4:hugetlb,memory:/m\n1:name=systemd:/s\n0::/u\n",
                &both,
                &[
                    (Version::One, "/sys/fs/cgroup/memory", "m"),
                    (Version::Two, "/unified", "u"),
                ],
            ),
        ];
        for (cgroup, mountinfo, expected) in cases {
            let found = hierarchies(cgroup, mountinfo);
            let found: Vec<Found<'_>> = found
                .iter()
                .map(|found| {
                    let (mount, group) = (found.mount.to_str(), found.group.to_str());
                    (found.version, mount.unwrap(), group.unwrap())
                })
                .collect();
            assert_eq!(found, expected, "{cgroup}");
        }
    }

    #[test]
    fn the_narrowest_group_counts_without_what_can_be_dropped() {
        let free = "MemAvailable: 8192 kB\n";
        let two = mount("/", "/sys/fs/cgroup", "cgroup2", "rw");
        let one = mount("/", "/sys/fs/cgroup/memory", "cgroup", "rw,memory");
        type Files<'a> = &'a [(&'a str, &'a str)];
        let cases: [(&str, &str, Files<'_>, Option<u64>); 8] = [
            ("", "", &[], Some(8 << 20)),
            ("0::/a\n", &two, &[], Some(8 << 20)),
            (
                "0::/a\n",
                &two,
                &[("a/memory.max", "max\n"), ("a/memory.current", "7\n")],
                Some(8 << 20),
            ),
            (
                "0::/a\n",
                &two,
                &[("a/memory.max", "1000\n"), ("a/memory.current", "700\n")],
                Some(300),
            ),
            (
                "0::/a\n",
                &two,
                &[
                    ("a/memory.max", "1000\n"),
                    ("a/memory.high", "900\n"),
                    ("a/memory.current", "700\n"),
                    (
                        "a/memory.stat",
                        "anon 500\nactive_file 100\ninactive_file 50\n",
                    ),
                ],
                Some(350),
            ),
            (
                "0::/a/b\n",
                &two,
                &[
                    ("a/memory.max", "100\n"),
                    ("a/memory.current", "200\n"),
                    ("a/b/memory.max", "1000\n"),
                ],
                Some(0),
            ),
            (
                "4:memory:/a\n",
                &one,
                &[
                    ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
                    ("memory/a/memory.limit_in_bytes", "5000\n"),
                    ("memory/a/memory.usage_in_bytes", "4000\n"),
                    (
                        "memory/a/memory.stat",
                        "inactive_file 1\ntotal_inactive_file 500\n",
                    ),
                ],
                Some(1500),
            ),
            (
                "4:memory:/a\n",
                &one,
                &[("memory/a/memory.limit_in_bytes", "9223372036854771712\n")],
                Some(8 << 20),
            ),
        ];
        for (cgroup, mountinfo, files, expected) in cases {
            let root = tempfile::tempdir().unwrap();
            let write = |path: PathBuf, text: &str| {
                fs_err::create_dir_all(path.parent().unwrap()).unwrap();
                fs_err::write(path, text).unwrap();
            };
            write(root.path().join("proc/meminfo"), free);
            write(root.path().join("proc/self/cgroup"), cgroup);
            write(root.path().join("proc/self/mountinfo"), mountinfo);
            for (path, text) in files {
                write(root.path().join("sys/fs/cgroup").join(path), text);
            }
            assert_eq!(memory_below(root.path()), expected, "{cgroup} {files:?}");
        }
    }
}
