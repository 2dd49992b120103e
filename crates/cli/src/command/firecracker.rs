//! Which VMM runs a microVM, and what is asked of Firecracker and its jailer. The names of the
//! original tool's flags are kept: they mean what they say, or they say why they cannot.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use firebuild_core::ByteSize;
use firebuild_machine::vmm::VmmKind;
use firebuild_machine::vmm::firecracker::FirecrackerOptions;
use firebuild_machine::vmm::firecracker::cgroup::{CgroupSetting, CgroupVersion};
use firebuild_machine::vmm::firecracker::options::{
    Balloon, CHROOT_BASE, CpuTemplate, HugePages, RateLimiter, TokenBucket,
};

use crate::arguments::values;
use crate::error::hinted;

/// Where network namespaces are: where `ip netns` looks for them.
const NAMESPACES: [&str; 2] = ["/run/netns", "/var/run/netns"];

/// Words of a kernel's command line that firebuild needs for itself.
const OURS: [&str; 5] = ["init=", "rdinit=", "initrd=", "root=", "firebuild."];

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Firecracker,
    Qemu,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Pages {
    None,
    Transparent,
    #[value(name = "2M")]
    TwoMib,
}

/// Which VMM, and what is asked of it.
#[derive(Debug, Args)]
pub(crate) struct VmmArguments {
    /// What runs it [default: Firecracker where KVM can be used and it is installed, else QEMU]
    #[arg(long, value_name = "VMM", help_heading = "Machine")]
    vmm: Option<Kind>,
    /// More words for the kernel's command line
    #[arg(
        long,
        value_name = "WORDS",
        value_parser = values::form(taken_words),
        allow_hyphen_values = true,
        help_heading = "Machine"
    )]
    kernel_args: Option<String>,
    /// Firecracker's program [default: the one in PATH]
    #[arg(long, value_name = "FILE", help_heading = "Firecracker")]
    binary_firecracker: Option<PathBuf>,
    /// Its jailer's [default: beside the program, or in PATH]
    #[arg(long, value_name = "FILE", help_heading = "Firecracker")]
    binary_jailer: Option<PathBuf>,
    /// Let the guest see the processor of a template: C3, T2, T2S, T2CL, T2A, V1N1
    #[arg(
        long,
        value_name = "NAME",
        value_parser = values::form(template),
        help_heading = "Firecracker"
    )]
    cpu_template: Option<String>,
    /// Make pairs of the guest's processors threads of one core
    #[arg(long, help_heading = "Firecracker")]
    ht_enabled: bool,
    /// Make the guest's memory of large pages; transparent ones need Firecracker 1.17
    #[arg(long, value_name = "SIZE", help_heading = "Firecracker")]
    huge_pages: Option<Pages>,
    /// Take this much memory from the guest at first, in MiB, and add `deflate` to give it back before
    /// the guest runs out, `report` to take what it does not use (since 1.14): 256,deflate
    #[arg(long, value_name = "MIB", value_parser = balloon, help_heading = "Firecracker")]
    balloon: Option<Balloon>,
    /// Give the guest no device for random numbers
    #[arg(long, help_heading = "Firecracker")]
    no_entropy: bool,
    /// How much random data the guest gets a second: bytes=SIZE, ops=NUMBER, or both with a comma
    #[arg(long, value_name = "LIMIT", value_parser = limiter, help_heading = "Firecracker")]
    entropy_limit: Option<RateLimiter>,
    /// What each drive does a second, in the same form
    #[arg(long, value_name = "LIMIT", value_parser = limiter, help_heading = "Firecracker")]
    drive_limit: Option<RateLimiter>,
    /// What each network device receives a second
    #[arg(long, value_name = "LIMIT", value_parser = limiter, help_heading = "Firecracker")]
    receive_limit: Option<RateLimiter>,
    /// What each network device sends a second
    #[arg(long, value_name = "LIMIT", value_parser = limiter, help_heading = "Firecracker")]
    send_limit: Option<RateLimiter>,
    /// How much the guest writes to its console a second; more is dropped (since 1.16)
    #[arg(long, value_name = "SIZE", help_heading = "Firecracker")]
    console_limit: Option<ByteSize>,
    /// Write every call of Firecracker's interface to firecracker-http.log in the VM's directory
    #[arg(long, help_heading = "Firecracker")]
    log_firecracker_http_calls: bool,
    /// Not offered: root file systems have no partitions
    #[arg(long, value_name = "UUID", help_heading = "Firecracker")]
    root_drive_partuuid: Option<String>,
    /// Not offered: the guest learns from its metadata whom to call
    #[arg(long, help_heading = "Firecracker")]
    no_mmds: bool,
    #[command(flatten)]
    jailer: JailerArguments,
}

