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
mod host;
mod program;
mod report;
mod statistics;
mod vm;

use std::path::Path;

use crate::{packages, shell};
use host::Host;
use report::Row;

const BASE: &str = "debian:bookworm-slim";
const KERNEL: &str = "debian:bookworm";

/// Prepares what is needed, measures every row, and prints and writes the table.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    packages::install(&packages::DEMO)?;
    packages::install(&packages::TEST)?;
    shell::cargo(&["build", "--release", "--package", "firebuild"])?;
    let host = Host::prepare(root)?;
    let mut rows: Vec<Row> = Vec::new();
    for (what, measure) in MEASUREMENTS {
        shell::say(&format!("measuring {what}"));
        let measured = measure(&host)?;
        // What comes later may fail.
        shell::say(&report::table(&measured));
        rows.extend(measured);
    }
    host.clean()?;
    let table = report::table(&rows);
    shell::say(&table);
    report::update(root, &table)
}

type Measurement = (&'static str, fn(&Host) -> anyhow::Result<Vec<Row>>);

const MEASUREMENTS: [Measurement; 9] = [
    (
        "a running VM's disk and its supervisor's memory",
        vm::measure,
    ),
    ("the start of a VM", boot::measure),
    ("a build with everything cached", build::cached),
    (
        "the same in a large context",
        build::cached_in_large_context,
    ),
    ("a build of copies", build::copies),
    ("a build that runs", build::runs),
    ("a build of two stages", build::stages),
    ("a root file system", disk::measure),
    ("images that come compressed", convert::measure),
];
