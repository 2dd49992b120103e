//! The environment: every flag has a variable, `FIREBUILD_` and its name in upper case.

use std::ffi::OsString;

use clap::builder::{BoolishValueParser, Resettable};
use clap::{Arg, ArgAction, Command};

/// What all of firebuild's variables begin with.
const PREFIX: &str = "FIREBUILD_";

/// The variable of a flag, whose name is given without dashes before it.
pub(crate) fn variable(long: &str) -> String {
    let mut name = PREFIX.to_owned();
    name.extend(long.chars().map(|letter| match letter {
        '-' => '_',
        other => other.to_ascii_uppercase(),
    }));
    name
}

/// The same command, all of whose flags (and those of its subcommands) may come from the environment.
pub(crate) fn described(command: Command) -> Command {
    command
        .mut_args(from_environment)
        .mut_subcommands(described)
}

/// The same for the command of a path and those above it, which are all that is read.
pub(super) fn described_along(command: Command, path: &[String]) -> Command {
    let command = command.mut_args(from_environment);
    match path {
        [name, below @ ..] if command.find_subcommand(name).is_some() => {
            command.mut_subcommand(name, |found| described_along(found, below))
        }
        _ => command,
    }
}

/// The same flag with its variable: the one that is set, or else the one to tell people about. A
/// variable that is set to nothing counts as not set.
pub(super) fn from_environment(arg: Arg) -> Arg {
    let Some(long) = arg.get_long() else {
        return arg;
    };
    let own = std::iter::once(long)
        .chain(arg.get_all_aliases().unwrap_or_default())
        .map(variable);
    let declared = arg
        .get_env()
        .map(|name| name.to_string_lossy().into_owned());
    let first = declared.clone().unwrap_or_else(|| variable(long));
    let set = own.chain(declared).find(|name| value(name).is_some());
    let empty = set.is_none() && std::env::var_os(&first).is_some();
    let arg = match arg.get_action() {
        ArgAction::SetTrue => arg.value_parser(BoolishValueParser::new()),
        _ => arg,
    };
    if empty {
        return arg.env(Resettable::Reset);
    }
    arg.env(set.unwrap_or(first)).hide_env_values(true)
}

/// The value of a variable, unless it is empty.
pub(super) fn value(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
