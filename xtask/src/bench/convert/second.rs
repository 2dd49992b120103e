//! An image on a base that is known, against what it adds alone.

use std::path::Path;
use std::time::Duration;

use super::samples::{self, Sample};
use super::{Cold, TURNS};
use crate::bench::host::{Host, time};
use crate::bench::report::{Bound, Row};
use crate::bench::statistics::{median_ratio, median_seconds};

/// The layer that is added: see [`samples`].
const ADDED: usize = 3;

pub(super) fn measure(host: &Host, base: &Sample, large: &Sample) -> anyhow::Result<Row> {
    let layout = samples::on_base(host, base, (large, ADDED))?;
    let (mut ours, mut alone) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let cold = Cold::new(host)?;
        import(host, &cold, &layout, "base")?;
        ours.push(import(host, &cold, &layout, "both")?);
        let cold = Cold::new(host)?;
        alone.push(import(host, &cold, &layout, "added")?);
    }
    Ok(Row {
        what: "90 MB on a known base of 60,000 files, against the same 90 MB alone",
        figure: median_ratio(&ours, &alone),
        bound: Bound::times(1.5),
        note: format!(
            "{:.2} s, and {:.2} s; all of it alone would be the rows above",
            median_seconds(&ours),
            median_seconds(&alone)
        ),
    })
}

fn import(host: &Host, store: &Cold, layout: &Path, name: &str) -> anyhow::Result<Duration> {
    let mut command = store.command(host);
    let source = format!("oci:{}:{name}", layout.display());
    time(command.args([
        "image",
        "import",
        &source,
        "--tag",
        &format!("bench/{name}:1"),
    ]))
}
