//! `firebuild build cache`: what earlier builds left for later ones.

use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use firebuild_core::ByteSize;
use firebuild_store::{CacheEntry, CacheRecord, Collected, DownloadEntry, PrunePolicy};
use serde::Serialize;

use super::super::{Format, Global};
use crate::terminal::{self, Table};

#[derive(Debug, Subcommand)]
pub(crate) enum Cache {
    /// List the results of earlier steps, and what was fetched for them
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Remove results of earlier steps and what was fetched for them, those that were not used for
    /// longest first
    ///
    /// Without a limit, everything goes. What an image has or a running build uses stays in any
    /// case.
    Prune(Prune),
}

impl Cache {
    pub(crate) fn run(&self, global: &Global) -> anyhow::Result<()> {
        match self {
            Self::Ls(command) => command.run(global),
            Self::Prune(command) => command.run(global),
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
struct Shown<'a> {
    key: String,
    layer: String,
    size: u64,
    /// Seconds since 1970.
    created: u64,
    /// Seconds since 1970.
    last_used: u64,
    step: &'a str,
}

impl Ls {
    fn run(&self, global: &Global) -> anyhow::Result<()> {
        let store = global.store()?;
        let mut entries = store.cache().list()?;
        let fetched = store.downloads().list()?;
        entries.extend(fetched.into_iter().map(as_result));
        entries.sort_by_key(|entry| (std::cmp::Reverse(entry.last_used), entry.key));
        if self.format == Format::Json {
            let shown: Vec<Shown<'_>> = entries.iter().map(shown).collect();
            return terminal::print_json(&shown);
        }
        let now = SystemTime::now();
        let mut table = Table::new(&["LAST USED", "SIZE", "STEP"]);
        for entry in &entries {
            let age = now.duration_since(entry.last_used).unwrap_or_default();
            table.row(vec![
                format!("{} ago", span(age)),
                ByteSize(entry.record.size).to_string(),
                shortened(&entry.record.description),
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

fn shown(entry: &CacheEntry) -> Shown<'_> {
    let last_used = entry.last_used.duration_since(SystemTime::UNIX_EPOCH);
    Shown {
        key: entry.key.to_string(),
        layer: entry.record.layer.to_string(),
        size: entry.record.size,
        created: entry.record.created,
        last_used: last_used.unwrap_or_default().as_secs(),
        step: &entry.record.description,
    }
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
