//! The `firebuild` command: arguments in, text or JSON out. How anything is done is the other
//! crates' business.
//!
//! * [`command`]: one file for each subcommand.
//! * [`terminal`]: everything that is printed goes through it.
//! * [`picture`]: errors in a Dockerfile, shown in its line.
//! * [`progress`]: how a build's progress looks.
//! * [`timeline`]: how a build went, as a page for a browser.
//! * [`error`]: how an error looks, which exit status it has, and what is said to do next.

mod command;
mod error;
mod picture;
mod progress;
mod registry;
mod terminal;
mod timeline;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};

fn main() -> ExitCode {
    match command::Cli::try_parse() {
        Ok(cli) => cli.run(),
        Err(error) => unparsed(&error),
    }
}

/// What is said, and how it ends, when the arguments are no command: help, or what is wrong.
fn unparsed(error: &clap::Error) -> ExitCode {
    if error.kind() == ErrorKind::MissingSubcommand {
        terminal::say(command::Cli::command().render_help());
    } else {
        // Nobody may be listening.
        let _ = error.print();
    }
    if error.use_stderr() {
        ExitCode::from(error::OWN_FAILURE)
    } else {
        ExitCode::SUCCESS
    }
}
