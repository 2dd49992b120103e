//! A build of twenty instructions of which every one is cached.

use std::fmt::Write as _;

use anyhow::ensure;
use fs_err as fs;

use super::BASE;
use super::host::{Host, time};
use super::report::{Bound, Row};
use super::statistics::median_seconds;
use crate::shell;

const TURNS: usize = 15;

pub(super) fn measure(host: &Host) -> anyhow::Result<Vec<Row>> {
    let context = host.directory.join("context");
    fs::create_dir_all(&context)?;
    let mut text =
        format!("FROM {BASE}\nWORKDIR /srv\nENV MODE=bench\nLABEL what=bench\nUSER root\n");
    for number in 0..5 {
        fs::write(
            context.join(format!("file{number}")),
            vec![number; 64 << 10],
        )?;
        let _ = writeln!(text, "COPY file{number} /srv/");
        let _ = writeln!(text, "ENV STEP_{number}=done");
        let _ = writeln!(text, "RUN cat file{number} > copy{number}");
    }
    ensure!(
        text.lines().count() == 20,
        "these are not twenty instructions"
    );
    fs::write(context.join("Dockerfile"), text)?;
    let build = || {
        let mut command = host.command();
        command
            .args(["build", "-t", "bench/cached:1"])
            .arg(&context);
        command
    };
    shell::run(&mut build())?;
    let mut turns = Vec::new();
    for _ in 0..TURNS {
        // No VMM can be found without a path: this build starts none.
        turns.push(time(build().env("PATH", "/nonexistent"))?);
    }
    Ok(vec![Row {
        what: "`build` with 20 instructions, all cached",
        figure: median_seconds(&turns) * 1000.0,
        bound: Bound::milliseconds(50.0),
        note: "without a VM: there is none to be found in `PATH`".to_owned(),
    }])
}
