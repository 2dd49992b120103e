//! The kernel's features, tools beside it, limits and the clock.

use super::{Group, Host};

/// The programs that parts of firebuild start.
const TOOLS: [(&str, &str); 2] = [
    ("mmdebstrap", "`baseos --bootstrap` and `kernel pull`"),
    ("git", "contexts and ADD from repositories"),
];

/// Open files: a build's server, many layers and VMs' disks.
const OPEN_FILES: u64 = 1024;

/// Instances of inotify: one for each `events`, `logs --follow`, and what others use.
const INOTIFY: u64 = 128;

/// When this was written: a clock before it is wrong.
const YESTERDAY: u64 = 1_795_000_000;

pub(super) fn examine(host: &impl Host, group: &mut Group<'_>) {
    match host.is_root() {
        true => group.good("rights", "root"),
        false => group.missing(
            "rights",
            "networks, namespaces and VMs' users need root",
            "run firebuild with `sudo`",
        ),
    }
    namespaces(host, group);
    cgroups(host, group);
    seccomp(host, group);
    for (name, purpose) in TOOLS {
        match host.program(name) {
            Some(path) => group.good(name, format!("`{}`", path.display())),
            None => group.advice(
                name,
                format!("not installed: needed for {purpose}"),
                format!("`apt-get install {name}`"),
            ),
        }
    }
    limits(host, group);
    clock(host, group);
}

fn namespaces(host: &impl Host, group: &mut Group<'_>) {
    let absent: Vec<&str> = ["net", "mnt", "pid", "user", "ipc", "uts"]
        .into_iter()
        .filter(|name| !host.exists(&format!("/proc/self/ns/{name}")))
        .collect();
    match absent[..] {
        [] => group.good("namespaces", "net, mnt, pid, user, ipc, uts"),
        _ => group.missing(
            "namespaces",
            format!("this kernel has none for {}", absent.join(", ")),
            "boot a kernel with CONFIG_NAMESPACES and CONFIG_NET_NS",
        ),
    }
}

fn cgroups(host: &impl Host, group: &mut Group<'_>) {
    let controllers = host.read("/sys/fs/cgroup/cgroup.controllers");
    if let Some(controllers) = controllers {
        let absent: Vec<&str> = ["cpu", "memory", "io", "pids"]
            .into_iter()
            .filter(|name| !controllers.split_whitespace().any(|word| word == *name))
            .collect();
        return match absent[..] {
            [] => group.good("cgroups", "version 2"),
            _ => group.advice(
                "cgroups",
                format!(
                    "version 2 without {}: limits on them have no effect",
                    absent.join(", ")
                ),
                "boot without `cgroup_disable=`, and let the parent group hand them down",
            ),
        };
    }
    let first: Vec<String> = (host.list("/sys/fs/cgroup").into_iter())
        .filter(|name| ["cpu", "memory", "blkio", "pids"].contains(&name.as_str()))
        .collect();
    match first[..] {
        [] => group.advice(
            "cgroups",
            "none: VMs cannot be limited beyond their own size",
            "`mount -t cgroup2 cgroup2 /sys/fs/cgroup`",
        ),
        _ => group.good("cgroups", format!("version 1: {}", first.join(", "))),
    }
}

fn seccomp(host: &impl Host, group: &mut Group<'_>) {
    let status = host.read("/proc/self/status").unwrap_or_default();
    match status.lines().any(|line| line.starts_with("Seccomp:")) {
        true => group.good("seccomp", "system calls of VMMs are filtered"),
        false => group.missing(
            "seccomp",
            "this kernel cannot filter system calls, and VMMs do not start without",
            "boot a kernel with CONFIG_SECCOMP_FILTER",
        ),
    }
}

fn limits(host: &impl Host, group: &mut Group<'_>) {
    let limits = host.read("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let soft = line
        .and_then(|line| line.split_whitespace().nth(3))
        .unwrap_or_default();
    match soft.parse::<u64>() {
        Ok(most) if most < OPEN_FILES => group.advice(
            "open files",
            format!("{most} at once; large builds need {OPEN_FILES}"),
            format!("`ulimit -n {OPEN_FILES}`, and `LimitNOFILE=` in systemd's units"),
        ),
        _ => group.good("open files", format!("{soft} at once")),
    }
    let path = "/proc/sys/fs/inotify/max_user_instances";
    match host
        .read(path)
        .and_then(|text| text.trim().parse::<u64>().ok())
    {
        None => group.advice(
            "inotify",
            "this kernel has none: following logs and events is not possible",
            "boot a kernel with CONFIG_INOTIFY_USER",
        ),
        Some(most) if most < INOTIFY => group.advice(
            "inotify",
            format!("{most} instances for each user"),
            format!("`sysctl fs.inotify.max_user_instances={INOTIFY}`"),
        ),
        Some(most) => group.good("inotify", format!("{most} instances for each user")),
    }
}

fn clock(host: &impl Host, group: &mut Group<'_>) {
    if host.now() < YESTERDAY {
        group.missing(
            "clock",
            "it shows a time in the past: certificates of registries and of VMs' agents will not be valid",
            "`timedatectl set-ntp true`, or set it with `date -s`",
        );
        return;
    }
    let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let source = host.read(path).unwrap_or_default();
    match source.trim() {
        slow @ ("acpi_pm" | "hpet" | "jiffies" | "refined-jiffies") => group.advice(
            "clock",
            format!("`{slow}`, which takes long to ask"),
            format!(
                "see why with `dmesg | grep -i clocksource`; `echo tsc > {path}` if it is stable"
            ),
        ),
        "" => group.good("clock", "it shows the present"),
        source => group.good("clock", format!("it shows the present, by `{source}`")),
    }
}
