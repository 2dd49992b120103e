//! Builds: what is cached, what only copies, what runs, and stages side by side.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use fs_err as fs;

use super::BASE;
use super::buildah::{BASE_NAME, Buildah};
use super::host::{Host, time};
use super::report::{Bound, Row};
use super::statistics::{median_ratio, median_seconds};
use crate::shell;

const TURNS: usize = 15;

/// Turns of what takes seconds.
const SLOW_TURNS: usize = 5;

/// Turns of what takes a minute.
const SLOWEST_TURNS: usize = 3;

/// Files in the large context.
const FILES: usize = 10_000;

/// Twenty instructions, every one of them cached.
pub(super) fn cached(host: &Host) -> anyhow::Result<Vec<Row>> {
    let context = host.directory.join("context");
    let file = twenty(&context, BASE, "Dockerfile")?;
    let build = || build(host, &context, &file);
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

/// The same in a context of ten thousand files, all of which one instruction copies, against
/// buildah.
pub(super) fn cached_in_large_context(host: &Host) -> anyhow::Result<Vec<Row>> {
    let buildah = Buildah::prepare(host)?;
    let context = large_context(host)?;
    let ours = twenty(&context, BASE, "Dockerfile")?;
    let theirs = twenty(&context, BASE_NAME, "Dockerfile.other")?;
    shell::run(&mut build(host, &context, &ours))?;
    shell::output(&mut buildah.build(&context, &theirs, true))?;
    let (mut our_turns, mut their_turns) = (Vec::new(), Vec::new());
    for _ in 0..SLOW_TURNS {
        our_turns.push(time(&mut build(host, &context, &ours))?);
        their_turns.push(time(&mut buildah.build(&context, &theirs, true))?);
    }
    let note = side_by_side(&our_turns, &their_turns, "buildah build --layers");
    Ok(vec![
        Row {
            what: "the same in a context of 10,000 files, all of them copied",
            figure: median_seconds(&our_turns) * 1000.0,
            bound: Bound::milliseconds(100.0),
            note: String::new(),
        },
        Row {
            what: "the same against `buildah build --layers`",
            figure: median_ratio(&our_turns, &their_turns),
            bound: Bound::times(0.1),
            note,
        },
    ])
}

/// Copies and nothing else, nothing of it cached, against buildah.
pub(super) fn copies(host: &Host) -> anyhow::Result<Vec<Row>> {
    let buildah = Buildah::prepare(host)?;
    let context = large_context(host)?;
    let text = |base: &str| {
        format!(
            "FROM {base}\nCOPY files /all\nCOPY --chown=1:2 files/1* /some/\nCOPY files/2 files/3 /few/\n"
        )
    };
    let (ours, theirs) = (context.join("Copies"), context.join("Copies.other"));
    fs::write(&ours, text(BASE))?;
    fs::write(&theirs, text(BASE_NAME))?;
    let (mut our_turns, mut their_turns) = (Vec::new(), Vec::new());
    for _ in 0..SLOW_TURNS {
        our_turns.push(time(build(host, &context, &ours).arg("--no-cache"))?);
        their_turns.push(time(&mut buildah.build(&context, &theirs, false))?);
    }
    Ok(vec![Row {
        what: "`build` of COPYs only, against `buildah build --isolation chroot`",
        figure: median_ratio(&our_turns, &their_turns),
        bound: Bound::times(0.5),
        note: side_by_side(&our_turns, &their_turns, "buildah"),
    }])
}

/// What keeps a processor busy for about a second and a half under emulation, many times over.
const WORK: &str =
    "for n in $(seq COUNT); do head -c 4000000 /dev/zero | sha256sum > /dev/null; done";

/// A RUN against the same command in a VM that runs already, which times it itself.
pub(super) fn runs(host: &Host) -> anyhow::Result<Vec<Row>> {
    let context = host.directory.join("runs");
    fs::create_dir_all(&context)?;
    let file = context.join("Dockerfile");
    let work = WORK.replace("COUNT", &minute(host)?.to_string());
    fs::write(&file, format!("FROM {BASE}\nRUN {work}\n"))?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..SLOWEST_TURNS {
        ours.push(time(build(host, &context, &file).arg("--no-cache"))?);
        theirs.push(inside(host, &work)?);
    }
    Ok(vec![Row {
        what: "a RUN of more than a minute, boot included, against the same command in a VM that runs already",
        figure: median_ratio(&ours, &theirs),
        bound: Bound::times(1.15),
        note: side_by_side(&ours, &theirs, "in the VM"),
    }])
}

/// Two stages of equal length, at the same time and one after the other.
pub(super) fn stages(host: &Host) -> anyhow::Result<Vec<Row>> {
    let context = host.directory.join("stages");
    fs::create_dir_all(&context)?;
    let file = context.join("Dockerfile");
    let work = WORK.replace("COUNT", &(minute(host)? / 4).to_string());
    fs::write(
        &file,
        format!(
            "FROM {BASE} AS one\nRUN {work}; echo 1 > /one\nFROM {BASE} AS two\nRUN {work}; echo 2 > /two\n\
             FROM scratch\nCOPY --from=one /one /\nCOPY --from=two /two /\n"
        ),
    )?;
    let (mut together, mut in_turn) = (Vec::new(), Vec::new());
    for _ in 0..SLOWEST_TURNS {
        let jobs = |jobs| {
            let mut command = build(host, &context, &file);
            command.args(["--no-cache", "--jobs", jobs]);
            command
        };
        together.push(time(&mut jobs("2"))?);
        in_turn.push(time(&mut jobs("1"))?);
    }
    Ok(vec![Row {
        what: "two independent stages of equal length, at the same time against in turn",
        figure: median_ratio(&together, &in_turn),
        bound: Bound::times(0.65),
        note: side_by_side(&together, &in_turn, "with `--jobs 1`"),
    }])
}

/// How often the work is to be done so that it takes a little more than a minute.
fn minute(host: &Host) -> anyhow::Result<u32> {
    const SAMPLE: u32 = 8;
    let took = inside(host, &WORK.replace("COUNT", &SAMPLE.to_string()))?;
    let count = 66.0 * f64::from(SAMPLE) / took.as_secs_f64();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a small positive number"
    )]
    Ok(count.clamp(4.0, 10_000.0) as u32)
}

