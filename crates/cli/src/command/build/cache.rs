//! `firebuild build cache`: what earlier builds left for later ones.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use clap::{Args, Subcommand};
use firebuild_builder::{export_cache_mount, import_cache_mount};
use firebuild_core::ByteSize;
use firebuild_store::{
    CacheDiskEntry, CacheEntry, CacheRecord, Collected, DownloadEntry, PrunePolicy,
};
use serde::Serialize;

use super::super::machine::{BootstrapArguments, VmArguments};
use super::super::{Format, Global, block_on};
use crate::error::hinted;
use crate::progress;
use crate::terminal::{self, Table};

#[derive(Debug, Subcommand)]
pub(crate) enum Cache {
    /// List the results of earlier steps, what was fetched for them, and cache mounts
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Remove results of earlier steps, what was fetched for them, and cache mounts, those that were
    /// not used for longest first
    ///
    /// Without a limit, everything goes. What an image has or a running build uses stays in any
    /// case.
    Prune(Prune),
    /// Remove a cache mount
    Rm(Rm),
    /// Write what a cache mount holds to an archive (tar); a microVM reads it
    Export(Box<Export>),
    /// Make a cache mount of an archive (tar, compressed or not); a microVM writes it
    Import(Box<Import>),
}

impl Cache {
    pub(crate) fn run(&self, global: &Global) -> anyhow::Result<()> {
        match self {
            Self::Ls(command) => command.run(global),
            Self::Prune(command) => command.run(global),
            Self::Rm(command) => command.run(global),
            Self::Export(command) => command.run(global),
            Self::Import(command) => command.run(global),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// A record, as JSON shows it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown {
    #[serde(flatten)]
    what: What,
    size: u64,
    /// Seconds since 1970.
    created: u64,
    /// Seconds since 1970.
    last_used: u64,
}

#[derive(Serialize)]
#[serde(tag = "Kind", rename_all = "kebab-case")]
enum What {
    #[serde(rename_all = "PascalCase")]
    Step {
        key: String,
        layer: String,
        step: String,
    },
    #[serde(rename_all = "PascalCase")]
    Mount {
        id: String,
        number: u32,
        in_use: bool,
    },
}

impl What {
    /// For people.
    fn text(&self) -> String {
        match self {
            Self::Step { step, .. } => shortened(step),
            Self::Mount { id, number, in_use } => {
                let number = match number {
                    0 => String::new(),
                    number => format!(" (disk {number})"),
                };
                let used = if *in_use { ", in use" } else { "" };
                shortened(&format!("cache mount `{id}`{number}{used}"))
            }
        }
    }
}

impl Ls {
    fn run(&self, global: &Global) -> anyhow::Result<()> {
        let store = global.store()?;
        let mut entries = store.cache().list()?;
        let fetched = store.downloads().list()?;
        entries.extend(fetched.into_iter().map(as_result));
        let mounts = store.cache_disks().list()?.into_iter().map(mount);
        let mut all: Vec<(SystemTime, Shown)> =
            entries.into_iter().map(step).chain(mounts).collect();
        all.sort_by_key(|(last_used, _)| std::cmp::Reverse(*last_used));
        if self.format == Format::Json {
            let all: Vec<Shown> = all.into_iter().map(|(_, shown)| shown).collect();
            return terminal::print_json(&all);
        }
        let now = SystemTime::now();
        let mut table = Table::new(&["LAST USED", "SIZE", "WHAT"]);
        for (last_used, shown) in &all {
            let age = now.duration_since(*last_used).unwrap_or_default();
            table.row(vec![
                format!("{} ago", span(age)),
                ByteSize(shown.size).to_string(),
                shown.what.text(),
            ]);
        }
        terminal::print(table)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Prune {
    /// Let results of this size together stay
    #[arg(long, visible_alias = "keep-storage", value_name = "SIZE")]
    keep_bytes: Option<ByteSize>,
    /// Remove only what was not used for this long: `90s`, `30m`, `24h`, `7d`
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    older_than: Option<Duration>,
}

impl Prune {
    fn run(&self, global: &Global) -> anyhow::Result<()> {
        let pruned = global.store()?.prune_cache(PrunePolicy {
            keep: self.keep_bytes,
            older_than: self.older_than,
        })?;
        terminal::say(format_args!("removed {} results", pruned.records));
        if pruned.disk_bytes > 0 {
            let size = ByteSize(pruned.disk_bytes);
            terminal::say(format_args!("freed {size} of cache mounts"));
        }
        match pruned.collected {
            Collected::Freed { bytes, .. } => {
                terminal::say(format_args!("freed {}", ByteSize(bytes)));
            }
            Collected::Busy => terminal::say(
                "a build or a starting VM is at work: the room is freed by the next `firebuild build cache prune` or `firebuild purge`",
            ),
        }
        Ok(())
    }
}

#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// What it is known by: the mount's `id`, or its target
    id: String,
}

impl Rm {
    fn run(&self, global: &Global) -> anyhow::Result<()> {
        let store = global.store()?;
        let known = store.cache_disks().list()?;
        let mut disks = known.iter().filter(|disk| disk.id == self.id).peekable();
        if disks.peek().is_none() {
            return Err(hinted(
                format!("there is no cache mount `{}`", self.id),
                "`firebuild build cache ls` lists those that there are",
            ));
        }
        for disk in disks {
            if !store.cache_disks().remove(&disk.id, disk.number)? {
                return Err(hinted(
                    format!("cache mount `{}` is in use", self.id),
                    "wait until the build that uses it has ended",
                ));
            }
        }
        terminal::print(format_args!("{}\n", self.id))
    }
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// What it is known by: the mount's `id`, or its target
    id: String,
    /// The archive; standard output if none
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    vm: VmArguments,
    #[command(flatten)]
    bootstrap: BootstrapArguments,
}

impl Export {
    fn run(&self, global: &Global) -> anyhow::Result<()> {
        let store = global.store()?;
        let options = self.vm.options(&store, &self.bootstrap)?;
        let shown = progress::shown(progress::Style::Plain, Instant::now());
        // An older archive stays until the new one is whole.
        let partial = self.output.as_ref().map(|path| {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".partial-{}", std::process::id()));
            PathBuf::from(name)
        });
        let mut output: Box<dyn Write> = match &partial {
            Some(path) => Box::new(fs_err::File::create_new(path)?),
            None => Box::new(std::io::stdout().lock()),
        };
        let exported = block_on(export_cache_mount(
            &store,
            &options,
            shown.as_ref(),
            &self.id,
            &mut output,
        ))?;
        if let (Some(partial), Some(path)) = (partial, &self.output) {
            if exported.is_ok() {
                fs_err::rename(partial, path)?;
            } else {
                // The error of the export is the one that counts.
                let _ = fs_err::remove_file(partial);
            }
        }
        Ok(exported?)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// What it will be known by: the mount's `id`, or its target
    id: String,
    /// The archive; standard input if it is `-`
    file: PathBuf,
    #[command(flatten)]
    vm: VmArguments,
    #[command(flatten)]
    bootstrap: BootstrapArguments,
}

impl Import {
    fn run(&self, global: &Global) -> anyhow::Result<()> {
        let store = global.store()?;
        let options = self.vm.options(&store, &self.bootstrap)?;
        let shown = progress::shown(progress::Style::Plain, Instant::now());
        let input: Box<dyn Read> = if self.file.as_os_str() == "-" {
            Box::new(std::io::stdin().lock())
        } else {
            Box::new(fs_err::File::open(&self.file)?)
        };
        let imported = import_cache_mount(&store, &options, shown.as_ref(), &self.id, input);
        block_on(imported)??;
        terminal::print(format_args!("{}\n", self.id))
    }
}

/// What was fetched, as if that had been a step.
fn as_result(entry: DownloadEntry) -> CacheEntry {
    let record = entry.record;
    CacheEntry {
        key: entry.key,
        record: CacheRecord {
            layer: record.content,
            size: record.size,
            created: record.fetched,
            description: format!("fetched {}", record.address),
            duration_ms: None,
        },
        last_used: entry.last_used,
    }
}

fn step(entry: CacheEntry) -> (SystemTime, Shown) {
    let what = What::Step {
        key: entry.key.to_string(),
        layer: entry.record.layer.to_string(),
        step: entry.record.description,
    };
    let shown = Shown {
        what,
        size: entry.record.size,
        created: entry.record.created,
        last_used: seconds(entry.last_used),
    };
    (entry.last_used, shown)
}

fn mount(entry: CacheDiskEntry) -> (SystemTime, Shown) {
    let what = What::Mount {
        id: entry.id,
        number: entry.number,
        in_use: entry.in_use,
    };
    let shown = Shown {
        what,
        size: entry.size.0,
        created: entry.created,
        last_used: seconds(entry.last_used),
    };
    (entry.last_used, shown)
}

fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// A text that fits into a table.
fn shortened(text: &str) -> String {
    const MOST: usize = 70;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    let start: String = text.chars().take(MOST - 1).collect();
    format!("{start}…")
}

/// A duration in its largest unit.
fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        "d" => Some(86_400),
        _ => None,
    };
    let seconds = number.parse::<u64>().ok().zip(factor);
    seconds
        .and_then(|(number, factor)| number.checked_mul(factor))
        .map(Duration::from_secs)
        .ok_or_else(|| "a number and a unit are needed: s, m, h or d, as in `24h`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        for (text, seconds) in [
            ("0s", 0),
            ("90s", 90),
            ("30m", 1800),
            ("24h", 86_400),
            ("7d", 604_800),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "1", "s", "1w", "-1s", "99999999999999999999d", "1 d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
