//! `firebuild image prune`: images that nobody has a name for go, and what only they needed.

use clap::Args;
use firebuild_builder::care::{self, Pruned};
use firebuild_core::ByteSize;

use crate::command::Global;
use crate::terminal;

#[derive(Debug, Args)]
pub(crate) struct Prune {
    #[command(flatten)]
    choices: PruneArguments,
}

/// What every kind of pruning asks.
#[derive(Debug, Args)]
pub(crate) struct PruneArguments {
    /// Also images with a name, unless a microVM runs from them
    #[arg(long, short)]
    pub(crate) all: bool,
    /// Only say what would go
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Without effect: nothing is asked, as Docker does without `--force`
    #[arg(long, short, hide = true)]
    force: bool,
}

impl Prune {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<()> {
        let PruneArguments { all, dry_run, .. } = self.choices;
        let pruned = care::prune_images(&global.store()?, all, dry_run)?;
        report(pruned, dry_run)
    }
}

/// Prints what is gone, or would be.
pub(crate) fn report(pruned: Option<Pruned>, dry_run: bool) -> anyhow::Result<()> {
    let Some(pruned) = pruned else {
        terminal::say(
            "nothing was removed: a build, a command that reads images, or a starting VM is at work; try again when it has ended, or remove what `firebuild build cache prune` would",
        );
        return Ok(());
    };
    for image in &pruned.images {
        match &image.name {
            Some(name) => terminal::print(format_args!("{}\n", name.familiar()))?,
            None => terminal::print(format_args!("{}\n", image.digest))?,
        }
    }
    let word = if dry_run { "would remove" } else { "removed" };
    let mut parts = vec![counted(pruned.images.len() as u64, "image")];
    for (count, what) in [
        (pruned.rootfs, "root file system"),
        (pruned.blobs, "blob"),
        (pruned.records, "result of the build cache"),
    ] {
        if count > 0 {
            parts.push(counted(count, what));
        }
    }
    terminal::say(format_args!("{word} {}", parts.join(", ")));
    let word = if dry_run { "would free" } else { "freed" };
    terminal::say(format_args!("{word} {}", ByteSize(pruned.bytes)));
    Ok(())
}

/// A number of things; the plural's `s` goes to the first noun.
fn counted(count: u64, what: &str) -> String {
    match (count, what.split_once(" of ")) {
        (1, _) => format!("1 {what}"),
        (_, Some((noun, rest))) => format!("{count} {noun}s of {rest}"),
        (_, None) => format!("{count} {what}s"),
    }
}
