//! firebuild's own talk on standard error: for people, or as JSON lines for programs; and how much of
//! it there is.
//!
//! A JSON line has `time`, `level` and `message`, and an error `causes` and `hint` besides. What a
//! command prints on standard output, what a workload writes, and the events of `--progress json` are
//! no talk: they are the same whatever is chosen here.

use std::ffi::OsString;
use std::sync::OnceLock;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::terminal;

/// How grave something is, from the gravest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// Only what went wrong
    Error,
    /// And what may be wrong
    #[value(alias = "warning")]
    Warn,
    /// And what is done
    #[default]
    Info,
    /// And how: programs that are started, registries that are asked, records that are written
    Debug,
    /// And what others are told: rules, the configuration of plugins
    Trace,
}

impl Level {
    /// The level, as it is written.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// The flags about it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct LogArguments {
    /// How much to say on standard error
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "LEVEL",
        hide_possible_values = true
    )]
    log_level: Level,
    /// Say it as JSON, one object a line
    #[arg(long, global = true)]
    log_as_json: bool,
    /// Say it in colours on a terminal, which is the default
    #[arg(long, global = true, hide = true)]
    log_color: bool,
    /// Say it in colours even where nobody watches
    #[arg(long, global = true)]
    log_force_color: bool,
}

/// How talk looks.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Settings {
    level: Level,
    json: bool,
    colours: bool,
}

static SETTINGS: OnceLock<Settings> = OnceLock::new();

impl LogArguments {
    /// From now on, talk looks like this.
    pub(crate) fn install(&self) {
        let settings = Settings {
            level: self.log_level,
            json: self.log_as_json,
            colours: self.log_force_color,
        };
        // Only one command line is read.
        let _ = SETTINGS.set(settings);
        let most = match settings.level {
            Level::Trace => log::LevelFilter::Trace,
            Level::Debug => log::LevelFilter::Debug,
            // All of that is said by those who see the whole.
            Level::Info | Level::Warn | Level::Error => return,
        };
        if log::set_logger(&Talk).is_ok() {
            log::set_max_level(most);
        }
    }

    /// The level, for another process of firebuild's.
    pub(crate) fn level(&self) -> Level {
        self.log_level
    }
}

/// Says what firebuild's crates tell of what they do; what is theirs of others, nobody asked for.
struct Talk;

impl log::Log for Talk {
    fn enabled(&self, about: &log::Metadata<'_>) -> bool {
        about.target().starts_with("firebuild")
    }

    fn log(&self, told: &log::Record<'_>) {
        if !self.enabled(told.metadata()) {
            return;
        }
        let level = match told.level() {
            log::Level::Trace => Level::Trace,
            _ => Level::Debug,
        };
        let text = told.args().to_string();
        match is_json() {
            true => terminal::say_at(level, &text),
            false => terminal::say_at(level, &format!("{}: {text}", level.word())),
        }
    }

    fn flush(&self) {}
}

/// How talk looks where the command line cannot be understood: as JSON, if the flag for it is among
/// the words.
pub(crate) fn install_for(arguments: &[OsString]) {
    let flag = "log-as-json";
    let typed = arguments
        .iter()
        .take_while(|word| *word != "--")
        .any(|word| word.to_str().and_then(|word| word.strip_prefix("--")) == Some(flag));
    let variable = std::env::var(crate::arguments::variable(flag)).unwrap_or_default();
    let _ = SETTINGS.set(Settings {
        json: typed || ["1", "t", "true", "y", "yes", "on"].contains(&variable.as_str()),
        ..Settings::default()
    });
}

fn settings() -> Settings {
    SETTINGS.get().copied().unwrap_or_default()
}

/// Whether talk is JSON.
pub(crate) fn is_json() -> bool {
    settings().json
}

/// Whether talk has colours even where nobody watches.
pub(crate) fn forces_colours() -> bool {
    settings().colours
}

/// Whether so much is said.
pub(crate) fn is_said(level: Level) -> bool {
    level <= settings().level
}

/// A line of JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Line<'a> {
    time: String,
    level: Level,
    message: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    causes: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

impl<'a> Line<'a> {
    /// A line about the present.
    pub(crate) fn new(level: Level, message: &'a str) -> Self {
        Self {
            time: jiff::Timestamp::now().to_string(),
            level,
            message,
            causes: &[],
            hint: None,
        }
    }

    /// The same with what brought it about and what to do.
    pub(crate) fn because(self, causes: &'a [String], hint: Option<&'a str>) -> Self {
        Self {
            causes,
            hint,
            ..self
        }
    }
}

impl std::fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&serde_json::to_string(self).unwrap_or_default())
    }
}
