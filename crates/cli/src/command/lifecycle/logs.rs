//! `firebuild logs`: what a workload wrote, and what its guest wrote to the console.

use clap::Args;
use firebuild_machine::client;
use firebuild_machine::output::{Entry, Stream};

use super::host;
use super::lines::{Lines, Piece, Tail, Wanted};
use super::moment::Moment;
use crate::command::Global;
use crate::terminal;

#[derive(Debug, Args)]
#[command(after_help = "\
What a workload writes is kept in files of bounded size (`run --log-max-size`, `--log-max-files`), the
oldest go. It stays until the VM is removed.")]
pub(crate) struct Logs {
    /// Go on until the VM has ended
    #[arg(long, short)]
    follow: bool,
    /// Begin with what was written at this moment: 10m (ago), 2026-11-21T10:00:00Z, or seconds since 1970
    #[arg(long, value_name = "MOMENT")]
    since: Option<Moment>,
    /// End with what was written at this moment
    #[arg(long, value_name = "MOMENT")]
    until: Option<Moment>,
    /// Only the last lines, so many; `all` for all
    #[arg(long, short = 'n', value_name = "LINES", default_value = "all", value_parser = tail)]
    tail: Tail,
    /// Show when each line was written
    #[arg(long, short)]
    timestamps: bool,
    /// What the guest wrote to its console since it was started last
    #[arg(long, conflicts_with_all = ["since", "until", "timestamps", "stdout", "stderr"])]
    console: bool,
    /// Only the standard output
    #[arg(long, conflicts_with = "stderr")]
    stdout: bool,
    /// Only the standard error
    #[arg(long)]
    stderr: bool,
    /// The VM
    vm: String,
}

fn tail(text: &str) -> Result<Tail, String> {
    match text {
        "all" => Ok(Tail(None)),
        _ => text
            .parse()
            .map(|lines| Tail(Some(lines)))
            .map_err(|_| "a number of lines or `all` is needed".to_owned()),
    }
}

impl Logs {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let host = host(global)?;
        let id = client::find(&host, &self.vm)?;
        if self.console {
            return self.show_console(&host, &id);
        }
        let mut logs = client::logs(&host, &id, self.follow)?;
        let mut lines = Lines::new(Wanted {
            since: self.since.map(|moment| moment.0),
            until: self.until.map(|moment| moment.0),
            only: match (self.stdout, self.stderr) {
                (true, _) => Some(Stream::Stdout),
                (_, true) => Some(Stream::Stderr),
                _ => None,
            },
        });
        let mut last = self.tail.begin();
        while let Some(entry) = logs.next_ready()? {
            for piece in lines.split(&entry) {
                if let Some(piece) = last.push(piece) {
                    self.show(&piece)?;
                }
            }
        }
        for piece in last.rest() {
            self.show(&piece)?;
        }
        for entry in logs {
            for piece in lines.split(&entry?) {
                self.show(&piece)?;
            }
            if lines.is_over() {
                break;
            }
        }
        Ok(())
    }

    fn show(&self, piece: &Piece) -> anyhow::Result<()> {
        let mut data = Vec::new();
        if self.timestamps && piece.begins {
            data.extend(format!("{:.9} ", piece.time).into_bytes());
        }
        data.extend(&piece.data);
        match piece.stream {
            Stream::Stdout => terminal::print_bytes(&data),
            Stream::Stderr => terminal::print_error_bytes(&data),
        }
    }

    fn show_console(
        &self,
        host: &firebuild_machine::Host,
        id: &firebuild_core::MachineId,
    ) -> anyhow::Result<()> {
        if let Some(lines) = self.tail.0 {
            let mut all = Vec::new();
            for bytes in client::console(host, id, false)? {
                all.extend(bytes?);
            }
            let begin = super::lines::last_lines(&all, lines);
            return terminal::print_bytes(&all[begin..]);
        }
        for bytes in client::console(host, id, self.follow)? {
            terminal::print_bytes(&bytes?)?;
        }
        Ok(())
    }
}

/// Passes a workload's output on, each stream to its own.
pub(crate) fn show(entry: &Entry) -> anyhow::Result<()> {
    match entry.stream {
        Stream::Stdout => terminal::print_bytes(&entry.data),
        Stream::Stderr => terminal::print_error_bytes(&entry.data),
    }
}
