//! Profiles: files with values for flags.
//!
//! A profile is a TOML file. What stands at its top holds for every command that has the flag, what
//! stands in a section (`[run]`, `[image.ls]`) for that command alone. Flags are written as they are
//! typed, without the dashes before them. What the flags are, and which values they take, is known from
//! the definitions of the commands alone ([`schema`]), so nothing has to be added here for a new flag.
//!
//! * [`name`]: what a profile may be called.
//! * [`schema`]: the flags of all commands.
//! * [`directory`]: where profiles are, and how they come and go.
//! * [`write`]: a profile from flags.

pub(crate) mod directory;
mod error;
mod name;
pub(crate) mod schema;
pub(crate) mod write;

use std::collections::BTreeMap;

use toml::{Table, Value};

pub(crate) use error::ProfileError;
pub(crate) use name::ProfileName;
use schema::Schema;

/// What a profile gives a flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Given {
    /// A flag without a value: on or off.
    Switch(bool),
    /// The values, more than one only where the flag may be repeated.
    Values(Vec<String>),
}

/// A profile all of whose flags exist and have values that they can have.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Profile {
    name: ProfileName,
    /// Flags by the command that they are for, which is none at the top of the file.
    sections: BTreeMap<Vec<String>, BTreeMap<String, Given>>,
}

impl Profile {
    /// Reads a profile's text.
    ///
    /// # Errors
    /// If it is not TOML, or if anything in it is not a flag with a value that the flag can have.
    pub(crate) fn parse(
        name: &ProfileName,
        text: &str,
        schema: &Schema,
    ) -> Result<Self, ProfileError> {
        let table: Table = text.parse().map_err(|error| ProfileError::Toml {
            name: name.clone(),
            source: Box::new(error),
        })?;
        let mut profile = Self {
            name: name.clone(),
            sections: BTreeMap::new(),
        };
        profile.section(&[], &table, schema)?;
        Ok(profile)
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &ProfileName {
        &self.name
    }

    /// What it gives a flag of a command.
    pub(crate) fn value(&self, command: &[String], flag: &str) -> Option<&Given> {
        let own = self.sections.get(command).and_then(|flags| flags.get(flag));
        own.or_else(|| self.sections.get(&[][..])?.get(flag))
    }

    /// How many values it has.
    pub(crate) fn len(&self) -> usize {
        self.sections.values().map(BTreeMap::len).sum()
    }

    fn section(
        &mut self,
        path: &[String],
        table: &Table,
        schema: &Schema,
    ) -> Result<(), ProfileError> {
        for (key, value) in table {
            if let Some((command, table)) = schema.subcommand(path, key).zip(value.as_table()) {
                let below: Vec<String> = path.iter().cloned().chain([command]).collect();
                self.section(&below, table, schema)?;
                continue;
            }
            let at = (&self.name, path);
            let flags = schema.flags(path, key);
            let Some(first) = flags.first() else {
                return Err(ProfileError::unknown(at, key, schema));
            };
            let given = Given::of(first, value).map_err(|wanted| ProfileError::Type {
                place: error::place(at, key),
                wanted,
            })?;
            for flag in &flags {
                schema::check(flag, &given).map_err(|said| ProfileError::Value {
                    place: error::place(at, key),
                    said,
                })?;
            }
            let long = first.get_long().unwrap_or(key).to_owned();
            let section = self.sections.entry(path.to_vec()).or_default();
            if section.insert(long.clone(), given).is_some() {
                let place = error::place(at, &long);
                return Err(ProfileError::Twice { place });
            }
        }
        Ok(())
    }
}

impl Given {
    /// A value of the file as the flag's; or else what would be one.
    fn of(flag: &clap::Arg, value: &Value) -> Result<Self, &'static str> {
        if !flag.get_action().takes_values() {
            let switch = value.as_bool().map(Self::Switch);
            return switch.ok_or("true or false");
        }
        let values = match value {
            Value::Array(items) if crate::arguments::is_list(flag) => {
                items.iter().map(scalar).collect()
            }
            Value::Table(pairs) if crate::arguments::is_list(flag) => pairs
                .iter()
                .map(|(key, value)| Some(format!("{key}={}", scalar(value)?)))
                .collect(),
            other => scalar(other).map(|value| vec![value]),
        };
        let wanted = match crate::arguments::is_list(flag) {
            true => "a text, a number, or a list of them",
            false => "a text or a number",
        };
        values.map(Self::Values).ok_or(wanted)
    }
}

/// A text, number, truth or date as one would type it.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(truth) => Some(truth.to_string()),
        Value::Datetime(time) => Some(time.to_string()),
        Value::Array(_) | Value::Table(_) => None,
    }
}

#[cfg(test)]
mod tests;