/// What stands for no user and no group.
const NO_ID: u64 = u32::MAX as u64;

/// What is asked of the jailer.
#[derive(Debug, Args)]
struct JailerArguments {
    /// The directory of jails; a short one, because a socket's path has 107 bytes
    #[arg(
        long,
        value_name = "DIR",
        default_value = CHROOT_BASE,
        help_heading = "Jailer"
    )]
    chroot_base: PathBuf,
    /// The user to run as [default: one of the VM's own]
    #[arg(long, value_name = "UID", value_parser = values::whole::<u32>(0, NO_ID - 1), help_heading = "Jailer")]
    jailer_uid: Option<u32>,
    /// The group to run as [default: one of the VM's own]
    #[arg(long, value_name = "GID", value_parser = values::whole::<u32>(0, NO_ID - 1), help_heading = "Jailer")]
    jailer_gid: Option<u32>,
    /// Use the processors and the memory of this NUMA node only
    #[arg(long, value_name = "NODE", value_parser = values::whole::<u32>(0, 1023), help_heading = "Jailer")]
    jailer_numa_node: Option<u32>,
    /// Set a file of the VM's own control group, such as memory.max=1G (may be repeated)
    #[arg(long, value_name = "FILE=VALUE", help_heading = "Jailer")]
    jailer_cgroup: Vec<CgroupSetting>,
    /// The version of control groups, 1 or 2 [default: the one that has the host's controllers]
    #[arg(long, value_name = "VERSION", help_heading = "Jailer")]
    jailer_cgroup_version: Option<CgroupVersion>,
    /// The control group in which VMs get their own [default: firebuild]
    #[arg(long, value_name = "PATH", help_heading = "Jailer")]
    jailer_parent_cgroup: Option<String>,
    /// How many files Firecracker may have open
    #[arg(long, value_name = "N", value_parser = values::whole::<u64>(64, 1 << 20), help_heading = "Jailer")]
    jailer_open_files: Option<u64>,
    /// The largest file that Firecracker may write; the VM's disks have to be smaller
    #[arg(long, value_name = "SIZE", help_heading = "Jailer")]
    jailer_file_size: Option<ByteSize>,
    /// Where network namespaces are: /run/netns, and nowhere else
    #[arg(long, value_name = "DIR", help_heading = "Jailer")]
    netns: Option<PathBuf>,
}

impl VmmArguments {
    /// The VMM, if it has to be a certain one.
    pub(crate) fn kind(&self) -> Option<VmmKind> {
        self.vmm.map(|kind| match kind {
            Kind::Firecracker => VmmKind::Firecracker,
            Kind::Qemu => VmmKind::Qemu,
        })
    }

