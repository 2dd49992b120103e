//! What a running VM costs: disk, and its supervisor's memory.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use fs_err as fs;
use serde_json::Value;

use super::host::Host;
use super::report::{Bound, Row};
use super::statistics::median;
use crate::shell;

/// How many VMs are measured.
const VMS: usize = 5;

pub(super) fn measure(host: &Host) -> anyhow::Result<Vec<Row>> {
    // The first one makes the image's root file system.
    Detached::start(host, super::BASE, &["sleep", "600"])?.stop()?;
    let (mut disk, mut memory, mut own) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..VMS {
        let before = used(&host.directory)?;
        let vm = Detached::start(host, super::BASE, &["sleep", "600"])?;
        let status = vm.supervisor_status()?;
        memory.push(kibibytes(&status, "VmRSS")? / 1024.0);
        own.push(kibibytes(&status, "RssAnon")? / 1024.0);
        disk.push((used(&host.directory)? - before) / f64::from(1 << 20));
        vm.stop()?;
    }
    Ok(vec![
        Row {
            what: "disk that one more VM of an image takes",
            figure: median(&disk),
            bound: Bound::mebibytes(2.0),
            note: "all that firebuild's directory grew by, from before the VM to after its boot"
                .to_owned(),
        },
        Row {
            what: "memory that a supervisor has resident",
            figure: median(&memory),
            bound: Bound::mebibytes(16.0),
            note: format!(
                "{:.1} MiB of its own, the rest is the program's file",
                median(&own)
            ),
        },
    ])
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

fn kibibytes(status: &str, field: &str) -> anyhow::Result<f64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let value = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(value
        .with_context(|| format!("there is no `{field}`"))?
        .trim()
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
        let mut run = host.command();
        run.args(["run", "-d", "--rm", "--format", "json", image, "--"])
            .args(command);
        let record = serde_json::from_str(&shell::output(&mut run)?)?;
        Ok(Self { host, record })
    }

    pub(super) fn stop(self) -> anyhow::Result<()> {
        let id = self.record["Id"].as_str().context("the VM has no id")?;
        shell::output(self.host.command().args(["kill", id])).map(drop)
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

    fn supervisor_status(&self) -> anyhow::Result<String> {
        Ok(fs::read_to_string(self.process("Owner", "status")?)?)
    }

    fn process(&self, which: &str, file: &str) -> anyhow::Result<String> {
        let id = self.record["Processes"][which].as_u64();
        let id = id.with_context(|| format!("the record does not tell the process `{which}`"))?;
        ensure!(id > 1, "the process `{which}` has no number");
        Ok(format!("/proc/{id}/{file}"))
    }
}
