//! A root file system from layers, against `mke2fs -d` on the same tree, extracted before.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use fs_err as fs;

use super::BASE;
use super::host::{Host, time};
use super::report::{Bound, Row};
use super::statistics::{median_ratio, median_seconds};
use super::vm::Detached;
use crate::shell;

const TURNS: usize = 7;

pub(super) fn measure(host: &Host) -> anyhow::Result<Vec<Row>> {
    let tree = extract(host)?;
    let image = root_of_base(host)?;
    let size = format!("{}k", fs::metadata(&image)?.len() / 1024);
    let output = host.directory.join("mke2fs.img");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        fs::remove_file(&image)?;
        ours.push(make(host, &image)?);
        if output.exists() {
            fs::remove_file(&output)?;
        }
        let mut mke2fs = Command::new("mke2fs");
        mke2fs
            .args(["-q", "-t", "ext4", "-d"])
            .arg(&tree)
            .arg(&output)
            .arg(&size);
        theirs.push(time(&mut mke2fs)?);
    }
    fs::remove_file(&output)?;
    fs::remove_dir_all(&tree)?;
    Ok(vec![Row {
        what: "root file system from the store's layers, against `mke2fs -d`",
        figure: median_ratio(&ours, &theirs),
        bound: Bound::times(1.0),
        note: format!(
            "{:.0} ms, and {:.0} ms by `mke2fs`",
            median_seconds(&ours) * 1000.0,
            median_seconds(&theirs) * 1000.0
        ),
    }])
}

fn extract(host: &Host) -> anyhow::Result<PathBuf> {
    let archive = host.directory.join("base.tar");
    let mut export = host.command();
    export
        .args(["image", "export", BASE, "--type", "rootfs-tar", "-o"])
        .arg(&archive);
    shell::output(&mut export)?;
    let tree = host.directory.join("extracted");
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    fs::create_dir_all(&tree)?;
    shell::run(
        Command::new("tar")
            .arg("-xpf")
            .arg(&archive)
            .arg("-C")
            .arg(&tree),
    )?;
    fs::remove_file(&archive)?;
    Ok(tree)
}

/// The file that is the base's root file system in the store.
fn root_of_base(host: &Host) -> anyhow::Result<PathBuf> {
    let vm = Detached::start(host, BASE, &["sleep", "600"])?;
    let key = vm
        .root()
        .context("the record does not tell the root file system")?;
    vm.stop()?;
    Ok(host.directory.join(format!("v1/rootfs/{key}.img")))
}

/// The first `run` of an image makes its root file system before it looks for its kernel; so with
/// a kernel that is not there, this is all that it does.
fn make(host: &Host, image: &std::path::Path) -> anyhow::Result<Duration> {
    let mut run = host.command();
    run.args(["run", "--rm", "--kernel", "none-of-these", BASE]);
    let start = Instant::now();
    let output = run.output()?;
    let took = start.elapsed();
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success(), "a VM without a kernel ran");
    ensure!(
        image.exists(),
        "`run` did not make the root file system: {said}"
    );
    Ok(took)
}
