//! Which source has which flag.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory as _};

use super::{defaults, switches};
use crate::command::Cli;
use crate::profile::schema::{self, MAKERS, Schema};
use crate::profile::{Given, Profile, ProfileName};

/// What a command line tells by itself.
#[derive(Debug)]
pub(crate) struct Scanned {
    /// The subcommands' names, from the outermost on.
    pub(crate) path: Vec<String>,
    /// The profile, if one was asked for on the command line or in the environment.
    pub(crate) profile: Option<ProfileName>,
    /// Where profiles are.
    pub(crate) directory: PathBuf,
    /// All commands.
    schema: Schema,
    /// The ids of the arguments that were typed.
    typed: BTreeSet<String>,
}

impl Scanned {
    /// Reads a command line leniently: what is wrong with it is found later.
    ///
    /// # Errors
    /// Not for what is wrong, but where help or the version was asked for.
    pub(crate) fn read(command: &Command, arguments: &[OsString]) -> Result<Self, clap::Error> {
        let global = |arg: Arg| match arg.get_id().as_str() {
            "profile" | "profile_conf_dir" => super::environment::from_environment(arg),
            _ => arg,
        };
        let lenient = switches::both_ways(command.clone().mut_args(global));
        let matches = lenient
            .ignore_errors(true)
            .try_get_matches_from(arguments)?;
        let mut scanned = Self {
            path: Vec::new(),
            profile: one(&matches, "profile"),
            directory: one(&matches, "profile_conf_dir").unwrap_or_default(),
            schema: Schema::of(Cli::command),
            typed: BTreeSet::new(),
        };
        let (mut command, mut matches) = (command, &matches);
        loop {
            scanned.note(command, matches);
            let Some((name, below)) = matches.subcommand() else {
                return Ok(scanned);
            };
            let Some(subcommand) = command.find_subcommand(name) else {
                return Ok(scanned);
            };
            scanned.path.push(name.to_owned());
            (command, matches) = (subcommand, below);
        }
    }

    /// True for commands that are about profiles.
    pub(super) fn is_about_profiles(&self) -> bool {
        let first = self.path.first();
        first.is_some_and(|first| MAKERS.contains(&first.as_str()))
    }

    /// True where a profile gives values: for every command that people type, but those about
    /// profiles.
    pub(super) fn takes_profile(&self, command: &Command) -> bool {
        let mut below = Some(command);
        let hidden = self.path.iter().any(|name| {
            below = below.and_then(|command| command.find_subcommand(name));
            below.is_none_or(Command::is_hide_set)
        });
        !hidden && !self.path.is_empty() && !self.is_about_profiles()
    }

    /// All commands.
    pub(super) fn schema(&self) -> &Schema {
        &self.schema
    }

    fn note(&mut self, command: &Command, matches: &ArgMatches) {
        let ids = command.get_arguments().map(|arg| arg.get_id().as_str());
        let typed = ids.filter(|id| matches.value_source(id) == Some(ValueSource::CommandLine));
        self.typed.extend(typed.map(str::to_owned));
    }

    fn has_typed(&self, arg: &Arg) -> bool {
        self.typed.contains(arg.get_id().as_str())
    }
}

fn one<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, id: &str) -> Option<T> {
    matches.try_get_one::<T>(id).ok().flatten().cloned()
}

/// What is done with the definition of a flag before the command line is read.
enum Change {
    /// It is the command line's.
    None,
    /// The environment's value is left out.
    WithoutEnvironment,
    /// The environment's value is a list with a line for each.
    Lines,
    /// The profile's values are its default.
    Defaults(Vec<String>),
}

/// The command with the values of environment and profile where they belong.
pub(super) fn fill(command: Command, scanned: &Scanned, profile: Option<&Profile>) -> Command {
    fill_at(command, scanned, &scanned.path, profile)
}

fn fill_at(
    command: Command,
    scanned: &Scanned,
    below: &[String],
    profile: Option<&Profile>,
) -> Command {
    let changes: Vec<(String, Change)> = command
        .get_arguments()
        .map(|arg| {
            let change = if below.is_empty() || arg.is_global_set() {
                change(&command, arg, scanned, profile)
            } else {
                // A command's own flags mean nothing to its subcommands.
                Change::WithoutEnvironment
            };
            (arg.get_id().to_string(), change)
        })
        .collect();
    let mut changes = changes.into_iter();
    let command = command.mut_args(|arg| match changes.next() {
        Some((id, change)) if arg.get_id().as_str() == id => apply(arg, change),
        _ => arg,
    });
    match below.split_first() {
        None => command,
        Some((next, rest)) => command.mut_subcommands(|subcommand| {
            if subcommand.get_name() == next {
                fill_at(subcommand, scanned, rest, profile)
            } else {
                subcommand
            }
        }),
    }
}

