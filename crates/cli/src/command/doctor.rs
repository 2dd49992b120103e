//! `firebuild doctor`: what this host has and lacks.

use std::fmt::Write as _;

use clap::Args;
use serde::Serialize;

use super::{Format, Global};
use crate::doctor::{self, Check, Status, This};
use crate::error::Negative;
use crate::terminal;

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Only tell what could be better
    #[arg(long, short)]
    quiet: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What programs get.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Report<'a> {
    status: Status,
    checks: &'a [Check],
}

impl Doctor {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let mut checks = doctor::examine(&This::new(global.root()));
        let status = doctor::overall(&checks);
        if self.quiet {
            checks.retain(|check| check.status != Status::Good);
        }
        match self.format {
            Format::Json => terminal::print_json(&Report {
                status,
                checks: &checks,
            })?,
            Format::Text => terminal::print(text(&checks, terminal::colours_on_output()))?,
        }
        match status {
            Status::Missing => Err(Negative.into()),
            Status::Good | Status::Advice => Ok(()),
        }
    }
}

fn text(checks: &[Check], colours: bool) -> String {
    let mut text = String::new();
    let mut group = "";
    for check in checks {
        if check.group != group {
            let between = if group.is_empty() { "" } else { "\n" };
            let _ = writeln!(text, "{between}{}", paint(check.group, "1", colours));
            group = check.group;
        }
        let mark = match check.status {
            Status::Good => paint("ok     ", "32", colours),
            Status::Advice => paint("advice ", "33", colours),
            Status::Missing => paint("missing", "1;31", colours),
        };
        let found = firebuild_core::printable(&check.found, 1000);
        let _ = writeln!(text, "  {mark}  {:<12}  {found}", check.name);
        if let Some(mend) = &check.mend {
            let _ = writeln!(text, "{:25}{mend}", "");
        }
    }
    let count = |status| checks.iter().filter(|check| check.status == status).count();
    let (missing, advice) = (count(Status::Missing), count(Status::Advice));
    let end = match (missing, advice) {
        (0, 0) => "All is well.".to_owned(),
        (0, advice) => format!("firebuild works here; {advice} things could be better."),
        (missing, advice) => {
            format!("{missing} things are missing that firebuild needs; {advice} could be better.")
        }
    };
    let between = if group.is_empty() { "" } else { "\n" };
    let _ = writeln!(text, "{between}{end}");
    text
}

fn paint(text: &str, code: &str, colours: bool) -> String {
    match colours {
        true => format!("\x1b[{code}m{text}\x1b[0m"),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_stand_together_and_end_with_a_sum() {
        let check = |name, status, mend: Option<&str>| Check {
            group: "Network",
            name,
            status,
            found: "found\x1b[m".to_owned(),
            mend: mend.map(str::to_owned),
        };
        let checks = [
            check("tap", Status::Good, None),
            check("nft", Status::Missing, Some("`do it`")),
        ];
        let expected = "Network\n  ok       tap           found\\u{1b}[m\n  missing  nft           found\\u{1b}[m\n\
                        \x20                        `do it`\n\n\
                        1 things are missing that firebuild needs; 0 could be better.\n";
        assert_eq!(text(&checks, false), expected);
        assert!(text(&checks, true).contains("\x1b[1;31mmissing\x1b[0m"));
    }
}
