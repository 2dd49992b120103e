//! The reference of all commands, as Markdown.

use std::fmt::Write as _;

use clap::{Arg, Command};

const HEAD: &str = "\
# Commands

Made from the definitions of the commands by `cargo xtask generate`. Every flag may also come from the
environment or from a profile: [profiles.md](profiles.md). `firebuild COMMAND --help` says the same, and
`firebuild man DIR` writes it as manual pages.
";

/// The reference; the flags that every command takes are told once.
pub(crate) fn markdown(mut root: Command) -> String {
    root.build();
    let mut text = HEAD.to_owned();
    let _ = writeln!(text, "\n## Every command\n");
    let global = root.get_arguments().filter(|arg| arg.is_global_set());
    flags(&mut text, global.collect());
    commands(&mut text, &root, &mut vec!["firebuild".to_owned()]);
    text
}

fn commands(text: &mut String, command: &Command, path: &mut Vec<String>) {
    for below in command.get_subcommands() {
        if below.is_hide_set() || below.get_name() == "help" {
            continue;
        }
        path.push(below.get_name().to_owned());
        one(text, below, &path.join(" "));
        commands(text, below, path);
        path.pop();
    }
}

fn one(text: &mut String, command: &Command, path: &str) {
    let _ = writeln!(text, "\n## {path}\n");
    let about = command.get_long_about().or_else(|| command.get_about());
    if let Some(about) = about {
        let _ = writeln!(text, "{}\n", escaped(&about.to_string()));
    }
    let usage = command.clone().render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage);
    let lines: Vec<&str> = usage.lines().map(str::trim).collect();
    let _ = writeln!(text, "```\n{}\n```", lines.join("\n"));
    let aliases: Vec<&str> = command.get_visible_aliases().collect();
    if !aliases.is_empty() {
        let _ = writeln!(text, "\nAlso called `{}`.", aliases.join("`, `"));
    }
    let words: Vec<&Arg> = (command.get_positionals())
        .filter(|arg| !arg.is_hide_set())
        .collect();
    if !words.is_empty() {
        let _ = writeln!(text, "\n| argument | |\n|---|---|");
        for arg in words {
            let _ = writeln!(text, "| `{}` | {} |", cell(&arg.to_string()), help(arg));
        }
    }
    let own = command.get_arguments().filter(|arg| {
        let long = arg.get_long();
        !arg.is_global_set() && !arg.is_hide_set() && long.is_some_and(|long| long != "help")
    });
    let own: Vec<&Arg> = own.collect();
    if !own.is_empty() {
        let _ = writeln!(text);
        flags(text, own);
    }
}

fn flags(text: &mut String, flags: Vec<&Arg>) {
    let _ = writeln!(text, "| flag | environment | |\n|---|---|---|");
    for arg in flags.into_iter().filter(|arg| !arg.is_hide_set()) {
        let short = arg.get_short().map(|short| format!("`-{short}`, "));
        let variable = arg.get_env().map(|name| format!("`{}`", name.display()));
        let _ = writeln!(
            text,
            "| {}`{}` | {} | {} |",
            short.unwrap_or_default(),
            cell(&arg.to_string()),
            variable.unwrap_or_default(),
            help(arg)
        );
    }
}

/// What a flag does, its values, its default and its other names.
fn help(arg: &Arg) -> String {
    let help = arg.get_long_help().or_else(|| arg.get_help());
    let mut text = help
        .map(|help| escaped(&help.to_string()))
        .unwrap_or_default();
    text = text.replace('\n', " ");
    if arg.get_action().takes_values() {
        let values = arg.get_possible_values();
        let values: Vec<&str> = (values.iter())
            .filter(|value| !value.is_hide_set())
            .map(clap::builder::PossibleValue::get_name)
            .collect();
        if !values.is_empty() {
            let _ = write!(text, "; one of `{}`", values.join("`, `"));
        }
        let defaults = arg.get_default_values().iter();
        let defaults: Vec<_> = defaults.map(|value| value.to_string_lossy()).collect();
        if !defaults.is_empty() && !arg.is_hide_default_value_set() {
            let _ = write!(text, " (default `{}`)", defaults.join(" "));
        }
    }
    let aliases = arg.get_visible_aliases().unwrap_or_default();
    if !aliases.is_empty() {
        let _ = write!(text, "; also `--{}`", aliases.join("`, `--"));
    }
    cell(text.trim_start_matches("; "))
}

/// Text that is no mark-up: angle brackets outside backticks.
fn escaped(text: &str) -> String {
    let mut code = false;
    text.chars().fold(String::new(), |mut escaped, letter| {
        code ^= letter == '`';
        match letter {
            '<' if !code => escaped.push_str("&lt;"),
            '>' if !code => escaped.push_str("&gt;"),
            other => escaped.push(other),
        }
        escaped
    })
}

/// Text that stays within its cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
