//! The `firebuild` command: arguments in, text or JSON out. How anything is done is the other
//! crates' business.
//!
//! * [`arguments`]: what a command was given: on its command line, in the environment, in a profile.
//! * [`profile`]: files with values for flags.
//! * [`command`]: one file for each subcommand.
//! * [`described`]: what is made of the commands' definitions: completion, the reference.
//! * [`doctor`]: what this host has and lacks.
//! * [`logging`]: firebuild's own talk, for people or for programs.
//! * [`metrics`]: VMs and the store in numbers.
//! * [`terminal`]: everything that is printed goes through it.
//! * [`picture`]: errors in a Dockerfile, shown in its line.
//! * [`progress`]: how a build's progress looks.
//! * [`timeline`]: how a build went, as a page for a browser.
//! * [`tracing`]: spans of what is done, for a collector.
//! * [`error`]: how an error looks, which exit status it has, and what is said to do next.

mod arguments;
mod body;
mod command;
mod described;
mod doctor;
mod error;
mod logging;
mod metrics;
mod picture;
mod profile;
mod progress;
mod registry;
mod terminal;
mod timeline;
mod tracing;

use std::process::ExitCode;

use arguments::Refused;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use command::{SUPERVISE, Supervise};

fn main() -> ExitCode {
    if std::env::var_os(described::COMPLETE).is_some() {
        // A shell asks while somebody types; the answer ends the process.
        clap_complete::CompleteEnv::with_factory(described::candidates::command)
            .var(described::COMPLETE)
            .complete();
    }
    let arguments: Vec<_> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|word| word == SUPERVISE) {
        return Supervise::main(arguments.into_iter().skip(1)).unwrap_or_else(unparsed);
    }
    let refused = match arguments::read(arguments.clone()) {
        Ok(cli) => return cli.run(),
        Err(refused) => refused,
    };
    logging::install_for(&arguments);
    match refused {
        Refused::Arguments(error) => unparsed(error),
        Refused::Profile(error) => error::report(&(*error).into()),
    }
}

/// The help of the command of which a subcommand is missing.
fn help_of(error: &clap::Error) -> clap::builder::StyledStr {
    let mut command = arguments::command();
    command.build();
    let words = match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(words)) => words.as_str(),
        _ => "",
    };
    for word in words.split(' ').skip(1) {
        command = match command.find_subcommand(word) {
            Some(found) => found.clone(),
            None => break,
        };
    }
    command.render_help()
}

/// What is said, and how it ends, when the arguments are no command: help, or what is wrong.
fn unparsed(error: clap::Error) -> ExitCode {
    let is_error = error.use_stderr();
    if is_error && logging::is_json() {
        let said = arguments::refusal::said(error);
        let said = said.split("\n\nUsage: ").next().unwrap_or_default();
        let said = said.split("\n\nFor more").next().unwrap_or_default();
        let said = said.strip_prefix("error: ").unwrap_or(said).trim_end();
        terminal::event(logging::Line::new(logging::Level::Error, said));
    } else if error.kind() == ErrorKind::MissingSubcommand {
        terminal::event(help_of(&error));
    } else if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // Nothing is wrong with what there is.
        terminal::event(error.render());
    } else if is_error {
        let said = arguments::refusal::said(error);
        let text = said.strip_prefix("error:").unwrap_or(&said);
        terminal::event(format_args!("{}{text}", error::mark()));
    } else {
        // Nobody may be listening.
        let _ = error.print();
    }
    if is_error {
        ExitCode::from(error::OWN_FAILURE)
    } else {
        ExitCode::SUCCESS
    }
}
