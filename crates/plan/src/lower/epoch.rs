//! `SOURCE_DATE_EPOCH`: the time that everything made is said to be of.

use std::convert::Infallible;
use std::str::FromStr;

use firebuild_dockerfile::Dockerfile;
use firebuild_dockerfile::Expander;

use super::scope::Scope;
use super::stages::Stages;
use super::{LowerError, LowerErrorKind, Options, last_name};

/// What the build context is called where a time is wanted.
pub const CONTEXT: &str = "context";

/// A time, as people say it: `SOURCE_DATE_EPOCH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Epoch {
    /// Seconds since 1970.
    Seconds(u64),
    /// The time of what has this name: [`CONTEXT`], a named context, or a stage from scratch that
    /// does nothing but add one thing from elsewhere. In lower case.
    Of(String),
}

impl FromStr for Epoch {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.parse() {
            Ok(seconds) => Self::Seconds(seconds),
            Err(_) => Self::Of(text.to_ascii_lowercase()),
        })
    }
}

/// The time that a plan says, in seconds since 1970.
pub(super) fn seconds(
    options: &Options,
    global: &Scope,
    dockerfile: &Dockerfile,
) -> Result<Option<u64>, LowerError> {
    match wanted(options, global) {
        None => Ok(None),
        Some(Epoch::Seconds(seconds)) => Ok(Some(seconds)),
        Some(Epoch::Of(name)) => options.times.get(&name).copied().ok_or_else(|| {
            let place = dockerfile.instructions.first().map(|first| first.span);
            LowerError::new(place.unwrap_or_default(), LowerErrorKind::Epoch(name))
        }),
    }
}

/// The time that was asked for.
fn wanted(options: &Options, global: &Scope) -> Option<Epoch> {
    let given = || global.given("SOURCE_DATE_EPOCH")?.parse().ok();
    options.epoch.clone().or_else(given)
}

/// What has the time that is asked for, if it is asked for by a name: see [`Options::times`]. None
/// also for a file that cannot be lowered.
#[must_use]
pub fn wanted_time(dockerfile: &Dockerfile, options: &Options) -> Option<String> {
    let expander = Expander::new(dockerfile.directives.escape);
    let mut global = Scope::global(options, last_name(dockerfile));
    Stages::collect(dockerfile, &options.contexts, &expander, &mut global).ok()?;
    match wanted(options, &global)? {
        Epoch::Of(name) => Some(name),
        Epoch::Seconds(_) => None,
    }
}
