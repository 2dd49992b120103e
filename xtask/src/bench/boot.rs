//! From the command to the entrypoint's first output, against a QEMU that does nothing else.
//!
//! The other side is what a person would start by hand to see how quickly this kernel boots: the
//! same kernel, machine, processor and memory, an initramfs with one tiny program, and no devices.
//! Its flags are read off a VM of firebuild's, and with them the rate of the time stamp counter,
//! without which this kernel does not boot under emulation.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use fs_err as fs;

use super::host::{Host, LARGE, SMALL, time_to_line};
use super::program::{self, Then};
use super::report::{Bound, Row};
use super::statistics::{median_ratio, median_seconds};
use super::vm::Detached;

/// How many turns.
const TURNS: usize = 7;
/// What both sides have in common.
const SHARED: [&str; 5] = ["-machine", "-cpu", "-smp", "-m", "-display"];

/// A QEMU started by hand.
struct ByHand {
    program: PathBuf,
    arguments: Vec<String>,
}

pub(super) fn measure(host: &Host) -> anyhow::Result<Vec<Row>> {
    let by_hand = ByHand::like_firebuild(host)?;
    let firebuild = |image: &str| {
        time_to_line(
            host.command()
                .args(["run", "--rm", image, "--", "/started"]),
        )
    };
    // Once for the page cache, and for the images' root file systems.
    firebuild(SMALL)?;
    firebuild(LARGE)?;
    by_hand.time()?;
    let (mut small, mut large, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TURNS {
        plain.push(by_hand.time()?);
        small.push(firebuild(SMALL)?);
        large.push(firebuild(LARGE)?);
    }
    crate::shell::say("");
    let note = |of: &[_]| {
        format!(
            "{:.2} s, and {:.2} s by hand",
            median_seconds(of),
            median_seconds(&plain)
        )
    };
    Ok(vec![
        Row {
            what: "`run` to the first output, image of 5 MB, against QEMU by hand",
            figure: median_ratio(&small, &plain),
            bound: Bound::times(1.25),
            note: note(&small),
        },
        Row {
            what: "`run` to the first output, image of 1 GB, against QEMU by hand",
            figure: median_ratio(&large, &plain),
            bound: Bound::times(1.25),
            note: note(&large),
        },
        Row {
            what: "`run` to the first output, 1 GB against 5 MB",
            figure: median_ratio(&large, &small),
            bound: Bound::times(1.05),
            note: "independent: within the noise".to_owned(),
        },
    ])
}

impl ByHand {
    fn like_firebuild(host: &Host) -> anyhow::Result<Self> {
        let vm = Detached::start(host, super::BASE, &["sleep", "600"])?;
        let theirs = vm.vmm_command_line()?;
        vm.stop()?;
        let value = |option: &str| {
            let at = theirs.iter().position(|word| word == option);
            at.and_then(|at| theirs.get(at + 1)).cloned()
        };
        let program = theirs.first().context("QEMU has no command line")?.into();
        let mut arguments = Vec::new();
        for option in SHARED {
            let value =
                value(option).with_context(|| format!("firebuild's QEMU has no `{option}`"))?;
            arguments.extend([option.to_owned(), value]);
        }
        let ticks = value("-append").unwrap_or_default();
        let ticks = ticks.split(' ').filter(|word| word.starts_with("tsc"));
        let words = ["console=ttyS0", "quiet", "panic=-1", "reboot=t"];
        let append: Vec<&str> = words.into_iter().chain(ticks).collect();
        let initramfs = host.directory.join("by-hand.cpio");
        fs::write(&initramfs, program::initramfs(&program::elf(Then::Restart)))?;
        let kernels = host.kernels()?;
        let kernel = kernels
            .first()
            .context("there is no kernel")?
            .join("vmlinux");
        for (option, value) in [
            ("-kernel", kernel.display().to_string()),
            ("-initrd", initramfs.display().to_string()),
            ("-append", append.join(" ")),
            ("-serial", "stdio".to_owned()),
        ] {
            arguments.extend([option.to_owned(), value]);
        }
        arguments.extend(["-nodefaults", "-no-user-config", "-no-reboot"].map(str::to_owned));
        Ok(Self { program, arguments })
    }

    fn time(&self) -> anyhow::Result<std::time::Duration> {
        time_to_line(Command::new(&self.program).args(&self.arguments))
            .context("QEMU started by hand")
    }
}
