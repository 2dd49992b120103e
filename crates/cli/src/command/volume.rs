//! `firebuild volume`: disks that outlive microVMs.

use clap::{Args, Subcommand};
use firebuild_core::ByteSize;
use firebuild_machine::volumes;
use firebuild_store::{Store, VolumeEntry, VolumeName, VolumeUsage};
use jiff::Timestamp;
use serde::Serialize;

use super::{Format, Global, lifecycle};
use crate::terminal::{self, Table};

#[derive(Debug, Subcommand)]
pub(crate) enum Volume {
    /// Make a volume
    Create(Create),
    /// List volumes
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Show everything about volumes, as JSON
    Inspect(Inspect),
    /// Remove volumes, with all that is on them
    #[command(visible_alias = "remove")]
    Rm(Rm),
    /// Remove all volumes that no microVM has, running or stopped
    Prune(Prune),
}

#[derive(Debug, Args)]
#[command(after_help = "\
`firebuild run -v NAME:/path` mounts it, and makes it if it is not there. What the image has in /path
is on a new volume at first.")]
pub(crate) struct Create {
    /// How much it can hold; it takes room only for what is written
    #[arg(long, value_name = "SIZE", default_value = "10G")]
    size: ByteSize,
    /// What to call it
    name: VolumeName,
}

#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// Print nothing but names
    #[arg(long, short)]
    quiet: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// Which
    #[arg(required = true)]
    names: Vec<VolumeName>,
    /// How to print: always JSON
    #[arg(long, value_enum, default_value_t = Format::Json, hide = true)]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// Which
    #[arg(required = true)]
    names: Vec<VolumeName>,
    /// Do not mind those that are not there
    #[arg(long, short)]
    force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Prune {
    /// Only show what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Accepted because people type it: nothing is asked
    #[arg(long, short, hide = true)]
    force: bool,
}

/// A volume, as JSON shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown {
    name: VolumeName,
    /// In bytes.
    size: u64,
    /// On this host's disk, in bytes.
    taken: u64,
    created: String,
    usage: &'static str,
    /// The VMs that have it, running or not.
    used_by: Vec<String>,
    path: std::path::PathBuf,
}

impl Volume {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let store = lifecycle::host(global)?.store;
        match self {
            Self::Create(command) => command.run(&store),
            Self::Ls(command) => command.run(&store),
            Self::Inspect(command) => command.run(&store),
            Self::Rm(command) => command.run(&store),
            Self::Prune(command) => command.run(&store),
        }
    }
}

impl Create {
    fn run(self, store: &Store) -> anyhow::Result<()> {
        let made = volumes::create(store, &self.name, self.size)?;
        if !made {
            let size = store.volumes().get(&self.name)?.size;
            if size != self.size {
                terminal::say(format_args!(
                    "volume `{}` is there already, and holds {size}",
                    self.name
                ));
            }
        }
        terminal::print(format_args!("{}\n", self.name))
    }
}

impl Ls {
    fn run(self, store: &Store) -> anyhow::Result<()> {
        let all = store.volumes().list()?;
        if self.quiet {
            return all
                .iter()
                .try_for_each(|entry| terminal::print(format_args!("{}\n", entry.name)));
        }
        let shown: anyhow::Result<Vec<Shown>> = all
            .into_iter()
            .map(|entry| Shown::of(store, entry))
            .collect();
        let shown = shown?;
        if self.format == Format::Json {
            return terminal::print_json(&shown);
        }
        let mut table = Table::new(&["NAME", "SIZE", "TAKEN", "USAGE", "VMS"]);
        for volume in &shown {
            table.row(vec![
                volume.name.to_string(),
                ByteSize(volume.size).to_string(),
                ByteSize(volume.taken).to_string(),
                volume.usage.to_owned(),
                volume.used_by.join(" "),
            ]);
        }
        terminal::print(table)
    }
}

impl Inspect {
    fn run(self, store: &Store) -> anyhow::Result<()> {
        let shown = self
            .names
            .iter()
            .map(|name| Shown::of(store, store.volumes().get(name)?));
        let shown: anyhow::Result<Vec<Shown>> = shown.collect();
        terminal::print_json(&shown?)
    }
}

impl Rm {
    /// Goes on after an error, and tells the first.
    fn run(self, store: &Store) -> anyhow::Result<()> {
        let mut trouble = None;
        for name in &self.names {
            match volumes::remove(store, name) {
                Ok(()) => terminal::print(format_args!("{name}\n"))?,
                Err(firebuild_machine::Error::Store(firebuild_store::Error::NoVolume(_)))
                    if self.force => {}
                Err(error) => {
                    if let Some(earlier) = trouble.replace(anyhow::Error::from(error)) {
                        crate::error::report(&earlier);
                    }
                }
            }
        }
        trouble.map_or(Ok(()), Err)
    }
}

impl Prune {
    fn run(self, store: &Store) -> anyhow::Result<()> {
        let mut freed = 0;
        if !self.dry_run {
            store.volumes().sweep()?;
        }
        for entry in store.volumes().list()? {
            let is_used = entry.usage != VolumeUsage::Free;
            if is_used || !volumes::users(store, &entry.name)?.is_empty() {
                continue;
            }
            if !self.dry_run {
                match volumes::remove(store, &entry.name) {
                    Ok(()) => {}
                    // Taken in the meantime.
                    Err(error) => {
                        crate::error::report(&error.into());
                        continue;
                    }
                }
            }
            freed += entry.taken.0;
            terminal::print(format_args!("{}\n", entry.name))?;
        }
        let word = if self.dry_run { "would free" } else { "freed" };
        terminal::say(format_args!("{word} {}", ByteSize(freed)));
        Ok(())
    }
}

impl Shown {
    fn of(store: &Store, entry: VolumeEntry) -> anyhow::Result<Self> {
        let created = i64::try_from(entry.created).unwrap_or_default();
        Ok(Self {
            used_by: volumes::users(store, &entry.name)?,
            size: entry.size.0,
            taken: entry.taken.0,
            created: Timestamp::from_second(created)?.to_string(),
            usage: match entry.usage {
                VolumeUsage::Free => "free",
                VolumeUsage::Read => "read",
                VolumeUsage::Written => "written",
            },
            path: entry.path,
            name: entry.name,
        })
    }
}
