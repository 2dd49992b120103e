//! A profile from flags, as `profile create` takes them.

use std::collections::BTreeSet;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, CommandFactory as _, FromArgMatches};
use toml::{Table, Value};

use super::schema::{self, MAKERS, Schema};
use crate::command::Cli;

/// What the ids of flags that are taken for a profile begin with.
const MARK: &str = "profile: ";

/// The command that makes profiles, among those that are about them.
const CREATE: [&str; 2] = ["create", "profile-create"];

/// Gives the commands that make profiles all flags of all other commands.
pub(crate) fn teach(root: Command) -> Command {
    let schema = Schema::of(Cli::command);
    let flags = schema.commands().into_iter().flat_map(|(_, flags)| flags);
    let flags: Vec<&Arg> = flags.filter(|flag| flag.get_long().is_some()).collect();
    let mut names: BTreeSet<&str> = flags.iter().filter_map(|flag| flag.get_long()).collect();
    let mut taken: Vec<Arg> = Vec::new();
    for flag in flags {
        if taken
            .iter()
            .all(|known| known.get_long() != flag.get_long())
        {
            let aliases = flag.get_all_aliases().unwrap_or_default();
            let aliases = aliases.into_iter().filter(|alias| names.insert(alias));
            taken.push(to_be_kept(flag).aliases(aliases.map(str::to_owned)));
        }
    }
    root.mut_subcommands(|command| match MAKERS.contains(&command.get_name()) {
        true if CREATE.contains(&command.get_name()) => with(command, &taken),
        true => command.mut_subcommands(|below| match CREATE.contains(&below.get_name()) {
            true => with(below, &taken),
            false => below,
        }),
        false => command,
    })
}

fn with(command: Command, taken: &[Arg]) -> Command {
    let own: Vec<String> = schema::flags(&command)
        .filter_map(|flag| Some(flag.get_long()?.to_owned()))
        .collect();
    let new = taken.iter().filter(|flag| {
        let long = flag.get_long().unwrap_or_default();
        !own.iter().any(|own| own == long)
    });
    command.args(new)
}

/// A flag whose values are only taken down.
fn to_be_kept(flag: &Arg) -> Arg {
    let long = flag.get_long().unwrap_or_default().to_owned();
    let action = match flag.get_action() {
        action if !action.takes_values() => ArgAction::SetTrue,
        ArgAction::Append => ArgAction::Append,
        _ => ArgAction::Set,
    };
    Arg::new(format!("{MARK}{long}"))
        .long(long)
        .action(action)
        .hide(true)
}

fn is_typed(matches: &ArgMatches, id: &str) -> bool {
    let known = matches.try_contains_id(id).is_ok();
    known && matches.value_source(id) == Some(ValueSource::CommandLine)
}

/// The flags that `profile create` was given.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept {
    table: Table,
}

impl Args for Kept {
    fn augment_args(command: Command) -> Command {
        // They are added when all commands are known: see `teach`.
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        command
    }
}

impl FromArgMatches for Kept {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut kept = Self::default();
        kept.update_from_arg_matches(matches)?;
        Ok(kept)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let root = Cli::command();
        let global = schema::flags(&root).filter(|flag| flag.is_global_set());
        let global = global.map(|flag| (flag.get_id().as_str(), flag.get_long()));
        let ids = matches.ids().map(clap::Id::as_str);
        let taken = ids.map(|id| (id, id.strip_prefix(MARK)));
        for (id, long) in taken.chain(global) {
            let Some(long) = long.filter(|_| is_typed(matches, id)) else {
                continue;
            };
            let raw = matches.get_raw(id).unwrap_or_default();
            let texts = raw.map(|text| text.to_string_lossy().into_owned());
            self.table.insert(long.to_owned(), listed(texts.collect()));
        }
        Ok(())
    }
}

impl Kept {
    /// True if there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The flags, and settings such as `run.mem=256`, over what a file has.
    pub(crate) fn over(self, mut table: Table, settings: &[Setting]) -> Table {
        for (key, value) in self.table {
            table.insert(key, value);
        }
        let mut places: Vec<&[String]> = Vec::new();
        for setting in settings {
            if places.contains(&&setting.path[..]) {
                continue;
            }
            places.push(&setting.path);
            let same = settings.iter().filter(|other| other.path == setting.path);
            let values = same.map(|setting| setting.value.clone()).collect();
            put(&mut table, &setting.path, listed(values));
        }
        table
    }
}

fn put(table: &mut Table, path: &[String], value: Value) {
    match path {
        [] => {}
        [key] => {
            table.insert(key.clone(), value);
        }
        [section, rest @ ..] => {
            let below = table
                .entry(section.clone())
                .or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(below) = below {
                put(below, rest, value);
            }
        }
    }
}

/// One value as itself, several as a list.
fn listed(mut texts: Vec<String>) -> Value {
    match (texts.pop(), texts.is_empty()) {
        (Some(only), true) => typed(only),
        (last, _) => Value::Array(texts.into_iter().chain(last).map(typed).collect()),
    }
}

/// A text as the kind of value that it looks like; it means the same either way.
fn typed(text: String) -> Value {
    match (text.as_str(), text.parse::<i64>()) {
        ("true", _) => Value::Boolean(true),
        ("false", _) => Value::Boolean(false),
        (same, Ok(number)) if number.to_string() == same => Value::Integer(number),
        _ => Value::String(text),
    }
}

/// `[COMMAND.]FLAG=VALUE`
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    path: Vec<String>,
    value: String,
}

impl std::str::FromStr for Setting {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "write FLAG=VALUE or COMMAND.FLAG=VALUE, such as run.mem=256";
        let (key, value) = text.split_once('=').ok_or(FORM)?;
        let path: Vec<String> = key.split('.').map(str::to_owned).collect();
        if path.iter().any(String::is_empty) {
            return Err(FORM);
        }
        Ok(Self {
            path,
            value: value.to_owned(),
        })
    }
}
