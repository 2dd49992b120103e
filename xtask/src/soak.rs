//! Many VMs, one after the other and at once: what the host has of open files, memory, disk, devices and
//! processes is back where it was afterwards.
//!
//! They are real VMs. How fast they come does not matter here: under emulation each takes some
//! seconds.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;
use serde_json::Value;

use crate::{packages, shell};

const BASE: &str = "debian:bookworm-slim";

/// MiB of a tiny VM: with 64, Debian's kernel ends before it has unpacked its initramfs.
const MEMORY_OF_A_VM: &str = "96";

/// How much memory may be in other hands afterwards, in MiB: a host is never quite still.
const MEMORY: i64 = 64;

/// How long the kernel may take to free what nobody has any more.
const SETTLING: Duration = Duration::from_secs(30);

/// How much more disk the store may take afterwards, in KiB: directories do not shrink.
const DISK: i64 = 1024;

/// How many open files the host may have more: others open some, too.
const FILES: i64 = 64;

/// Starts and stops VMs, and tells what is left.
#[derive(Debug, Args)]
pub(crate) struct Soak {
    /// How many are started and stopped
    #[arg(long, default_value_t = 500)]
    count: usize,
    /// How many of them at once
    #[arg(long, default_value_t = 4)]
    parallel: usize,
    /// How many run at the same time before that, and are listed and stopped in parallel
    #[arg(long, default_value_t = 50)]
    crowd: usize,
    /// This `firebuild`, instead of one that is built for it
    #[arg(long)]
    binary: Option<PathBuf>,
}

/// What of the host firebuild could keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Used {
    /// Open files of all processes.
    files: i64,
    /// Memory that is not available, in MiB.
    memory: i64,
    /// The store's disk, in KiB.
    disk: i64,
    /// Network devices.
    devices: i64,
    /// Network namespaces with a name.
    namespaces: i64,
    /// Mounts.
    mounts: i64,
    /// Processes of firebuild and its VMMs.
    processes: i64,
}

/// The built command and its store.
#[derive(Debug)]
struct Firebuild {
    binary: PathBuf,
    root: PathBuf,
}

impl Soak {
    /// Does it all.
    ///
    /// # Errors
    /// A command fails, or something is left.
    pub(crate) fn run(&self, root: &Path) -> anyhow::Result<()> {
        packages::install(&packages::DEMO)?;
        let binary = match &self.binary {
            Some(binary) => std::path::absolute(binary)?,
            None => {
                shell::cargo(&["build", "--release", "--package", "firebuild"])?;
                root.join("target/release/firebuild")
            }
        };
        let firebuild = Firebuild {
            binary,
            root: root.join("target/soak"),
        };
        firebuild.prepare()?;
        // What is made once is there.
        firebuild.cycle(0)?;
        firebuild.ok(&["purge"])?;
        let before = firebuild.used()?;
        shell::say(&format!("before: {before}"));
        let begin = Instant::now();
        self.crowd(&firebuild)?;
        let after = firebuild.used_after(&before)?;
        shell::say(&format!(
            "after {} at once ({:.0} s): {after}",
            self.crowd,
            begin.elapsed().as_secs_f64()
        ));
        before.is_back(&after)?;
        let begin = Instant::now();
        in_parallel(self.count, self.parallel, |number| firebuild.cycle(number))?;
        firebuild.ok(&["purge"])?;
        let after = firebuild.used_after(&before)?;
        shell::say(&format!(
            "after {} starts and stops ({:.0} s): {after}",
            self.count,
            begin.elapsed().as_secs_f64()
        ));
        before.is_back(&after)
    }

    /// Many at the same time.
    fn crowd(&self, firebuild: &Firebuild) -> anyhow::Result<()> {
        let name = |number: usize| format!("crowd-{number}");
        let begin = Instant::now();
        in_parallel(self.crowd, self.crowd, |number| {
            firebuild.start(&name(number)).map(drop)
        })?;
        let started = begin.elapsed().as_secs_f64();
        let listed: Value = serde_json::from_str(&firebuild.ok(&["ls", "--format", "json"])?)?;
        let running = listed.as_array().map_or(0, Vec::len);
        ensure!(
            running == self.crowd,
            "{running} of {} VMs are listed",
            self.crowd
        );
        let begin = Instant::now();
        in_parallel(self.crowd, self.crowd, |number| {
            firebuild.ok(&["stop", &name(number)]).map(drop)
        })?;
        let stopped = begin.elapsed().as_secs_f64();
        shell::say(&format!(
            "{} VMs were started in {started:.0} s and stopped in {stopped:.0} s",
            self.crowd
        ));
        firebuild.ok(&["purge"]).map(drop)
    }
}

