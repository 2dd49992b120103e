//! The `firebuild` command: arguments in, text or JSON out. How anything is done is the other
//! crates' business.
//!
//! * [`command`]: one file for each subcommand.
//! * [`terminal`]: everything that is printed goes through it.
//! * [`picture`]: errors in a Dockerfile, shown in its line.
//! * [`progress`]: how a build's progress looks.
//! * [`error`]: how an error looks, which exit status it has, and what is said to do next.

mod command;
mod error;
mod picture;
mod progress;
mod terminal;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    command::Cli::parse().run()
}