/// How long a shell command takes in a VM, by the VM's own clock.
fn inside(host: &Host, work: &str) -> anyhow::Result<Duration> {
    let timed = format!("date +%s%N; {work}; date +%s%N");
    let mut run = host.command();
    run.args([
        "run", "--rm", "--mem", "1024", BASE, "--", "/bin/sh", "-c", &timed,
    ]);
    let output = shell::output(&mut run)?;
    let times: Vec<u64> = output
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    let [start, end] = times[..] else {
        anyhow::bail!("the VM did not tell two times: {output}");
    };
    Ok(Duration::from_nanos(end.saturating_sub(start)))
}

fn build(host: &Host, context: &Path, file: &Path) -> Command {
    let mut command = host.command();
    command
        .args(["build", "-t", "bench/result:1", "-f"])
        .arg(file)
        .arg(context);
    command
}

/// A Dockerfile of twenty instructions, with the files that it copies.
fn twenty(context: &Path, base: &str, name: &str) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(context)?;
    let mut text = format!(
        "FROM {base}\nWORKDIR /srv\nENV MODE=bench\nLABEL what=bench\nCOPY . /srv/context/\n"
    );
    for number in 0..5 {
        let file = context.join(format!("file{number}"));
        if !file.exists() {
            fs::write(file, vec![number; 64 << 10])?;
        }
        let _ = writeln!(text, "COPY file{number} /srv/");
        let _ = writeln!(text, "ENV STEP_{number}=done");
        let _ = writeln!(text, "RUN cat file{number} > copy{number}");
    }
    ensure!(
        text.lines().count() == 20,
        "these are not twenty instructions"
    );
    let file = context.join(name);
    fs::write(&file, text)?;
    // Neither Dockerfile is part of what is built from the other.
    fs::write(context.join(".dockerignore"), "Dockerfile*\nCopies*\n")?;
    Ok(file)
}

/// A context of ten thousand files of a few hundred bytes to some kilobytes.
fn large_context(host: &Host) -> anyhow::Result<PathBuf> {
    let context = host.directory.join("large-context");
    let files = context.join("files");
    if fs::read_dir(&files).is_ok_and(|files| files.count() == 100) {
        return Ok(context);
    }
    for number in 0..FILES {
        let folder = files.join((number / 100).to_string());
        if number % 100 == 0 {
            fs::create_dir_all(&folder)?;
        }
        let line = format!("line of file {number}\n");
        fs::write(
            folder.join(number.to_string()),
            line.repeat(10 + number % 150),
        )?;
    }
    Ok(context)
}

fn side_by_side(ours: &[Duration], theirs: &[Duration], name: &str) -> String {
    format!(
        "{:.2} s, and {:.2} s {name}",
        median_seconds(ours),
        median_seconds(theirs)
    )
}