    /// What is asked of Firecracker.
    pub(crate) fn options(&self) -> anyhow::Result<FirecrackerOptions> {
        self.refuse()?;
        let jailer = &self.jailer;
        Ok(FirecrackerOptions {
            firecracker: self
                .binary_firecracker
                .as_deref()
                .map(absolute)
                .transpose()?,
            jailer: self.binary_jailer.as_deref().map(absolute).transpose()?,
            chroot_base: absolute(&jailer.chroot_base)?,
            uid: jailer.jailer_uid,
            gid: jailer.jailer_gid,
            numa_node: jailer.jailer_numa_node,
            cgroup_version: jailer.jailer_cgroup_version,
            cgroups: jailer.jailer_cgroup.clone(),
            parent_cgroup: jailer.jailer_parent_cgroup.clone(),
            open_files: jailer.jailer_open_files,
            file_size: jailer.jailer_file_size.map(|size| size.0),
            cpu_template: self.cpu_template.as_deref().map_or(Ok(None), template)?,
            smt: self.ht_enabled,
            huge_pages: match self.huge_pages {
                None | Some(Pages::None) => HugePages::None,
                Some(Pages::Transparent) => HugePages::Transparent,
                Some(Pages::TwoMib) => HugePages::TwoMib,
            },
            balloon: self.balloon,
            entropy: !self.no_entropy,
            entropy_limit: self.entropy_limit,
            drive_limit: self.drive_limit,
            receive_limit: self.receive_limit,
            send_limit: self.send_limit,
            console_limit: self.console_limit.map(|it| TokenBucket::per_second(it.0)),
            log_http_calls: self.log_firecracker_http_calls,
        })
    }

    /// What the original had and cannot be had here, and why.
    fn refuse(&self) -> anyhow::Result<()> {
        if self
            .root_drive_partuuid
            .as_deref()
            .is_some_and(|it| !it.is_empty())
        {
            return Err(hinted(
                "`--root-drive-partuuid` is not offered: a root file system has no partitions, and the guest finds it by its place",
                "leave it out; any image boots without it",
            ));
        }
        if self.no_mmds {
            return Err(hinted(
                "`--no-mmds` is not offered: the guest learns from its metadata whom to call, and with which credentials",
                "leave it out; what is secret is withdrawn once the guest has it, and no other VM reaches it",
            ));
        }
        let elsewhere = |path: &PathBuf| !NAMESPACES.iter().any(|it| path == Path::new(it));
        if let Some(path) = self.jailer.netns.as_ref().filter(|path| elsewhere(path)) {
            return Err(hinted(
                format!(
                    "`--netns {}` is not offered: network namespaces are in /run/netns, where `ip netns` and every command of firebuild look for them",
                    path.display()
                ),
                "leave it out",
            ));
        }
        Ok(())
    }

    /// More words for the kernel's command line.
    pub(crate) fn kernel_arguments(&self) -> anyhow::Result<Vec<String>> {
        taken_words(self.kernel_args.as_deref().unwrap_or_default())
    }
}

/// More words for the kernel's command line, as `--kernel-args` has them.
fn taken_words(words: &str) -> anyhow::Result<Vec<String>> {
    kernel_words(words).map_err(|word| {
        hinted(
            format!("`{word}` cannot be on the kernel's command line: firebuild boots its own agent from an initramfs, with modules"),
            "`--kernel-args` is for what the kernel itself or the image's programs read",
        )
    })
}

/// The words, without those about the VM's end, which is the VMM's affair: its own come first and have
/// to count. One that firebuild needs itself is the error.
fn kernel_words(words: &str) -> Result<Vec<String>, String> {
    let mut kept = Vec::new();
    for word in words.split_ascii_whitespace() {
        let is_ours = OURS.iter().any(|ours| word.starts_with(ours)) || word == "nomodule";
        if is_ours || word.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return Err(word.to_owned());
        }
        if !word.starts_with("reboot=") && !word.starts_with("panic=") {
            kept.push(word.to_owned());
        }
    }
    Ok(kept)
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    Ok(std::path::absolute(path)?)
}

