//! What a command was given: on its command line, in the environment, in a profile, by default; the
//! first that has a flag has it.
//!
//! Nothing here knows any flag: the definitions of all commands are asked, so a flag that is added
//! anywhere has a variable of the environment and a place in profiles. This is how it is done:
//!
//! 1. The command line is read for its first word that is no flag; all definitions but that command's
//!    are left away, since to go on with all of them costs more than what small commands do.
//! 2. It is read alone and leniently, to see which command it is, which flags were typed, and which
//!    profile is meant.
//! 3. The definition of that command is changed: variables and the profile's values that a typed flag
//!    excludes are left out, the other values of the profile become defaults.
//! 4. The command line is read again, strictly.

mod environment;
mod outermost;
pub(crate) mod refusal;
mod sources;
mod switches;
pub(crate) mod values;

use std::ffi::OsString;

use clap::{ArgMatches, Command, CommandFactory as _, FromArgMatches as _, Parser};

use environment::described;
pub(crate) use environment::variable;
use sources::Scanned;
pub(crate) use sources::is_list;

use crate::command::{Cli, groups};
use crate::profile::directory::Profiles;
use crate::profile::{Given, Profile, ProfileError, write};

/// The commands that make the profile `default` if it is not there.
const MAKING_DEFAULT: [&str; 4] = ["baseos", "build", "rootfs", "run"];

/// Why a command line is not followed.
pub(crate) enum Refused {
    /// Help was asked for, or something is wrong.
    Arguments(clap::Error),
    /// The profile cannot be used.
    Profile(Box<ProfileError>),
}

impl From<clap::Error> for Refused {
    fn from(error: clap::Error) -> Self {
        Self::Arguments(error)
    }
}

impl From<ProfileError> for Refused {
    fn from(error: ProfileError) -> Self {
        Self::Profile(Box::new(error))
    }
}

/// The definition of everything that can be typed, with the environment's variables.
pub(crate) fn command() -> Command {
    groups::grouped(described(write::teach(Cli::command())))
}

/// Reads a command line, the first of which is the program's name.
///
/// # Errors
/// Where it is no command with valid flags, or the profile is not a valid one.
pub(crate) fn read(arguments: Vec<OsString>) -> Result<Cli, Refused> {
    let command = outermost::alone(Cli::command(), &arguments);
    let Ok(scanned) = Scanned::read(&command, &arguments) else {
        // Help, or the version.
        let mut matches = self::command().try_get_matches_from(arguments)?;
        return Ok(Cli::from_arg_matches_mut(&mut matches)?);
    };
    let profile = profile(&command, &scanned)?;
    let command = match scanned.is_about_profiles() {
        true => write::teach(command),
        false => command,
    };
    let mut matches = resolve(command, &arguments, &scanned, profile.as_ref())?;
    let mut cli = Cli::from_arg_matches_mut(&mut matches)?;
    cli.words = scanned.path;
    Ok(cli)
}

/// Reads a command line that is no subcommand's: flags and the environment alone.
///
/// # Errors
/// Where it is not as the definition has it.
pub(crate) fn read_alone<C: Parser>(
    arguments: impl Iterator<Item = OsString>,
) -> Result<C, clap::Error> {
    let mut matches = described(C::command()).try_get_matches_from(arguments)?;
    C::from_arg_matches_mut(&mut matches)
}

/// The profile that the command is to have.
fn profile(command: &Command, scanned: &Scanned) -> Result<Option<Profile>, ProfileError> {
    if !scanned.takes_profile(command) {
        return Ok(None);
    }
    let profiles = Profiles::at(&scanned.directory);
    let schema = scanned.schema();
    match &scanned.profile {
        Some(name) if !name.is_default() => profiles.read(name, schema).map(Some),
        _ => {
            let first = scanned.path.first();
            let make = first.is_some_and(|first| MAKING_DEFAULT.contains(&first.as_str()));
            profiles.default_one(schema, make)
        }
    }
}

/// Reads a command line with the values of the environment and of a profile.
///
/// # Errors
/// What clap says about it; where the value is none of the command line's, it is said where it is
/// from.
fn resolve(
    command: Command,
    arguments: &[OsString],
    scanned: &Scanned,
    profile: Option<&Profile>,
) -> Result<ArgMatches, clap::Error> {
    let along = environment::described_along(command, &scanned.path);
    let mut both = switches::both_ways(sources::fill(along, scanned, profile));
    let error = match both.try_get_matches_from_mut(arguments) {
        Ok(matches) => return Ok(matches),
        Err(error) => error,
    };
    // What is said of flags is said as people are shown them, and of all commands.
    let mut filled = sources::fill(self::command(), scanned, profile);
    Err(match filled.try_get_matches_from_mut(arguments) {
        Err(shown) if shown.kind() == error.kind() => {
            sources::located(shown, &filled, scanned, profile)
        }
        _ => sources::located(error, &both, scanned, profile),
    })
}

/// The values that stand for a flag which is on.
const ON: &str = "true";

/// A profile's value as clap takes it; nothing where the flag is off.
fn defaults(given: &Given) -> Option<Vec<String>> {
    match given {
        Given::Switch(false) => None,
        Given::Switch(true) => Some(vec![ON.to_owned()]),
        Given::Values(values) => Some(values.clone()),
    }
}

#[cfg(test)]
mod tests;
