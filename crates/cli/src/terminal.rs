//! Everything that is printed: data to standard output, talk to standard error.
//!
//! A closed pipe is no error: whoever reads has read enough.
//!
//! * [`streams`]: this command's streams as those of a process in a guest.
//! * [`raw`]: the terminal for such a process.

mod raw;
mod streams;

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

use crate::logging::{self, Level, Line};

pub(crate) use streams::{
    Wanted, take as take_streams, take_wanted as take_wanted_streams, terminal as facts,
};

/// Writes facts to standard output, all at once: a long list is not written line by line.
pub(crate) fn print(text: impl fmt::Display) -> anyhow::Result<()> {
    print_bytes(text.to_string().as_bytes())
}

/// Writes bytes to standard output as they are.
pub(crate) fn print_bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    ignoring_closed_pipe(stdout.write_all(bytes).and_then(|()| stdout.flush()))
}

/// Writes bytes to standard error as they are.
pub(crate) fn print_error_bytes(bytes: &[u8]) -> anyhow::Result<()> {
    ignoring_closed_pipe(io::stderr().lock().write_all(bytes))
}

/// Writes JSON that a person can read, too.
pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print(format_args!("{}\n", serde_json::to_string_pretty(value)?))
}

/// Says something to the person: one line on standard error. Nobody may be listening.
///
/// What begins with `warning:` is one, and the rest is information.
pub(crate) fn say(text: impl fmt::Display) {
    let text = text.to_string();
    match text.strip_prefix("warning: ") {
        Some(_) => say_at(Level::Warn, &text),
        None => say_at(Level::Info, &text),
    }
}

/// Says something of a level, if so much is said.
pub(crate) fn say_at(level: Level, text: &str) {
    if !logging::is_said(level) {
        return;
    }
    if logging::is_json() {
        let message = text.strip_prefix("warning: ").unwrap_or(text);
        event(Line::new(level, message));
    } else {
        event(text);
    }
}

/// Writes an event for programs, or what is finished, to standard error as it is.
pub(crate) fn event(text: impl fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

fn ignoring_closed_pipe(result: io::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// True where somebody watches standard error.
pub(crate) fn is_seen() -> bool {
    io::stderr().is_terminal()
}

/// True where somebody watches standard output.
pub(crate) fn is_output_seen() -> bool {
    io::stdout().is_terminal()
}

/// True where standard error shows colours: somebody insists, or it is a terminal and `NO_COLOR` is
/// not set.
pub(crate) fn colours() -> bool {
    logging::forces_colours()
        || io::stderr().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// True where standard output shows colours.
pub(crate) fn colours_on_output() -> bool {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    wanted && io::stdout().is_terminal()
}

/// Rows of text under headings, in columns that line up.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with only its headings.
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self {
            rows: vec![
                headings
                    .iter()
                    .map(|heading| (*heading).to_owned())
                    .collect(),
            ],
        }
    }

    /// Adds a row, which has as many cells as there are headings.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:<width$}   "));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["NAME", "SIZE"]);
        table.row(vec!["a-long-name".into(), "1".into()]);
        table.row(vec!["ä".into(), String::new()]);
        assert_eq!(
            table.to_string(),
            "NAME          SIZE\na-long-name   1\nä\n"
        );
    }
}
