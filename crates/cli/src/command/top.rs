//! `firebuild top`: the processes in a running microVM.

use clap::Args;
use firebuild_core::printable;
use firebuild_machine::Host;
use firebuild_protocol::task::{Entry, Task};

use super::{Format, Global, copy};
use crate::error::hinted;
use crate::terminal::{self, Table};

/// The most that a guest may tell of its processes, in bytes.
const MOST: u64 = 32 << 20;

/// What is shown unless other columns are named.
const COLUMNS: [&str; 7] = ["uid", "pid", "ppid", "stat", "etime", "time", "args"];

#[derive(Debug, Args)]
pub(crate) struct Top {
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The microVM: its name, its id, or the beginning of its id
    vm: String,
    /// What to show, as `ps -o` calls it: uid, pid, ppid, stat, tty, etime, time, rss, vsz, nlwp, comm, args
    #[arg(
        value_name = "COLUMN",
        allow_hyphen_values = true,
        trailing_var_arg = true
    )]
    columns: Vec<String>,
}

impl Top {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let host = Host::new(global.store()?);
        let columns = columns(&self.columns)?;
        let bytes = copy::gather(&host, &self.vm, &Task::Processes, MOST)?;
        let processes: Vec<Entry> = serde_json::from_slice(&bytes)
            .map_err(|_| anyhow::anyhow!("the guest tells of its processes what makes no sense"))?;
        if self.format == Format::Json {
            return terminal::print_json(&processes);
        }
        let headings: Vec<String> = columns.iter().map(|name| heading(name)).collect();
        let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
        let mut table = Table::new(&headings);
        for process in &processes {
            table.row(columns.iter().map(|name| cell(process, name)).collect());
        }
        terminal::print(table)
    }
}

/// The columns that were named: `pid,args`, `-o pid,args` or one after the other. The options of `ps` that
/// most people type are taken for the usual ones.
fn columns(words: &[String]) -> anyhow::Result<Vec<&str>> {
    let names = words
        .iter()
        .map(|word| word.strip_prefix("-o").unwrap_or(word))
        .filter(|word| {
            !matches!(
                *word,
                "" | "-ef" | "-e" | "-f" | "-A" | "aux" | "axu" | "ax"
            )
        })
        .flat_map(|word| word.split(','));
    let names: Vec<&str> = names.collect();
    if names.is_empty() {
        return Ok(COLUMNS.to_vec());
    }
    for name in &names {
        if cell(&Entry::default(), name).is_empty()
            && !matches!(*name, "stat" | "s" | "comm" | "args" | "cmd" | "command")
        {
            return Err(hinted(
                format!("there is no column `{name}`"),
                "name some of: uid, pid, ppid, stat, tty, etime, time, rss, vsz, nlwp, comm, args",
            ));
        }
    }
    Ok(names)
}

fn heading(name: &str) -> String {
    match name {
        "args" | "cmd" | "command" => "COMMAND".to_owned(),
        "etime" => "ELAPSED".to_owned(),
        other => other.to_uppercase(),
    }
}

/// What a column shows; nothing, if there is no such column.
fn cell(process: &Entry, name: &str) -> String {
    match name {
        "uid" | "user" => process.uid.to_string(),
        "pid" => process.pid.to_string(),
        "ppid" => process.ppid.to_string(),
        "stat" | "s" => printable(&process.state, 8),
        "tty" if process.tty == 0 => "?".to_owned(),
        // A pseudo-terminal's number is in two parts; the major ones from 136 on are eight.
        "tty" => format!(
            "pts/{}",
            (process.tty & 0xff) | ((process.tty >> 12) & 0xfff00)
        ),
        "etime" => clock(process.age / 1000),
        "time" => clock(process.cpu / 1000),
        "rss" => process.rss.to_string(),
        "vsz" => process.vsz.to_string(),
        "nlwp" => process.threads.to_string(),
        "comm" => printable(&process.name, 64),
        "args" | "cmd" | "command" => printable(&process.command, 1000),
        _ => String::new(),
    }
}

/// Seconds as `ps` shows them.
fn clock(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let time = format!("{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
    if days > 0 {
        format!("{days}-{time}")
    } else {
        time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_named_in_several_ways() {
        let words = |words: &[&str]| {
            words
                .iter()
                .map(|&word| word.to_owned())
                .collect::<Vec<_>>()
        };
        for (given, expected) in [
            (&[][..], &COLUMNS[..]),
            (&["-ef"], &COLUMNS),
            (&["-o", "pid,args"], &["pid", "args"]),
            (&["-opid", "comm"], &["pid", "comm"]),
        ] {
            assert_eq!(columns(&words(given)).unwrap(), expected);
        }
        assert!(columns(&words(&["-o", "pid,size"])).is_err());
        assert_eq!(clock(90_061), "1-01:01:01");
    }
}
