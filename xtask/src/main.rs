//! The one entry point for firebuild's developers.
//!
//! `cargo xtask demo` shows firebuild from end to end, `cargo xtask test` runs every test. Both
//! install the Debian packages that they need and that are missing.

mod bench;
mod demo;
mod examples;
mod faults;
mod firebuild;
mod fuzz;
#[cfg(feature = "generate")]
mod generate;
mod packages;
mod shell;
mod soak;
mod suites;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about, version)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// From nothing to PostgreSQL in a microVM, and away again
    Demo,
    /// Every folder of `examples/`, built, started in a microVM, and asked for what it serves
    Examples {
        /// Only these
        names: Vec<String>,
    },
    /// Every test: units, real microVMs, generated code
    Test,
    /// What is promised, measured; the figures go to docs/benchmarks.md
    Bench {
        /// Only these parts; the other rows stay as they are
        parts: Vec<String>,
    },
    /// Commands killed at each point at which they change something: nothing may be left
    Faults(faults::Faults),
    /// A host of its own, for `faults`
    #[command(hide = true)]
    FaultsWorld(faults::WorldArguments),
    /// Hostile input for the language: fifteen minutes for each target
    Fuzz {
        /// How long each target is run
        #[arg(long, default_value_t = 900)]
        seconds: u32,
        /// Only this target
        target: Option<String>,
    },
    /// Hundreds of microVMs started and stopped: the host has what it had before
    Soak(soak::Soak),
    /// Formatting and lints, as `.ci/run` has them
    Lint,
    /// Make the committed generated code anew
    Generate {
        /// Only compare with what is committed
        #[arg(long)]
        check: bool,
    },
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Task::FaultsWorld(world) = arguments.task {
        return world.run();
    }
    let root = root()?;
    std::env::set_current_dir(&root)
        .with_context(|| format!("cannot go to `{}`", root.display()))?;
    match arguments.task {
        Task::Demo => demo::run(&root),
        Task::Examples { names } => examples::run(&root, &names),
        Task::Test => suites::test(&root),
        Task::Bench { parts } => bench::run(&root, &parts),
        Task::Faults(faults) => faults.run(&root),
        Task::FaultsWorld(_) => Ok(()),
        Task::Soak(soak) => soak.run(&root),
        Task::Fuzz { seconds, target } => fuzz::run(&root, seconds, target.as_deref()),
        Task::Lint => suites::lint(),
        Task::Generate { check } => generate(&root, check),
    }
}

/// The repository's root, two levels above this crate's manifest or where cargo says it is.
fn root() -> anyhow::Result<PathBuf> {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").context("start this as `cargo xtask`")?;
    let root = Path::new(&manifest)
        .parent()
        .context("xtask has no parent directory")?;
    Ok(root.to_owned())
}

#[cfg(feature = "generate")]
fn generate(root: &Path, check: bool) -> anyhow::Result<()> {
    generate::run(root, check)
}

/// The compilers are a feature, so that every other task starts without building them.
#[cfg(not(feature = "generate"))]
fn generate(_: &Path, check: bool) -> anyhow::Result<()> {
    let mut arguments = vec![
        "run",
        "--quiet",
        "--package",
        "xtask",
        "--features",
        "generate",
        "--",
        "generate",
    ];
    arguments.extend(check.then_some("--check"));
    shell::cargo(&arguments)
}
