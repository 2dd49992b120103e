//! The first word of a command line that is no flag: the command.

use std::ffi::OsString;

use clap::{Args as _, Command};

use super::switches;
use crate::command::Global;

/// The definition of everything without the other commands than the one that a command line is for;
/// all of them where it is for none.
///
/// Their names stay.
pub(super) fn alone(command: Command, arguments: &[OsString]) -> Command {
    let name = name(arguments);
    let Some(found) = name.and_then(|name| command.find_subcommand(name)) else {
        return command;
    };
    let kept = found.get_name().to_owned();
    command.mut_subcommands(|subcommand| match subcommand.get_name() == kept {
        true => subcommand,
        false => Command::new(subcommand.get_name().to_owned()),
    })
}

/// What is called, be it a command or not.
fn name(arguments: &[OsString]) -> Option<OsString> {
    let flags = Global::augment_args(Command::new("firebuild"));
    let mut reader = switches::both_ways(flags)
        .allow_external_subcommands(true)
        .disable_help_subcommand(true)
        .ignore_errors(true);
    let matches = reader.try_get_matches_from_mut(arguments).ok()?;
    Some(matches.subcommand()?.0.into())
}
