//! The help of `firebuild` alone: commands by what they are for.

use std::fmt::Write as _;

use clap::Command;

/// Every command that is shown, below what it is for.
const GROUPS: &[(&str, &[&str])] = &[
    ("Making images", &["build", "baseos", "rootfs"]),
    (
        "Images",
        &["images", "image", "pull", "push", "tag", "history", "rmi"],
    ),
    (
        "Running microVMs",
        &[
            "run", "ls", "inspect", "logs", "start", "stop", "restart", "pause", "unpause",
            "update", "rename", "wait", "kill", "rm", "purge",
        ],
    ),
    (
        "In a running microVM",
        &["exec", "attach", "cp", "ssh", "top", "stats", "port"],
    ),
    ("What microVMs have", &["volume", "network", "kernel"]),
    (
        "This host",
        &[
            "doctor",
            "system",
            "events",
            "metrics",
            "profile",
            "completion",
            "help",
        ],
    ),
];

/// Gives the help of `firebuild` alone its order.
pub(crate) fn grouped(command: Command) -> Command {
    let mut template = String::from("{about-with-newline}\n{usage-heading} {usage}\n");
    for (title, names) in GROUPS {
        // A template has no style of its own for headings.
        let style = command.get_styles().get_header();
        let _ = write!(template, "\n{style}{title}:{style:#}\n");
        for name in *names {
            template.push_str(&line(&command, name));
        }
    }
    template.push_str("\nOptions, before or behind the command:\n{options}{after-help}");
    command.help_template(template)
}

fn line(command: &Command, name: &str) -> String {
    let of = command.find_subcommand(name);
    let about = of.and_then(Command::get_about).map(ToString::to_string);
    // clap adds it by itself, later.
    let about = about.unwrap_or_else(|| "Print this, or the help of the given command".to_owned());
    let aliases = of.into_iter().flat_map(Command::get_visible_aliases);
    let aliases: String = aliases.map(|alias| format!(" [alias: {alias}]")).collect();
    let style = command.get_styles().get_literal();
    format!("  {style}{name:<12}{style:#}{about}{aliases}\n")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::command::Cli;

    #[test]
    fn every_command_stands_once() {
        let command = Cli::command();
        let shown = command.get_subcommands().filter(|it| !it.is_hide_set());
        let mut shown: Vec<&str> = shown.map(Command::get_name).chain(["help"]).collect();
        let mut listed: Vec<&str> = GROUPS
            .iter()
            .flat_map(|(_, names)| *names)
            .copied()
            .collect();
        shown.sort_unstable();
        listed.sort_unstable();
        assert_eq!(listed, shown);
        for name in listed {
            assert!(line(&command, name).trim_end().len() <= 100, "{name}");
        }
    }
}
