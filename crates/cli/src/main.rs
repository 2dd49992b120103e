//! The `firebuild` command: arguments in, text or JSON out. How anything is done is the other
//! crates' business.
//!
//! * [`arguments`]: what a command was given: on its command line, in the environment, in a profile.
//! * [`profile`]: files with values for flags.
//! * [`command`]: one file for each subcommand.
//! * [`described`]: what is made of the commands' definitions: completion, the reference.
//! * [`doctor`]: what this host has and lacks.
//! * [`terminal`]: everything that is printed goes through it.
//! * [`picture`]: errors in a Dockerfile, shown in its line.
//! * [`progress`]: how a build's progress looks.
//! * [`timeline`]: how a build went, as a page for a browser.
//! * [`error`]: how an error looks, which exit status it has, and what is said to do next.

mod arguments;
mod command;
mod described;
mod doctor;
mod error;
mod picture;
mod profile;
mod progress;
mod registry;
mod terminal;
mod timeline;

use std::process::ExitCode;

use arguments::Refused;
use clap::error::ErrorKind;

fn main() -> ExitCode {
    if std::env::var_os(described::COMPLETE).is_some() {
        // A shell asks while somebody types; the answer ends the process.
        clap_complete::CompleteEnv::with_factory(described::candidates::command)
            .var(described::COMPLETE)
            .complete();
    }
    match arguments::read(std::env::args_os().collect()) {
        Ok(cli) => cli.run(),
        Err(Refused::Arguments(error)) => unparsed(&error),
        Err(Refused::Profile(error)) => error::report(&(*error).into()),
    }
}

/// What is said, and how it ends, when the arguments are no command: help, or what is wrong.
fn unparsed(error: &clap::Error) -> ExitCode {
    if error.kind() == ErrorKind::MissingSubcommand {
        terminal::say(arguments::command().render_help());
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