impl Firebuild {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("--root").arg(&self.root).args(words);
        command
    }

    fn ok(&self, words: &[&str]) -> anyhow::Result<String> {
        shell::quiet(&mut self.command(words))
    }

    fn prepare(&self) -> anyhow::Result<()> {
        if !self.ok(&["kernel", "ls"])?.contains("debian-bookworm") {
            self.ok(&["kernel", "pull", "debian:bookworm"])?;
        }
        if !self.ok(&["images", "--format", "json"])?.contains(BASE) {
            self.ok(&["baseos", "--bootstrap", "debian:bookworm", "--tag", BASE])?;
        }
        Ok(())
    }

    fn start(&self, name: &str) -> anyhow::Result<String> {
        // Many at once under emulation take their time.
        let patience = "--bootstrap-initial-communication-timeout=1800";
        let workload = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done";
        self.ok(&[
            "run",
            "-d",
            "--name",
            name,
            "--mem",
            MEMORY_OF_A_VM,
            patience,
            BASE,
            "--",
            "sh",
            "-c",
            workload,
        ])
    }

    /// One VM from its start to its end.
    fn cycle(&self, number: usize) -> anyhow::Result<()> {
        let name = format!("soak-{number}");
        self.start(&name)?;
        self.ok(&["stop", &name])?;
        self.ok(&["rm", &name])?;
        Ok(())
    }

    /// What is used once all is back, or after half a minute: the kernel frees network namespaces and
    /// what belongs to them some seconds after they are gone, and tells nobody.
    fn used_after(&self, before: &Used) -> anyhow::Result<Used> {
        let begin = Instant::now();
        loop {
            let used = self.used()?;
            if before.is_back(&used).is_ok() || begin.elapsed() > SETTLING {
                return Ok(used);
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    fn used(&self) -> anyhow::Result<Used> {
        let field = |path: &str, index: usize| -> anyhow::Result<i64> {
            let text = fs_err::read_to_string(path)?;
            let word = text.split_whitespace().nth(index);
            Ok(word.context("a file of numbers is short")?.parse()?)
        };
        let memory = fs_err::read_to_string("/proc/meminfo")?;
        let memory = |name: &str| -> anyhow::Result<i64> {
            let line = memory.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next());
            Ok(number.context("no such memory")?.parse()?)
        };
        let disk = shell::quiet(Command::new("du").arg("-sk").arg(&self.root))?;
        let disk = disk.split_whitespace().next().unwrap_or_default();
        Ok(Used {
            files: field("/proc/sys/fs/file-nr", 0)?,
            memory: (memory("MemTotal:")? - memory("MemAvailable:")?) / 1024,
            disk: disk.parse()?,
            devices: count("/sys/class/net")?,
            namespaces: count("/run/netns").unwrap_or(0),
            mounts: i64::try_from(
                fs_err::read_to_string("/proc/self/mountinfo")?
                    .lines()
                    .count(),
            )?,
            processes: self.processes()?,
        })
    }

    /// Processes that have the store among their arguments, and VMMs.
    fn processes(&self) -> anyhow::Result<i64> {
        let root = self.root.display().to_string();
        let mut found = 0;
        for entry in fs_err::read_dir("/proc")? {
            let line = fs_err::read(entry?.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            found += i64::from(line.contains(&root) && line.contains("supervise"));
        }
        Ok(found)
    }
}

fn count(directory: &str) -> anyhow::Result<i64> {
    Ok(i64::try_from(fs_err::read_dir(directory)?.count())?)
}

/// Does something so many times, some of them at once. The first error, once all have ended.
fn in_parallel(
    count: usize,
    parallel: usize,
    work: impl Fn(usize) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<()> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let one = || -> anyhow::Result<()> {
        loop {
            let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if number >= count {
                return Ok(());
            }
            work(number)?;
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..parallel.min(count)).map(|_| scope.spawn(one)).collect();
        let mut results = threads.into_iter().map(|thread| match thread.join() {
            Ok(result) => result,
            Err(_) => Err(anyhow::anyhow!("a thread panicked")),
        });
        results.try_for_each(|result| result)
    })
}

impl Used {
    /// Whether all is back where it was, within what others on the host do.
    fn is_back(&self, now: &Self) -> anyhow::Result<()> {
        for (what, more, bound) in [
            ("open files", now.files - self.files, FILES),
            ("MiB of memory", now.memory - self.memory, MEMORY),
            ("KiB of disk", now.disk - self.disk, DISK),
            ("network devices", now.devices - self.devices, 0),
            ("network namespaces", now.namespaces - self.namespaces, 0),
            ("mounts", now.mounts - self.mounts, 0),
            ("supervisors", now.processes - self.processes, 0),
        ] {
            ensure!(
                more <= bound,
                "{more} {what} more than before; {bound} would be none"
            );
        }
        Ok(())
    }
}

impl std::fmt::Display for Used {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            files,
            memory,
            disk,
            devices,
            namespaces,
            mounts,
            processes,
        } = self;
        write!(
            f,
            "{files} open files, {memory} MiB of memory, {disk} KiB of disk, {devices} devices, \
             {namespaces} namespaces, {mounts} mounts, {processes} supervisors"
        )
    }
}
