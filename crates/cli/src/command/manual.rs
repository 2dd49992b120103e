//! `firebuild man`: all commands as manual pages, or as the reference in docs/cli.md.

use std::path::PathBuf;

use clap::Args;

use super::Global;
use crate::arguments;
use crate::described::reference;
use crate::terminal;

#[derive(Debug, Args)]
pub(crate) struct Manual {
    /// Print the reference in place of pages
    #[arg(long)]
    markdown: bool,
    /// Write the pages into this directory
    #[arg(required_unless_present = "markdown", conflicts_with = "markdown")]
    directory: Option<PathBuf>,
}

impl Manual {
    pub(crate) fn run(self, _: &Global) -> anyhow::Result<()> {
        let command = arguments::command();
        let Some(directory) = self.directory else {
            return terminal::print(reference::markdown(command));
        };
        fs_err::create_dir_all(&directory)?;
        let mut command = command.disable_help_subcommand(true);
        command.build();
        clap_mangen::generate_to(command, &directory)?;
        Ok(())
    }
}