/// A template, by its name; none if that is empty, as the original's default is.
fn template(name: &str) -> anyhow::Result<Option<CpuTemplate>> {
    Ok(Some(match name.to_ascii_uppercase().as_str() {
        "" | "NONE" => return Ok(None),
        "C3" => CpuTemplate::C3,
        "T2" => CpuTemplate::T2,
        "T2S" => CpuTemplate::T2S,
        "T2CL" => CpuTemplate::T2CL,
        "T2A" => CpuTemplate::T2A,
        "V1N1" => CpuTemplate::V1N1,
        _ => {
            return Err(hinted(
                format!("`{name}` is no CPU template"),
                "templates are C3, T2, T2S, T2CL, T2A and V1N1",
            ));
        }
    }))
}

/// `MIB[,deflate][,report]`.
fn balloon(text: &str) -> Result<Balloon, String> {
    let usage = || "a balloon is MIB, and perhaps `,deflate` and `,report`".to_owned();
    let mut words = text.split(',');
    let amount = words
        .next()
        .and_then(|it| it.parse().ok())
        .ok_or_else(usage)?;
    let mut balloon = Balloon {
        amount,
        ..Balloon::default()
    };
    for word in words {
        match word {
            "deflate" => balloon.deflate_on_oom = true,
            "report" => balloon.free_page_reporting = true,
            _ => return Err(usage()),
        }
    }
    Ok(balloon)
}

/// `bytes=SIZE`, `ops=NUMBER`, or both with a comma: so much a second.
fn limiter(text: &str) -> Result<RateLimiter, String> {
    let usage = || "a limit is bytes=SIZE, ops=NUMBER, or both with a comma".to_owned();
    let mut limit = RateLimiter::default();
    for part in text.split(',') {
        let (name, value) = part.split_once('=').ok_or_else(usage)?;
        let (place, number) = match name {
            "bytes" => {
                let size: ByteSize = value.parse().map_err(|_| usage())?;
                (&mut limit.bandwidth, size.0)
            }
            "ops" => (&mut limit.ops, value.parse().map_err(|_| usage())?),
            _ => return Err(usage()),
        };
        if number == 0 || place.is_some() {
            return Err(usage());
        }
        *place = Some(TokenBucket::per_second(number));
    }
    Ok(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_balloons() {
        let per_second = |size| Some(TokenBucket::per_second(size));
        for (text, bandwidth, ops) in [
            ("bytes=1M", per_second(1 << 20), None),
            ("ops=100", None, per_second(100)),
            ("ops=100,bytes=4096", per_second(4096), per_second(100)),
        ] {
            assert_eq!(limiter(text), Ok(RateLimiter { bandwidth, ops }), "{text}");
        }
        for text in [
            "",
            "bytes",
            "bytes=",
            "bytes=x",
            "ops=0",
            "ops=-1",
            "ops=1,ops=2",
            "a=1",
        ] {
            assert!(limiter(text).is_err(), "{text}");
        }
        let all = balloon("256,deflate,report").unwrap();
        assert!(all.amount == 256 && all.deflate_on_oom && all.free_page_reporting);
        for text in ["", "x", "1,", "1,x", "-1", "deflate"] {
            assert!(balloon(text).is_err(), "{text}");
        }
    }

    #[test]
    fn templates_have_the_originals_default() {
        assert_eq!(template("").unwrap(), None);
        assert_eq!(template("t2cl").unwrap(), Some(CpuTemplate::T2CL));
        assert!(template("T9").is_err());
    }

    #[test]
    fn words_of_the_original_are_taken() {
        let words = "console=ttyS0 noapic reboot=k panic=1 pci=off nomodules rw";
        let kept = ["console=ttyS0", "noapic", "pci=off", "nomodules", "rw"];
        assert_eq!(kernel_words(words).unwrap(), kept);
        assert!(kernel_words("").unwrap().is_empty());
        for word in [
            "init=/bin/sh",
            "rdinit=/x",
            "root=/dev/vda",
            "nomodule",
            "firebuild.ip=1",
            "é",
        ] {
            assert_eq!(kernel_words(&format!("a {word} b")), Err(word.to_owned()));
        }
    }
}
