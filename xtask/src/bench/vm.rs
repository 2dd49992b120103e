//! What a running VM costs: disk, and its supervisor's memory.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use fs_err as fs;
use serde_json::Value;

use super::host::Host;
use super::report::{Bound, Row};
use super::statistics::median;
use crate::shell;

/// How many VMs are measured.
const VMS: usize = 5;

/// How long after its start a VM is taken to be idle.
const SETTLING: Duration = Duration::from_secs(10);

/// How long an idle one is looked at.
const IDLE: Duration = Duration::from_secs(30);

pub(super) fn measure(host: &Host) -> anyhow::Result<Vec<Row>> {
    // The first one makes the image's root file system.
    Detached::start(host, super::BASE, &["sleep", "600"])?.stop()?;
    let mut disk = Vec::new();
    for _ in 0..VMS {
        let before = used(&host.directory)?;
        let vm = Detached::start(host, super::BASE, &["sleep", "600"])?;
        disk.push((used(&host.directory)? - before) / f64::from(1 << 20));
        vm.stop()?;
    }
    let idle = Idle::measure(host)?;
    Ok(vec![
        Row {
            what: "disk that one more VM of an image takes",
            figure: median(&disk),
            bound: Bound::mebibytes(2.0),
            note: "all that firebuild's directory grew by, from before the VM to after its boot"
                .to_owned(),
        },
        Row {
            what: "memory that an idle VM's supervisor has resident",
            figure: idle.resident,
            bound: Bound::mebibytes(12.0),
            note: format!(
                "{:.1} MiB of its own, the rest is the program's file; {:.1} MiB when its VM has just started",
                idle.own, idle.at_first
            ),
        },
        Row {
            what: "wake-ups of an idle VM's supervisor in 30 s",
            figure: idle.wake_ups,
            bound: Bound::times_at_most(0.0),
            note: "of all its threads; the VM has a limit of processor time and a restart policy"
                .to_owned(),
        },
    ])
}

/// What an idle VM's supervisor is like. Memory is in MiB.
struct Idle {
    /// How much was resident right after the start.
    at_first: f64,
    /// How much is resident.
    resident: f64,
    /// What is not shared with other processes of the same program.
    own: f64,
    /// How often its threads came to run in a while.
    wake_ups: f64,
}

impl Idle {
    fn measure(host: &Host) -> anyhow::Result<Self> {
        let options = ["--restart", "on-failure", "--cpu-max", "1"];
        let vm = Detached::start_with(host, &options, super::BASE, &["sleep", "600"])?;
        let mebibytes =
            |field| Ok::<_, anyhow::Error>(number(&vm.supervisor_status()?, field)? / 1024.0);
        let at_first = mebibytes("VmRSS")?;
        std::thread::sleep(SETTLING);
        let before = vm.supervisor_wake_ups()?;
        std::thread::sleep(IDLE);
        let wake_ups = vm.supervisor_wake_ups()? - before;
        let idle = Self {
            at_first,
            resident: mebibytes("VmRSS")?,
            own: mebibytes("RssAnon")?,
            wake_ups,
        };
        vm.stop()?;
        Ok(idle)
    }
}

/// The disk that a directory takes, in bytes.
fn used(directory: &Path) -> anyhow::Result<f64> {
    fn blocks(path: &Path) -> anyhow::Result<u64> {
        let found = fs::symlink_metadata(path)?;
        let mut sum = found.blocks();
        if found.is_dir() {
            for entry in fs::read_dir(path)? {
                sum += blocks(&entry?.path())?;
            }
        }
        Ok(sum)
    }
    #[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
    Ok(blocks(directory)? as f64 * 512.0)
}

/// A number that a file of `/proc` has for a field, whatever its unit.
fn number(status: &str, field: &str) -> anyhow::Result<f64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let value = line.and_then(|line| line.split_ascii_whitespace().next());
    Ok(value
        .with_context(|| format!("there is no `{field}`"))?
        .parse()?)
}

/// A VM in the background.
pub(super) struct Detached<'a> {
    host: &'a Host,
    record: Value,
}

impl<'a> Detached<'a> {
    /// Returns when its workload has started.
    pub(super) fn start(host: &'a Host, image: &str, command: &[&str]) -> anyhow::Result<Self> {
        Self::start_with(host, &["--rm"], image, command)
    }

    /// The same with these options of `run`.
    fn start_with(
        host: &'a Host,
        options: &[&str],
        image: &str,
        command: &[&str],
    ) -> anyhow::Result<Self> {
        let mut run = host.command();
        run.args(["run", "-d", "--format", "json"])
            .args(options)
            .args([image, "--"])
            .args(command);
        let record = serde_json::from_str(&shell::output(&mut run)?)?;
        Ok(Self { host, record })
    }

    /// Its id.
    pub(super) fn id(&self) -> anyhow::Result<&str> {
        self.record["Id"].as_str().context("the VM has no id")
    }

    pub(super) fn stop(self) -> anyhow::Result<()> {
        shell::output(self.host.command().args(["kill", self.id()?])).map(drop)
    }

    /// The words of its VMM's command line.
    pub(super) fn vmm_command_line(&self) -> anyhow::Result<Vec<String>> {
        let line = fs::read_to_string(self.process("Vmm", "cmdline")?)?;
        Ok(line.split_terminator('\0').map(str::to_owned).collect())
    }

    /// The key of the lowest image of its root file system, in hexadecimal digits.
    pub(super) fn root(&self) -> Option<String> {
        let digest = self.record["Spec"]["Rootfs"][0].as_str()?;
        digest.strip_prefix("sha256:").map(str::to_owned)
    }

    /// A fact of its record, by a JSON pointer.
    pub(super) fn fact(&self, pointer: &str) -> Option<&Value> {
        self.record.pointer(pointer)
    }

    fn supervisor_status(&self) -> anyhow::Result<String> {
        Ok(fs::read_to_string(self.process("Owner", "status")?)?)
    }

    /// How often the kernel has let one of its supervisor's threads run after another task.
    fn supervisor_wake_ups(&self) -> anyhow::Result<f64> {
        let mut sum = 0.0;
        for thread in fs::read_dir(self.process("Owner", "task")?)? {
            let status = fs::read_to_string(thread?.path().join("status"))?;
            for kind in ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"] {
                sum += number(&status, kind)?;
            }
        }
        Ok(sum)
    }

    fn process(&self, which: &str, file: &str) -> anyhow::Result<String> {
        let id = self.record["Processes"][which].as_u64();
        let id = id.with_context(|| format!("the record does not tell the process `{which}`"))?;
        ensure!(id > 1, "the process `{which}` has no number");
        Ok(format!("/proc/{id}/{file}"))
    }
}
