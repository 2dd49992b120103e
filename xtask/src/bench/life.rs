//! Commands about VMs that are there: listing many, stopping one.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use fs_err as fs;

use super::host::{Host, time};
use super::report::{Bound, Row};
use super::statistics::median_seconds;
use super::vm::Detached;
use crate::shell;

/// How many records are listed.
const RECORDS: usize = 1000;

/// How often.
const LISTINGS: usize = 21;

/// How many VMs are stopped.
const STOPS: usize = 7;

/// What ends as soon as it is asked to: the shell waits in a call that a signal interrupts.
const OBEDIENT: [&str; 3] = ["sh", "-c", "trap 'exit 0' TERM; sleep 600 & wait"];

pub(super) fn list(host: &Host) -> anyhow::Result<Vec<Row>> {
    let root = host.directory.join("many");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    let ls = || {
        let mut ls = host.command_of(&root);
        ls.arg("ls");
        ls
    };
    // Makes the directories.
    shell::output(&mut ls())?;
    let template = ended(host)?;
    let machines = root.join("v1/machines");
    for number in 0..RECORDS {
        copy_record(&template, &machines, number)?;
    }
    let (mut all, mut table, mut running) = (Vec::new(), Vec::new(), Vec::new());
    time(&mut ls())?;
    for _ in 0..LISTINGS {
        all.push(time(ls().args(["--all", "--format", "json"]))?);
        table.push(time(ls().arg("--all"))?);
        running.push(time(&mut ls())?);
    }
    fs::remove_dir_all(&root)?;
    Ok(vec![Row {
        what: "`ls --all` with 1,000 records",
        figure: median_seconds(&table) * 1e3,
        bound: Bound::milliseconds(30.0),
        note: format!(
            "{:.0} ms as JSON, {:.0} ms for those that run, of which there are none",
            median_seconds(&all) * 1e3,
            median_seconds(&running) * 1e3
        ),
    }])
}

/// The directory of a VM that has run and ended.
fn ended(host: &Host) -> anyhow::Result<PathBuf> {
    let mut run = host.command();
    run.args(["run", "--format", "json", "--detach", super::BASE, "--"]);
    let record: serde_json::Value = serde_json::from_str(&shell::output(run.arg("true"))?)?;
    let id = record["Id"].as_str().context("the VM has no id")?;
    shell::output(host.command().args(["wait", id]))?;
    Ok(host.directory.join("v1/machines").join(id))
}

/// Copies what is known of a VM as that of another.
fn copy_record(template: &Path, machines: &Path, number: usize) -> anyhow::Result<()> {
    let old = template.file_name().and_then(|name| name.to_str());
    let old = old.context("the VM's directory has no name")?;
    let new = format!("m{number:0width$}", width = old.len() - 1);
    let directory = machines.join(&new);
    fs::create_dir(&directory)?;
    for name in ["identity.json", "record.json", "lock"] {
        let text = fs::read_to_string(template.join(name))?;
        fs::write(directory.join(name), text.replace(old, &new))?;
    }
    Ok(())
}

pub(super) fn stop(host: &Host) -> anyhow::Result<Vec<Row>> {
    let mut took = Vec::new();
    for _ in 0..STOPS {
        let vm = Detached::start(host, super::BASE, &OBEDIENT)?;
        took.push(time(host.command().args(["stop", vm.id()?]))?);
    }
    let least = took
        .iter()
        .min()
        .map_or(0.0, std::time::Duration::as_secs_f64);
    Ok(vec![Row {
        what: "`stop` of a workload that ends at once, to everything released",
        figure: median_seconds(&took) * 1e3,
        bound: Bound::milliseconds(300.0),
        note: format!(
            "{:.0} ms at best; the workload's own time is in it",
            least * 1e3
        ),
    }])
}
