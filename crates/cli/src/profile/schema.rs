//! The flags of all commands, as far as they may stand in a profile.

use std::cell::LazyCell;
use std::collections::BTreeSet;

use clap::builder::Resettable;
use clap::{Arg, Command};

use super::Given;
use crate::arguments::refusal;

/// Flags that say which profile is meant.
const OF_PROFILES: [&str; 2] = ["profile", "profile-conf-dir"];

/// What a command that makes profiles is called: its flags are those of others.
pub(crate) const MAKERS: [&str; 4] = ["profile", "profile-create", "profile-ls", "profile-inspect"];

/// The commands and their flags.
///
/// Most command lines need none of it, and the definitions of all commands take longer to make than
/// a small command to do.
#[derive(Debug)]
pub(crate) struct Schema {
    root: LazyCell<Command>,
}

impl Schema {
    /// The schema of a command with all its subcommands, made when it is first asked.
    pub(crate) fn of(root: fn() -> Command) -> Self {
        Self {
            root: LazyCell::new(root),
        }
    }

    /// The real name of a subcommand that may have a section.
    pub(super) fn subcommand(&self, path: &[String], name: &str) -> Option<String> {
        let found = self.command(path)?.find_subcommand(name)?;
        counts(found).then(|| found.get_name().to_owned())
    }

    /// The flags of one name: that of a command, or those of all commands where none is named.
    pub(crate) fn flags(&self, path: &[String], name: &str) -> Vec<&Arg> {
        let mut found = Vec::new();
        self.each(path, &mut |arg| {
            let names = arg.get_long_and_visible_aliases().unwrap_or_default();
            let hidden = arg.get_all_aliases().unwrap_or_default();
            if names.contains(&name) || hidden.contains(&name) {
                found.push(arg);
            }
        });
        found
    }

    /// The names of all flags and sections at a place.
    pub(super) fn known(&self, path: &[String]) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        self.each(path, &mut |arg| {
            names.extend(arg.get_long_and_visible_aliases().unwrap_or_default());
        });
        let commands = self.command(path).into_iter();
        let commands = commands.flat_map(Command::get_subcommands);
        let sections = commands.filter(|command| counts(command));
        names.extend(sections.map(Command::get_name));
        names.into_iter().map(str::to_owned).collect()
    }

    /// Every command that does something, by its words, with its own flags.
    pub(crate) fn commands(&self) -> Vec<(Vec<String>, Vec<&Arg>)> {
        let mut all = Vec::new();
        gather(&self.root, &mut Vec::new(), &mut all);
        all
    }

    fn command(&self, path: &[String]) -> Option<&Command> {
        let mut names = path.iter();
        names.try_fold(&*self.root, |command, name| command.find_subcommand(name))
    }

    fn each<'a>(&'a self, path: &[String], visit: &mut impl FnMut(&'a Arg)) {
        let Some(command) = self.command(path) else {
            return;
        };
        flags(command).for_each(&mut *visit);
        if path.is_empty() {
            let all = self.commands();
            all.into_iter().flat_map(|(_, flags)| flags).for_each(visit);
        } else {
            let global = flags(&self.root).filter(|arg| arg.is_global_set());
            global.for_each(visit);
        }
    }
}

/// True for commands that profiles are for.
fn counts(command: &Command) -> bool {
    !command.is_hide_set() && !MAKERS.contains(&command.get_name())
}

fn gather<'a>(
    command: &'a Command,
    path: &mut Vec<String>,
    all: &mut Vec<(Vec<String>, Vec<&'a Arg>)>,
) {
    for subcommand in command.get_subcommands().filter(|command| counts(command)) {
        path.push(subcommand.get_name().to_owned());
        all.push((path.clone(), flags(subcommand).collect()));
        gather(subcommand, path, all);
        path.pop();
    }
}

/// The flags of a command that a profile may have.
pub(crate) fn flags(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| {
        let long = arg.get_long();
        long.is_some_and(|long| !OF_PROFILES.contains(&long) && long != "help" && long != "version")
    })
}

/// Whether a flag can have a value; else what the command says about it.
pub(crate) fn check(flag: &Arg, given: &Given) -> Result<(), String> {
    let Given::Values(values) = given else {
        return Ok(());
    };
    let alone = flag
        .clone()
        .env(Resettable::Reset)
        .required(false)
        .conflicts_with(Resettable::Reset)
        .requires(Resettable::Reset)
        .required_unless_present(Resettable::Reset)
        .default_values(values);
    let parsed = Command::new("firebuild")
        .no_binary_name(true)
        .disable_help_flag(true)
        .arg(alone)
        .try_get_matches_from(Vec::<String>::new());
    match parsed {
        Ok(_) => Ok(()),
        Err(error) => {
            let said = refusal::said(error);
            let said = said.strip_prefix("error: ").unwrap_or(&said);
            let said = said.split("\n\nFor more information").next();
            Err(said.unwrap_or_default().trim_end().to_owned())
        }
    }
}
