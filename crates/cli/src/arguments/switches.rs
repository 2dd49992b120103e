//! Flags that are on or off: `--flag=false` says no to one that the environment or a profile has on.
//!
//! People are not shown that form with every flag, so definitions get it only when a command line is
//! read.

use clap::builder::BoolishValueParser;
use clap::{Arg, ArgAction, Command};

use super::ON;

/// The same command, all of whose switches take `=true` and `=false`.
pub(super) fn both_ways(command: Command) -> Command {
    command.mut_args(switch).mut_subcommands(both_ways)
}

fn switch(arg: Arg) -> Arg {
    if !matches!(arg.get_action(), ArgAction::SetTrue) || arg.get_long().is_none() {
        return arg;
    }
    // A profile's.
    let is_on = arg.get_default_values().iter().any(|value| value == ON);
    arg.action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .value_name("true|false")
        .default_missing_value(ON)
        .default_value(if is_on { ON } else { "false" })
        .value_parser(BoolishValueParser::new())
}
