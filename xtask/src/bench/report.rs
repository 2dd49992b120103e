//! The table, and the file that it is written to.

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use fs_err as fs;

use crate::shell;

const FILE: &str = "docs/benchmarks.md";
const BEGIN: &str = "<!-- what follows is written by `cargo xtask bench` -->\n";
const END: &str = "<!-- until here -->";

/// One figure.
pub(super) struct Row {
    pub(super) what: &'static str,
    pub(super) figure: f64,
    pub(super) bound: Bound,
    pub(super) note: String,
}

/// What a figure must not exceed, and how it is written.
pub(super) struct Bound {
    limit: f64,
    unit: &'static str,
    decimals: usize,
}

impl Bound {
    pub(super) fn times(limit: f64) -> Self {
        Self {
            limit,
            unit: "x",
            decimals: 2,
        }
    }

    pub(super) fn mebibytes(limit: f64) -> Self {
        Self {
            limit,
            unit: " MiB",
            decimals: 1,
        }
    }

    pub(super) fn milliseconds(limit: f64) -> Self {
        Self {
            limit,
            unit: " ms",
            decimals: 0,
        }
    }

    /// How often something happened.
    pub(super) fn times_at_most(limit: f64) -> Self {
        Self {
            limit,
            unit: "",
            decimals: 0,
        }
    }

    fn show(&self, value: f64) -> String {
        format!("{value:.*}{}", self.decimals, self.unit)
    }
}

/// The head of the table.
const HEAD: &str = "| what | figure | bound | | seen |\n|---|---|---|---|---|\n";

impl Row {
    fn line(&self) -> String {
        let Self {
            what,
            figure,
            bound,
            note,
        } = self;
        let verdict = if *figure <= bound.limit {
            "met"
        } else {
            "**missed**"
        };
        format!(
            "| {what} | {} | {} | {verdict} | {note} |\n",
            bound.show(*figure),
            bound.show(bound.limit),
        )
    }

    /// How its line begins, whatever was measured.
    fn key(&self) -> String {
        format!("| {} |", self.what)
    }
}

/// A table in Markdown, which people can read as it is.
pub(super) fn table(rows: &[Row]) -> String {
    let lines: String = rows.iter().map(Row::line).collect();
    format!("{HEAD}{lines}")
}

/// The rows of `old` with these in their places, new ones behind them.
fn merged(old: &str, rows: &[Row]) -> String {
    let begin = old.find(HEAD).map_or(old.len(), |at| at + HEAD.len());
    let mut lines: Vec<String> = old[begin..]
        .lines()
        .take_while(|line| line.starts_with('|'))
        .map(|line| format!("{line}\n"))
        .collect();
    for row in rows {
        let known = lines.iter_mut().find(|line| line.starts_with(&row.key()));
        match known {
            Some(line) => *line = row.line(),
            None => lines.push(row.line()),
        }
    }
    format!("{HEAD}{}", lines.concat())
}

/// Puts the table and a description of the machine into the document, and leaves the rest of it. Where
/// these are not all rows, the others stay.
pub(super) fn update(root: &Path, rows: &[Row], all: bool) -> anyhow::Result<()> {
    let path = root.join(FILE);
    let text = fs::read_to_string(&path)?;
    let (before, rest) = text
        .split_once(BEGIN)
        .with_context(|| format!("`{FILE}` has lost its mark"))?;
    let (old, after) = rest
        .split_once(END)
        .with_context(|| format!("`{FILE}` has lost its second mark"))?;
    let table = if all { table(rows) } else { merged(old, rows) };
    shell::say(&table);
    let machine = machine()?;
    fs::write(
        &path,
        format!("{before}{BEGIN}\n{table}\n{machine}\n{END}{after}"),
    )?;
    shell::say(&format!("written to `{FILE}`"));
    Ok(())
}

/// The machine that was measured, without its name.
fn machine() -> anyhow::Result<String> {
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let model = field(&processors, "model name").unwrap_or("unknown processor");
    let count = processors
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let memory = fs::read_to_string("/proc/meminfo")?;
    let memory =
        field(&memory, "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    let load = fs::read_to_string("/proc/loadavg")?;
    let load: Vec<&str> = load.split(' ').take(3).collect();
    let qemu = shell::output(Command::new("qemu-system-x86_64").arg("--version"))?;
    let qemu = qemu.lines().next().unwrap_or_default();
    let linux = shell::output(Command::new("uname").arg("-r"))?;
    Ok(format!(
        "Machine: {count} processors ({model}), {} GiB of memory, Linux {}, {qemu}. \
         Load at the end of the run (1, 5 and 15 minutes): {}.\n",
        memory.unwrap_or_default() >> 20,
        linux.split('-').next().unwrap_or_default().trim(),
        load.join(", "),
    ))
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(what: &'static str, figure: f64) -> Row {
        Row {
            what,
            figure,
            bound: Bound::times(1.25),
            note: String::new(),
        }
    }

    #[test]
    fn rows_that_were_measured_replace_theirs() {
        let old = format!(
            "\n{}\nMachine: one\n",
            table(&[row("a", 1.0), row("ab", 1.1)])
        );
        let expected = table(&[row("a", 1.2), row("ab", 1.1), row("c", 1.3)]);
        assert_eq!(merged(&old, &[row("c", 1.3), row("a", 1.2)]), expected);
        assert_eq!(merged("\n", &[row("a", 1.0)]), table(&[row("a", 1.0)]));
    }

    #[test]
    fn a_missed_bound_shows() {
        let text = table(&[row("a", 1.2), row("a", 1.3)]);
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "| a | 1.20x | 1.25x | met |  |",
                "| a | 1.30x | 1.25x | **missed** |  |"
            ]
        );
    }
}
