//! What Firecracker's documentation advises for hosts that run other people's code
//! (`docs/prod-host-setup.md`). It is good advice for any VMM.

use super::{Group, Host};

pub(super) fn examine(host: &impl Host, group: &mut Group<'_>) {
    let value = |path: &str| host.read(path).unwrap_or_default().trim().to_owned();
    match value("/sys/devices/system/cpu/smt/active").as_str() {
        "1" => group.advice(
            "SMT",
            "two VMs may share a core, and with it what its caches tell",
            "`echo off > /sys/devices/system/cpu/smt/control`, or boot with `nosmt`",
        ),
        _ => group.good("SMT", "no two VMs share a core"),
    }
    let swaps = host.read("/proc/swaps").unwrap_or_default();
    match swaps.lines().skip(1).count() {
        0 => group.good("swap", "off"),
        areas => group.advice(
            "swap",
            format!("{areas} areas: guests' memory may be left on a disk"),
            "`swapoff -a`, and take swap out of /etc/fstab",
        ),
    }
    match value("/sys/kernel/mm/ksm/run").as_str() {
        "1" => group.advice(
            "KSM",
            "equal pages of different VMs are shared, which tells one what another has",
            "`echo 2 > /sys/kernel/mm/ksm/run`",
        ),
        _ => group.good("KSM", "off"),
    }
    vulnerabilities(host, group);
    kvm(host, group);
    let printk = value("/proc/sys/kernel/printk");
    let level = printk
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok());
    match level {
        Some(5_u8..) => group.advice(
            "console",
            "the kernel writes much to its console, which slows VMs' starts",
            "`sysctl kernel.printk=1`, or boot with `quiet loglevel=1`",
        ),
        _ => group.good("console", "the kernel is quiet"),
    }
}

fn vulnerabilities(host: &impl Host, group: &mut Group<'_>) {
    let directory = "/sys/devices/system/cpu/vulnerabilities";
    let open: Vec<String> = (host.list(directory).into_iter())
        .filter(|name| {
            let text = host
                .read(&format!("{directory}/{name}"))
                .unwrap_or_default();
            text.starts_with("Vulnerable")
        })
        .collect();
    match open[..] {
        [] => group.good("processor", "no known weakness is left open"),
        _ => group.advice(
            "processor",
            format!("open to {}", open.join(", ")),
            "install the processor's microcode (`intel-microcode`, `amd64-microcode`), and boot \
             without `mitigations=off`",
        ),
    }
}

/// Linux from 6.1 on makes a VM's start slow unless one of two things is set.
fn kvm(host: &impl Host, group: &mut Group<'_>) {
    let release = host.read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release
        .trim()
        .split('.')
        .map(|part| part.parse::<u32>().ok());
    let version = (numbers.next().flatten(), numbers.next().flatten());
    let slow = version >= (Some(6), Some(1));
    let huge = host.read("/sys/module/kvm/parameters/nx_huge_pages");
    let never = huge.as_deref().map(str::trim) == Some("never");
    let mounts = host.read("/proc/self/mountinfo").unwrap_or_default();
    let favoured = mounts
        .lines()
        .any(|line| line.contains(" - cgroup2 ") && line.contains("favordynmods"));
    if !slow || huge.is_none() || never || favoured {
        return group.good("VM start", "nothing makes KVM slow to begin");
    }
    group.advice(
        "VM start",
        "KVM waits for other processors whenever a VM starts (Linux 6.1 and later)",
        "`mount -o remount,favordynmods /sys/fs/cgroup` (version 2), or load kvm with \
         `nx_huge_pages=never` if the processor is not open to iTLB multihit",
    );
}
