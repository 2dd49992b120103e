//! `firebuild profile`: named values for flags.

use std::path::Path;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, Subcommand};
use serde::Serialize;
use toml::Table;

use super::{Cli, Format, Global};
use crate::error::hinted;
use crate::profile::directory::Profiles;
use crate::profile::schema::Schema;
use crate::profile::write::{Kept, Setting};
use crate::profile::{Profile, ProfileName};
use crate::terminal::{self, Table as Rows};

#[derive(Debug, Subcommand)]
pub(crate) enum Commands {
    /// Make a profile from flags: `firebuild profile create big --mem 4096 --set run.cpu=8`
    Create(Box<Create>),
    /// List profiles
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Show a profile
    Inspect(Inspect),
    /// Remove profiles
    Rm(Rm),
}

impl Commands {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        match self {
            Self::Create(command) => command.run(global),
            Self::Ls(command) => command.run(global),
            Self::Inspect(command) => command.run(global),
            Self::Rm(command) => command.run(global),
        }
    }
}

const CREATE_HELP: &str = "\
Any flag of any command is taken, such as `--mem 4096`, `--kernel-args …`, `--storage-provider directory`, \
`--tracing-enable` or `--binary-firecracker PATH`, and holds for every command that has it. Values for one \
command alone are given with `--set`.";

#[derive(Debug, Args)]
#[command(after_help = CREATE_HELP)]
pub(crate) struct Create {
    /// What to call it; `--profile NAME` does it, too
    name: Option<ProfileName>,
    /// Replace a profile of this name
    #[arg(long)]
    overwrite: bool,
    /// Give a flag of one command a value (may be repeated)
    #[arg(long = "set", value_name = "COMMAND.FLAG=VALUE")]
    settings: Vec<Setting>,
    /// Begin with what this file has
    #[arg(long, value_name = "FILE")]
    toml: Option<std::path::PathBuf>,
    #[command(flatten)]
    kept: Kept,
}

impl Create {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let named = self.name.or_else(|| global.profile().cloned());
        let name = named.ok_or_else(|| {
            hinted(
                "the profile has no name",
                "firebuild profile create NAME [FLAGS]",
            )
        })?;
        let begun = match &self.toml {
            Some(file) => fs_err::read_to_string(file)?,
            None => String::new(),
        };
        let schema = Schema::of(Cli::command);
        // A file's comments stay, as long as nothing is added to it.
        let text = if self.settings.is_empty() && self.kept.is_empty() {
            begun
        } else {
            Profile::parse(&name, &begun, &schema)?;
            let table: Table = begun.parse()?;
            self.kept.over(table, &self.settings).to_string()
        };
        Profile::parse(&name, &text, &schema)?;
        let profiles = Profiles::at(global.profiles());
        profiles.write(&name, &text, self.overwrite)?;
        terminal::print(format_args!("{name}\n"))
    }
}

#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// A profile in the list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Listed<'a> {
    name: &'a str,
    file: &'a Path,
    /// How many flags it has values for.
    flags: usize,
    /// Why it cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Ls {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let profiles = Profiles::at(global.profiles());
        let schema = Schema::of(Cli::command);
        let names = profiles.list()?;
        let paths: Vec<_> = names.iter().map(|name| profiles.path(name)).collect();
        let listed: Vec<Listed<'_>> = names
            .iter()
            .zip(&paths)
            .map(|(name, path)| {
                let read = profiles.read(name, &schema);
                Listed {
                    name: name.as_str(),
                    file: path,
                    flags: read.as_ref().map_or(0, Profile::len),
                    error: read.err().map(|error| chain(&error)),
                }
            })
            .collect();
        if self.format == Format::Json {
            return terminal::print_json(&listed);
        }
        let mut rows = Rows::new(&["NAME", "FLAGS", "FILE"]);
        for profile in &listed {
            let flags = match profile.error {
                Some(_) => "invalid".to_owned(),
                None => profile.flags.to_string(),
            };
            let file = profile.file.display().to_string();
            rows.row(vec![profile.name.to_owned(), flags, file]);
        }
        terminal::print(rows)?;
        for error in listed.iter().filter_map(|profile| profile.error.as_ref()) {
            terminal::say(format_args!("warning: {error}"));
        }
        Ok(())
    }
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let causes: Vec<String> = causes
        .map(|cause| cause.to_string().trim().to_owned())
        .collect();
    causes.join(": ")
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The profile; `--profile NAME` does it, too [default: default]
    name: Option<ProfileName>,
    /// How to print: as it is written, or as JSON
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Inspect {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let named = self.name.or_else(|| global.profile().cloned());
        let name = named.unwrap_or_else(ProfileName::default_one);
        let text = Profiles::at(global.profiles()).text(&name)?;
        if self.format == Format::Text {
            return terminal::print(text);
        }
        let table: Table = text
            .parse()
            .with_context(|| format!("cannot read the profile `{name}`"))?;
        terminal::print_json(&table)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// The profiles
    #[arg(required = true)]
    names: Vec<ProfileName>,
}

impl Rm {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let profiles = Profiles::at(global.profiles());
        for name in &self.names {
            profiles.remove(name)?;
            terminal::print(format_args!("{name}\n"))?;
        }
        Ok(())
    }
}
