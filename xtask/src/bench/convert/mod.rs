//! Layers to a root file system, against decompressing alone, and against what else there is.

mod peers;
mod registry;
mod samples;
mod second;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use fs_err as fs;

use super::host::{Host, time};
use super::report::{Bound, Row};
use super::statistics::{median, median_ratio, median_seconds};
use crate::{packages, shell};
use peers::Peers;
use samples::{Sample, prepare};

/// How often each side is measured.
const TURNS: usize = 5;

/// What is used here only.
const PACKAGES: [&str; 2] = ["isal", "time"];

pub(super) fn measure(host: &Host) -> anyhow::Result<Vec<Row>> {
    packages::install(&PACKAGES)?;
    let samples = prepare(host)?;
    let peers = Peers::prepare(host)?;
    let mut rows = Vec::new();
    let mut memory: Vec<f64> = Vec::new();
    for sample in &samples {
        for (format, what, tool) in [
            ("gzip", gzip_row(sample), "igzip -dc"),
            ("zstd", zstd_row(sample), "zstd -dc"),
        ] {
            let (row, peak) = against_decompressing(host, sample, format, (what, tool))?;
            rows.push(row);
            memory.push(peak);
        }
        rows.push(against_peers(host, sample, &peers)?);
    }
    let [_, modules, development] = &samples;
    rows.push(second::measure(host, modules, development)?);
    rows.extend(registry::measure(host, &samples)?);
    let peak = memory.iter().copied().fold(0.0, f64::max);
    rows.push(Row {
        what: "the most memory that a conversion took",
        figure: peak,
        bound: Bound::mebibytes(64.0),
        note: "resident, at its peak; the largest of all of the above".to_owned(),
    });
    Ok(rows)
}

fn gzip_row(sample: &Sample) -> &'static str {
    match sample.name {
        "debian" => "Debian base, gzip, to root file system, against `igzip -dc` into `sha256sum`",
        "modules" => "60,000 small files, gzip, against `igzip -dc` into `sha256sum`",
        _ => "six layers of 800 MB, gzip, against `igzip -dc` into `sha256sum`",
    }
}

fn zstd_row(sample: &Sample) -> &'static str {
    match sample.name {
        "debian" => "Debian base, zstd, to root file system, against `zstd -dc` into `sha256sum`",
        "modules" => "60,000 small files, zstd, against `zstd -dc` into `sha256sum`",
        _ => "six layers of 800 MB, zstd, against `zstd -dc` into `sha256sum`",
    }
}

fn peer_row(sample: &Sample) -> &'static str {
    match sample.name {
        "debian" => "Debian base, gzip, against the quickest of other tools",
        "modules" => "60,000 small files, gzip, against the quickest of other tools",
        _ => "six layers of 800 MB, gzip, against the quickest of other tools",
    }
}

/// A store that has nothing of the image.
struct Cold(PathBuf);

impl Cold {
    fn new(host: &Host) -> anyhow::Result<Self> {
        let root = host.directory.join("cold");
        if root.exists() {
            fs::remove_dir_all(&root)?;
        }
        Ok(Self(root))
    }

    /// firebuild on it.
    fn command(&self, host: &Host) -> Command {
        let mut command = Command::new(host.binary());
        command.arg("--root").arg(&self.0);
        command
    }

    /// Takes the image in and makes its root file system. The time, and the peak of memory in MiB.
    fn convert(
        &self,
        host: &Host,
        sample: &Sample,
        format: &str,
    ) -> anyhow::Result<(Duration, f64)> {
        let report = host.directory.join("memory");
        let mut command = Command::new("/usr/bin/time");
        command.args(["-f", "%M", "-o"]).arg(&report);
        command.arg(host.binary()).arg("--root").arg(&self.0);
        let source = format!("oci:{}:{format}", sample.layout().display());
        command.args(["image", "import", &source, "--tag", "bench/converted:1"]);
        let took = time(&mut command)?;
        let kibibytes: f64 = fs::read_to_string(&report)?.trim().parse()?;
        Ok((took, kibibytes / 1024.0))
    }
}

/// The row of a format, and the peak of memory.
fn against_decompressing(
    host: &Host,
    sample: &Sample,
    format: &str,
    (what, tool): (&'static str, &str),
) -> anyhow::Result<(Row, f64)> {
    let layers = (0..sample.layers).map(|layer| sample.archive(layer, format));
    let layers: Vec<String> = layers.map(|path| path.display().to_string()).collect();
    let script = format!(
        "for l in {}; do {tool} $l; done | sha256sum",
        layers.join(" ")
    );
    let (mut ours, mut theirs, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let cold = Cold::new(host)?;
        let (took, peak) = cold.convert(host, sample, format)?;
        ours.push(took);
        memory.push(peak);
        theirs.push(time(Command::new("sh").args(["-c", &script]))?);
    }
    let row = Row {
        what,
        figure: median_ratio(&ours, &theirs),
        bound: Bound::times(1.3),
        note: format!(
            "{:.2} s, and {:.2} s",
            median_seconds(&ours),
            median_seconds(&theirs)
        ),
    };
    Ok((row, median(&memory)))
}

/// The row of what other tools do.
fn against_peers(host: &Host, sample: &Sample, peers: &Peers) -> anyhow::Result<Row> {
    let mut ours = Vec::new();
    let mut theirs: Vec<(&'static str, Vec<Duration>)> = Vec::new();
    for _ in 0..TURNS {
        ours.push(Cold::new(host)?.convert(host, sample, "gzip")?.0);
        for (number, (name, took)) in peers.measure(host, sample)?.into_iter().enumerate() {
            match theirs.get_mut(number) {
                Some((_, all)) => all.push(took),
                None => theirs.push((name, vec![took])),
            }
        }
    }
    shell::run(
        Command::new("rm")
            .args(["-rf"])
            .arg(host.directory.join("cold")),
    )?;
    let quickest = theirs
        .iter()
        .min_by(|(_, one), (_, other)| median_seconds(one).total_cmp(&median_seconds(other)));
    let (_, quickest) = quickest.context("there are no other tools")?;
    let seconds = theirs
        .iter()
        .map(|(name, all)| format!("{:.2} s by {name}", median_seconds(all)));
    let seconds: Vec<String> = seconds.collect();
    Ok(Row {
        what: peer_row(sample),
        figure: median_ratio(&ours, quickest),
        bound: Bound::times(1.0),
        note: format!("{:.2} s; {}", median_seconds(&ours), seconds.join(", ")),
    })
}
