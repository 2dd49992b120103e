//! `firebuild kernel`: the kernels that microVMs boot.

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, Subcommand};
use firebuild_builder::progress::{Event, Progress};
use firebuild_machine::boot::{Kernel as Installed, distribution, kernel as boot};
use firebuild_store::{KernelId, Store};
use serde::Serialize;

use super::{Format, Global, baseos};
use crate::error::hinted;
use crate::terminal::{self, Table};

#[derive(Debug, Subcommand)]
pub(crate) enum Kernel {
    /// Fetch a distribution's cloud kernel
    Pull(Pull),
    /// Take a kernel in from a file
    Import(Import),
    /// List kernels
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Remove a kernel
    Rm(Rm),
}

impl Kernel {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        match self {
            Self::Pull(command) => command.run(global),
            Self::Import(command) => command.run(global),
            Self::Ls(command) => command.run(global),
            Self::Rm(command) => command.run(global),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// The distribution and its suite: `debian:bookworm`, `debian:trixie`
    distribution: String,
    /// Where packages come from; the package tool's default if none
    #[arg(long, env = "FIREBUILD_MIRROR", value_name = "URL")]
    mirror: Option<String>,
}

impl Pull {
    fn run(self, global: &Global) -> anyhow::Result<()> {
        let suite = baseos::suite(&self.distribution)?;
        let store = global.store()?;
        terminal::say(format_args!("fetching the cloud kernel of Debian {suite}"));
        let id = pull(&store, suite, self.mirror.as_deref())?;
        terminal::print(format_args!("{id}\n"))
    }
}

/// Fetches a suite's kernel into the store.
pub(crate) fn pull(store: &Store, suite: &str, mirror: Option<&str>) -> anyhow::Result<KernelId> {
    let staged = store.temporary_directory()?;
    let facts = distribution::pull(suite, mirror, staged.path())?;
    let id: KernelId = distribution::id(suite, &facts).parse()?;
    store.kernels().put(&id, staged, true)?;
    Ok(id)
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// An uncompressed ELF kernel, a bzImage, or a Debian package of a kernel
    file: PathBuf,
    /// What to call it
    #[arg(long)]
    id: KernelId,
}

impl Import {
    fn run(self, global: &Global) -> anyhow::Result<()> {
        let store = global.store()?;
        let staged = store.temporary_directory()?;
        boot::import(&self.file, staged.path())?;
        store.kernels().put(&self.id, staged, false)?;
        terminal::print(format_args!("{}\n", self.id))
    }
}

#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    release: String,
    modules: usize,
}

impl Ls {
    fn run(self, global: &Global) -> anyhow::Result<()> {
        let store = global.store()?;
        let mut listed = Vec::new();
        for id in store.kernels().list()? {
            let kernel = Installed::open(&store.kernels().get(&id)?)?;
            let facts = kernel.facts();
            listed.push(Listed {
                id: id.to_string(),
                release: facts.release.clone(),
                modules: facts.modules.len(),
            });
        }
        if self.format == Format::Json {
            return terminal::print_json(&listed);
        }
        let mut table = Table::new(&["ID", "RELEASE", "MODULES"]);
        for kernel in listed {
            table.row(vec![kernel.id, kernel.release, kernel.modules.to_string()]);
        }
        terminal::print(table)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// The kernel
    id: KernelId,
}

impl Rm {
    fn run(self, global: &Global) -> anyhow::Result<()> {
        Ok(global.store()?.kernels().remove(&self.id)?)
    }
}

/// The kernel to boot: the one that was named, or the newest installed one; the first time, one is
/// fetched.
pub(crate) fn choose(
    store: &Store,
    wanted: Option<&KernelId>,
    progress: &dyn Progress,
) -> anyhow::Result<KernelId> {
    if let Some(id) = wanted {
        store.kernels().get(id)?;
        return Ok(id.clone());
    }
    let mut installed = store.kernels().list()?;
    match (installed.pop(), installed.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(last), false) => {
            installed.push(last);
            let names: Vec<String> = installed.iter().map(ToString::to_string).collect();
            Err(hinted(
                format!("several kernels are installed: {}", names.join(", ")),
                "choose one with `--kernel ID` or FIREBUILD_KERNEL",
            ))
        }
        (None, _) => first(store, progress),
    }
}

/// Fetches a kernel for somebody who has none.
fn first(store: &Store, progress: &dyn Progress) -> anyhow::Result<KernelId> {
    let (source, began) = ("the cloud kernel of Debian bookworm", Instant::now());
    progress.event(Event::Fetching {
        source,
        bytes: 0,
        size: None,
    });
    let mirror = std::env::var("FIREBUILD_MIRROR").ok();
    let id = pull(store, "bookworm", mirror.as_deref())?;
    let file = fs_err::metadata(store.kernels().get(&id)?.join("vmlinux"));
    progress.event(Event::Fetched {
        source,
        bytes: file.ok().map(|file| file.len()),
        duration: began.elapsed(),
    });
    Ok(id)
}