fn change(command: &Command, arg: &Arg, scanned: &Scanned, profile: Option<&Profile>) -> Change {
    let Some(long) = arg.get_long() else {
        return Change::None;
    };
    if scanned.has_typed(arg) {
        return Change::None;
    }
    let typed = |other: &Arg| scanned.has_typed(other);
    if let Some(value) = in_environment(arg) {
        let out = is_off(arg, &value)
            || excluded(command, arg, typed)
            || is_for_another(scanned, arg, &value);
        return if out {
            Change::WithoutEnvironment
        } else if is_list(arg) && value.as_encoded_bytes().contains(&b'\n') {
            Change::Lines
        } else {
            Change::None
        };
    }
    let stronger = |other: &Arg| typed(other) || in_environment(other).is_some();
    let given = profile.and_then(|profile| profile.value(&scanned.path, long));
    match given.and_then(defaults) {
        Some(values) if !excluded(command, arg, stronger) => Change::Defaults(values),
        _ => Change::None,
    }
}

fn apply(arg: Arg, change: Change) -> Arg {
    match change {
        Change::None => arg,
        Change::WithoutEnvironment => arg.env(Resettable::Reset),
        Change::Lines => arg.value_delimiter('\n'),
        Change::Defaults(values) => arg.required(false).default_values(values),
    }
}

/// The value that a flag has in the environment.
fn in_environment(arg: &Arg) -> Option<OsString> {
    super::environment::value(arg.get_env()?.to_str()?)
}

/// True for the ways to say no to a flag without a value.
fn is_off(arg: &Arg, value: &OsString) -> bool {
    let value = value.to_string_lossy().to_ascii_lowercase();
    matches!(arg.get_action(), ArgAction::SetTrue)
        && BOOLISH.iter().take(6).any(|word| *word == value)
}

/// True where a variable's value is none for this flag, but one for another command's flag of the same
/// name: it is meant for that.
fn is_for_another(scanned: &Scanned, arg: &Arg, value: &OsString) -> bool {
    let Some(text) = value.to_str() else {
        return false;
    };
    let fits = |flag: &Arg| {
        if flag.get_action().takes_values() {
            let lines = text.lines().map(str::to_owned).collect();
            schema::check(flag, &Given::Values(lines)).is_ok()
        } else {
            BOOLISH.contains(&text.to_ascii_lowercase().as_str())
        }
    };
    let others = || {
        let schema = scanned.schema();
        schema.flags(&[], arg.get_long().unwrap_or_default())
    };
    !fits(arg) && others().into_iter().any(fits)
}

/// What a flag without a value may be in the environment.
const BOOLISH: [&str; 12] = [
    "0", "f", "false", "n", "no", "off", "1", "t", "true", "y", "yes", "on",
];

/// True for flags that may be repeated.
pub(crate) fn is_list(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
}

/// True where an argument that `counts` cannot stand together with this one.
fn excluded(command: &Command, arg: &Arg, counts: impl Fn(&Arg) -> bool) -> bool {
    let excludes = |one: &Arg, other: &Arg| {
        let named = command.get_arg_conflicts_with(one);
        named.iter().any(|named| named.get_id() == other.get_id())
    };
    let others = command
        .get_arguments()
        .filter(|other| !other.is_global_set());
    !arg.is_global_set()
        && others
            .filter(|other| other.get_id() != arg.get_id() && counts(other))
            .any(|other| excludes(arg, other) || excludes(other, arg))
}

/// The same error, with where the value is from if it was not typed.
pub(super) fn located(
    error: clap::Error,
    command: &Command,
    scanned: &Scanned,
    profile: Option<&Profile>,
) -> clap::Error {
    let Some(ContextValue::String(named)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let leaf =
        (scanned.path.iter()).try_fold(command, |command, name| command.find_subcommand(name));
    let arg = leaf.and_then(|leaf| leaf.get_arguments().find(|arg| arg.to_string() == *named));
    let Some(arg) = arg.filter(|arg| !scanned.has_typed(arg)) else {
        return error;
    };
    let long = arg.get_long().unwrap_or_default();
    let place = match (in_environment(arg), profile) {
        (Some(_), _) => format!(
            "the variable `{}`",
            arg.get_env().unwrap_or_default().display()
        ),
        (None, Some(profile)) if profile.value(&scanned.path, long).is_some() => {
            format!("the profile `{}`", profile.name())
        }
        (None, _) => return error,
    };
    let mut error = error;
    let tip = clap::builder::StyledStr::from(format!("the value is that of {place}"));
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
    error
}
