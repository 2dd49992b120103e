//! Measures what is promised and writes the figures to `docs/benchmarks.md`.
//!
//! What is compared is measured in turns in one run, so that a machine that is busy is busy for
//! both sides, and figures are medians. All state is under `target/bench`, and nothing runs
//! afterwards.

mod boot;
mod build;
mod buildah;
mod convert;
mod disk;
mod exec;
mod host;
mod life;
mod network;
mod program;
mod report;
mod start;
mod statistics;
mod vm;

use std::path::Path;

use anyhow::ensure;

use crate::{packages, shell};
use host::Host;
use report::Row;

const BASE: &str = "debian:bookworm-slim";
const KERNEL: &str = "debian:bookworm";

/// Prepares what is needed, measures, and prints the table and writes it to the file. `parts` are words
/// of [`MEASUREMENTS`], all if there are none; the file's other rows stay then.
///
/// # Errors
///
/// Names of parts that there are not, and whatever goes wrong in a measurement.
pub(crate) fn run(root: &Path, parts: &[String]) -> anyhow::Result<()> {
    for part in parts {
        let known = MEASUREMENTS.map(|(name, _, _)| name);
        ensure!(
            known.contains(&part.as_str()),
            "there is no part `{part}`: there are {}",
            known.join(", ")
        );
    }
    packages::install(&packages::DEMO)?;
    packages::install(&packages::TEST)?;
    shell::cargo(&["build", "--release", "--package", "firebuild"])?;
    let host = Host::prepare(root)?;
    let mut rows: Vec<Row> = Vec::new();
    for (name, what, measure) in MEASUREMENTS {
        if !parts.is_empty() && !parts.iter().any(|part| part == name) {
            continue;
        }
        shell::say(&format!("measuring {what}"));
        let measured = measure(&host)?;
        // What comes later may fail.
        shell::say(&report::table(&measured));
        rows.extend(measured);
    }
    host.clean()?;
    report::update(root, &rows, parts.is_empty())
}

/// The word for it on the command line, what it is, and how it is done.
type Measurement = (
    &'static str,
    &'static str,
    fn(&Host) -> anyhow::Result<Vec<Row>>,
);

const MEASUREMENTS: [Measurement; 14] = [
    (
        "supervisor",
        "a running VM's disk and its supervisor's memory",
        vm::measure,
    ),
    ("boot", "the start of a VM", boot::measure),
    ("start", "what comes before the VMM's start", start::measure),
    ("exec", "a process in a running VM", exec::measure),
    ("ls", "a list of many VMs", life::list),
    ("stop", "the orderly end of a VM", life::stop),
    (
        "network",
        "what passes between a guest and its host",
        network::measure,
    ),
    ("cached", "a build with everything cached", build::cached),
    (
        "context",
        "the same in a large context",
        build::cached_in_large_context,
    ),
    ("copies", "a build of copies", build::copies),
    ("runs", "a build that runs", build::runs),
    ("stages", "a build of two stages", build::stages),
    ("disk", "a root file system", disk::measure),
    ("convert", "images that come compressed", convert::measure),
];
