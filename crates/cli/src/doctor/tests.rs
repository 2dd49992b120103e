use std::collections::BTreeMap;
use std::path::PathBuf;

use firebuild_machine::vmm::detect::Kvm;

use super::host::{Content, Store, Volume};
use super::*;

/// A host made of text.
struct Made {
    files: BTreeMap<String, String>,
    programs: BTreeMap<String, Result<String, String>>,
    kvm: Kvm,
    root: bool,
    now: u64,
    store: Store,
}

/// A host on which nothing could be better.
fn perfect() -> Made {
    let mut files = BTreeMap::new();
    let mut file = |path: &str, text: &str| files.insert(path.to_owned(), text.to_owned());
    for namespace in ["net", "mnt", "pid", "user", "ipc", "uts"] {
        file(&format!("/proc/self/ns/{namespace}"), "");
    }
    file(
        "/sys/fs/cgroup/cgroup.controllers",
        "cpuset cpu io memory pids\n",
    );
    file("/proc/self/status", "Name:\tx\nSeccomp:\t0\n");
    file(
        "/proc/self/limits",
        "Limit  Soft Hard\nMax open files            20000   20000  files\n",
    );
    file("/proc/sys/fs/inotify/max_user_instances", "128\n");
    file(
        "/sys/devices/system/clocksource/clocksource0/current_clocksource",
        "tsc\n",
    );
    file("/dev/net/tun", "");
    file("/proc/sys/net/ipv4/ip_forward", "1\n");
    file("/sys/devices/system/cpu/smt/active", "0\n");
    file("/proc/swaps", "Filename Type Size Used Priority\n");
    file("/sys/kernel/mm/ksm/run", "0\n");
    file(
        "/sys/devices/system/cpu/vulnerabilities/l1tf",
        "Mitigation: PTE\n",
    );
    file("/proc/sys/kernel/osrelease", "6.1.0-20-amd64\n");
    file("/sys/module/kvm/parameters/nx_huge_pages", "N\n");
    file(
        "/proc/self/mountinfo",
        "31 24 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,favordynmods\n",
    );
    file("/proc/sys/kernel/printk", "1\t4\t1\t7\n");
    file("/usr/libexec/virtiofsd", "");
    let mut programs = BTreeMap::new();
    let mut program =
        |line: &str, says: &str| programs.insert(line.to_owned(), Ok(says.to_owned()));
    program("/bin/firecracker --version", "Firecracker v1.13.1\n\nexit");
    program("/bin/jailer --version", "jailer v1.13.1");
    program(
        "/bin/qemu-system-x86_64 --version",
        "QEMU emulator version 7.2.9 (Debian)",
    );
    program("nft -c -f -", "");
    program("nft -j list chains", r#"{"nftables": [{"metainfo": {}}]}"#);
    program("mmdebstrap", "");
    program("git", "");
    Made {
        files,
        programs,
        kvm: Kvm::Usable,
        root: true,
        now: 1_800_000_000,
        store: Store {
            root: PathBuf::from("/var/lib/firebuild"),
            volume: Ok(Volume {
                free: 100 << 30,
                reflink: true,
            }),
            content: Ok(Some(Content {
                kernels: 1,
                images: 3,
                unreadable: 0,
            })),
        },
    }
}

impl Host for Made {
    fn read(&self, path: &str) -> Option<String> {
        self.files.get(path).cloned()
    }

    fn list(&self, path: &str) -> Vec<String> {
        let inside = |file: &String| {
            let name = file.strip_prefix(path)?.strip_prefix('/')?;
            Some(name.split('/').next()?.to_owned())
        };
        let mut names: Vec<String> = self.files.keys().filter_map(inside).collect();
        names.dedup();
        names
    }

    fn exists(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    fn program(&self, name: &str) -> Option<PathBuf> {
        let is = |line: &&String| {
            let first = line.split(' ').next().unwrap();
            first.rsplit('/').next() == Some(name)
        };
        self.programs.keys().find(is)?;
        Some(format!("/bin/{name}").into())
    }

    fn output(&self, program: &str, arguments: &[&str], _: &str) -> Result<String, String> {
        let line = format!("{program} {}", arguments.join(" "));
        let said = self.programs.get(&line).cloned();
        said.unwrap_or_else(|| Err("no such program".to_owned()))
    }

    fn kvm(&self) -> Kvm {
        self.kvm.clone()
    }

    fn is_root(&self) -> bool {
        self.root
    }

    fn now(&self) -> u64 {
        self.now
    }

    fn store(&self) -> Store {
        self.store.clone()
    }
}

#[test]
fn a_host_that_has_everything_is_good() {
    let checks = examine(&perfect());
    let others: Vec<&Check> = checks
        .iter()
        .filter(|check| check.status != Status::Good)
        .collect();
    assert!(others.is_empty(), "{others:?}");
    assert_eq!(overall(&checks), Status::Good);
    assert!(checks.len() > 20);
}

/// What is changed of the perfect host, the check that is to see it, how, and a part of what it says.
type Case = (fn(&mut Made), &'static str, Status, &'static str);

fn without(made: &mut Made, program: &str) {
    made.programs.retain(|line, _| !line.contains(program));
}

fn file(made: &mut Made, path: &str, text: &str) {
    made.files.insert(path.to_owned(), text.to_owned());
}

fn says(made: &mut Made, line: &str, said: Result<&str, &str>) {
    let said = said.map(str::to_owned).map_err(str::to_owned);
    made.programs.insert(line.to_owned(), said);
}

const CASES: &[Case] = &[
    (
        |host| host.kvm = Kvm::Missing,
        "KVM",
        Status::Advice,
        "there is no `/dev/kvm`",
    ),
    (
        |host| host.kvm = Kvm::Denied,
        "KVM",
        Status::Advice,
        "may not open",
    ),
    (
        |host| host.kvm = Kvm::NoFlag,
        "KVM",
        Status::Advice,
        "neither `vmx` nor `svm`",
    ),
    (
        |host| without(host, "firecracker"),
        "firecracker",
        Status::Advice,
        "not installed",
    ),
    (
        |host| without(host, "jailer"),
        "jailer",
        Status::Advice,
        "not installed",
    ),
    (
        |host| says(host, "/bin/firecracker --version", Ok("Firecracker v1.9.0")),
        "firecracker",
        Status::Advice,
        "version 1.9",
    ),
    (
        |host| says(host, "/bin/jailer --version", Ok("jailer v1.14.0")),
        "jailer",
        Status::Advice,
        "another version",
    ),
    (
        |host| says(host, "/bin/jailer --version", Err("no")),
        "jailer",
        Status::Advice,
        "does not tell its version",
    ),
    (
        |host| {
            without(host, "qemu");
            without(host, "jailer");
        },
        "QEMU",
        Status::Missing,
        "there is no `qemu-system",
    ),
    (
        |host| says(host, "/bin/qemu-system-x86_64 --version", Err("broken")),
        "QEMU",
        Status::Missing,
        "does not work: broken",
    ),
    (
        |host| {
            host.files.remove("/usr/libexec/virtiofsd");
        },
        "virtiofsd",
        Status::Advice,
        "cannot be shared",
    ),
    (
        |host| host.root = false,
        "rights",
        Status::Missing,
        "need root",
    ),
    (
        |host| {
            host.files.remove("/proc/self/ns/net");
        },
        "namespaces",
        Status::Missing,
        "none for net",
    ),
    (
        |host| {
            host.files.remove("/sys/fs/cgroup/cgroup.controllers");
        },
        "cgroups",
        Status::Advice,
        "cannot be limited",
    ),
    (
        |host| file(host, "/sys/fs/cgroup/cgroup.controllers", "cpu pids"),
        "cgroups",
        Status::Advice,
        "without memory, io",
    ),
    (
        |host| file(host, "/proc/self/status", "Name: x"),
        "seccomp",
        Status::Missing,
        "cannot filter",
    ),
    (
        |host| without(host, "mmdebstrap"),
        "mmdebstrap",
        Status::Advice,
        "`kernel pull`",
    ),
    (
        |host| file(host, "/proc/self/limits", "Max open files 256 256 files"),
        "open files",
        Status::Advice,
        "256 at once",
    ),
    (
        |host| file(host, "/proc/sys/fs/inotify/max_user_instances", "8"),
        "inotify",
        Status::Advice,
        "8 instances",
    ),
    (
        |host| {
            host.files.remove("/proc/sys/fs/inotify/max_user_instances");
        },
        "inotify",
        Status::Advice,
        "has none",
    ),
    (|host| host.now = 0, "clock", Status::Missing, "in the past"),
    (
        |host| {
            file(
                host,
                "/sys/devices/system/clocksource/clocksource0/current_clocksource",
                "hpet",
            )
        },
        "clock",
        Status::Advice,
        "`hpet`",
    ),
    (
        |host| {
            host.files.remove("/dev/net/tun");
        },
        "tap devices",
        Status::Missing,
        "/dev/net/tun",
    ),
    (
        |host| without(host, "nft"),
        "nftables",
        Status::Missing,
        "there is no `nft`",
    ),
    (
        |host| says(host, "nft -c -f -", Err("Error: Could not process rule\nx")),
        "nftables",
        Status::Missing,
        "made: Error: Could not process rule",
    ),
    (
        |host| says(host, "nft -j list chains", Ok(DOCKER)),
        "FORWARD",
        Status::Advice,
        "`ip filter FORWARD` drops",
    ),
    (
        |host| file(host, "/proc/sys/net/ipv4/ip_forward", "x"),
        "forwarding",
        Status::Missing,
        "does not tell",
    ),
    (
        |host| host.store.volume = Err("gone".to_owned()),
        "space",
        Status::Missing,
        "gone",
    ),
    (
        |host| {
            host.store.volume = Ok(Volume {
                free: 1 << 20,
                reflink: true,
            })
        },
        "space",
        Status::Missing,
        "1.0 MiB",
    ),
    (
        |host| {
            host.store.volume = Ok(Volume {
                free: 3 << 30,
                reflink: true,
            })
        },
        "space",
        Status::Advice,
        "3.0 GiB",
    ),
    (
        |host| {
            host.store.volume = Ok(Volume {
                free: 30 << 30,
                reflink: false,
            })
        },
        "reflinks",
        Status::Advice,
        "cannot share",
    ),
    (
        |host| host.store.content = Err("a newer format".to_owned()),
        "store",
        Status::Missing,
        "a newer format",
    ),
    (
        |host| {
            host.store.content = Ok(Some(Content {
                kernels: 0,
                images: 0,
                unreadable: 0,
            }))
        },
        "kernels",
        Status::Advice,
        "none",
    ),
    (
        |host| {
            host.store.content = Ok(Some(Content {
                kernels: 1,
                images: 0,
                unreadable: 2,
            }))
        },
        "store",
        Status::Advice,
        "2 of its files",
    ),
    (
        |host| file(host, "/sys/devices/system/cpu/smt/active", "1"),
        "SMT",
        Status::Advice,
        "share a core",
    ),
    (
        |host| file(host, "/proc/swaps", "Filename\n/swap file 1 0 -2\n"),
        "swap",
        Status::Advice,
        "1 areas",
    ),
    (
        |host| file(host, "/sys/kernel/mm/ksm/run", "1"),
        "KSM",
        Status::Advice,
        "equal pages",
    ),
    (
        |host| {
            file(
                host,
                "/sys/devices/system/cpu/vulnerabilities/mds",
                "Vulnerable: no microcode",
            )
        },
        "processor",
        Status::Advice,
        "open to mds",
    ),
    (
        |host| file(host, "/proc/sys/kernel/printk", "7 4 1 7"),
        "console",
        Status::Advice,
        "console",
    ),
    (
        |host| file(host, "/proc/self/mountinfo", "x - cgroup2 cgroup2 rw"),
        "VM start",
        Status::Advice,
        "favordynmods",
    ),
];

/// As Docker leaves it, and with a chain of firebuild's own, which is not meant.
const DOCKER: &str = r#"{"nftables": [{"metainfo": {}},
    {"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "drop"}},
    {"chain": {"family": "ip", "table": "firebuild", "name": "f", "hook": "forward", "policy": "drop"}},
    {"chain": {"family": "ip", "table": "filter", "name": "INPUT", "hook": "input", "policy": "drop"}}]}"#;

#[test]
fn each_lack_is_seen_by_its_check_alone_and_can_be_mended() {
    for (number, (change, name, status, part)) in CASES.iter().enumerate() {
        let mut host = perfect();
        change(&mut host);
        let checks = examine(&host);
        let seen = checks
            .iter()
            .find(|check| check.name == *name && check.status == *status);
        let seen = seen.unwrap_or_else(|| panic!("case {number}: {name}: {checks:#?}"));
        let mend = seen.mend.as_deref().unwrap_or_default();
        let said = format!("{} {mend}", seen.found);
        assert!(said.contains(part), "case {number}: {said}");
        assert!(!mend.is_empty(), "case {number}");
        assert!(overall(&checks) >= *status, "case {number}");
        let others = checks
            .iter()
            .filter(|check| check.name != *name && check.status == Status::Missing);
        assert_eq!(others.count(), 0, "case {number}: {checks:#?}");
    }
}

#[test]
fn what_is_not_needed_is_not_missed() {
    let mut host = perfect();
    without(&mut host, "qemu");
    assert_eq!(overall(&examine(&host)), Status::Good);
    let mut host = perfect();
    host.kvm = Kvm::NoFlag;
    without(&mut host, "firecracker");
    without(&mut host, "jailer");
    assert_eq!(overall(&examine(&host)), Status::Advice);
    let version_1 = ["cpu", "memory", "blkio", "pids"];
    let mut host = perfect();
    host.files.remove("/sys/fs/cgroup/cgroup.controllers");
    for name in version_1 {
        file(&mut host, &format!("/sys/fs/cgroup/{name}/tasks"), "");
    }
    assert_eq!(overall(&examine(&host)), Status::Good);
}

#[test]
fn plugins_and_lists_of_cni_are_counted() {
    let mut host = perfect();
    for path in [
        "/usr/lib/cni/bridge",
        "/usr/lib/cni/portmap",
        "/etc/cni/net.d/1.conflist",
        "/etc/cni/conf.d/x.conf",
        "/etc/cni/net.d/readme",
    ] {
        file(&mut host, path, "");
    }
    let checks = examine(&host);
    let cni = checks.iter().find(|check| check.name == "CNI").unwrap();
    assert_eq!(cni.found, "2 plugins in `/usr/lib/cni`, 2 networks");
}

/// On a host with nothing at all, nothing panics and the needed things are told.
#[test]
fn an_empty_host_lacks_what_is_needed() {
    let host = Made {
        files: BTreeMap::new(),
        programs: BTreeMap::new(),
        kvm: Kvm::Missing,
        root: false,
        ..perfect()
    };
    let checks = examine(&host);
    let missing: Vec<&str> = (checks.iter())
        .filter(|check| check.status == Status::Missing)
        .map(|check| check.name)
        .collect();
    let expected = [
        "QEMU",
        "rights",
        "namespaces",
        "seccomp",
        "tap devices",
        "nftables",
        "forwarding",
    ];
    assert_eq!(missing, expected);
}
