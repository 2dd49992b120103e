//! `firebuild stats`: what running microVMs use, by their guests' own figures and by those of the host.

use std::time::Duration;

use clap::Args;
use firebuild_core::MachineId;
use firebuild_machine::conversation;
use firebuild_machine::terminal::Shown;
use firebuild_machine::{Host, Purpose, Record, State, client};
use firebuild_protocol::task::{Task, Usage};
use serde::Serialize;
use tokio::sync::mpsc;

use super::{Format, Global, block_on, lifecycle};
use crate::terminal::{self, Table};

/// The longest line of figures, in bytes.
const LINE: usize = 4096;

/// How long a guest may take for its first figures, of which there are two a second apart.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Args)]
pub(crate) struct Stats {
    /// Print once
    #[arg(long)]
    no_stream: bool,
    /// How to print: JSON is one object a line, for each microVM and second
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The microVMs; all that run, if none is named
    vms: Vec<String>,
}

/// What a VM uses.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Line {
    id: MachineId,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Of one processor: two busy ones are 200.
    cpu_percent: f64,
    /// In bytes, like all that follow.
    memory_used: u64,
    memory_limit: u64,
    network_received: u64,
    network_sent: u64,
    block_read: u64,
    block_written: u64,
    processes: u32,
    /// What the VMM's process has on the host.
    host_memory: u64,
    /// The VMM's time on the host's processors, in milliseconds.
    host_cpu_milliseconds: u64,
}

impl Stats {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let host = Host::new(global.store()?);
        let records = if self.vms.is_empty() {
            let mut all = client::list(&lifecycle::host(global)?)?;
            all.retain(|record| {
                record.state == State::Running && matches!(record.spec.purpose, Purpose::Run { .. })
            });
            all
        } else {
            let found = self.vms.iter().map(|vm| client::inspect(&host, vm));
            found.collect::<Result<_, _>>()?
        };
        block_on(self.watch(&host, records))?
    }

    async fn watch(&self, host: &Host, records: Vec<Record>) -> anyhow::Result<()> {
        let (tell, mut told) = mpsc::channel(1);
        let count = records.len();
        let mut watched = tokio::task::JoinSet::new();
        let mut lines: Vec<Option<Line>> = vec![None; count];
        for (index, record) in records.into_iter().enumerate() {
            let (host, tell) = (host.clone(), tell.clone());
            watched.spawn(async move { follow(&host, &record, index, tell).await });
        }
        drop(tell);
        let mut trouble = None;
        let mut seen = 0;
        while seen < count || !self.no_stream {
            let told = tokio::time::timeout(PATIENCE, told.recv()).await;
            let Ok(Some((index, line))) = told else {
                break;
            };
            match line {
                Ok(line) => {
                    seen += usize::from(lines[index].is_none());
                    if self.format == Format::Json && !(self.no_stream && lines[index].is_some()) {
                        terminal::print(format_args!("{}\n", serde_json::to_string(&line)?))?;
                    }
                    lines[index] = Some(line);
                }
                Err(error) => {
                    seen += usize::from(lines[index].is_none());
                    lines[index] = None;
                    trouble = trouble.or(Some(error));
                }
            }
            if self.format == Format::Text && !self.no_stream && seen >= count {
                show(&lines, true)?;
            }
        }
        if self.format == Format::Text && (self.no_stream || count == 0) {
            show(&lines, false)?;
        }
        match trouble {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }
}

type Told = (usize, Result<Line, firebuild_machine::Error>);

/// Tells what a VM uses every second, as long as somebody listens and it runs.
async fn follow(host: &Host, record: &Record, index: usize, tell: mpsc::Sender<Told>) {
    let (output, mut shown) = mpsc::channel(1);
    let (_typed, input) = mpsc::channel(1);
    let conversation = async {
        let conversation = conversation::begin(host, record.id.as_str(), &Task::Usage).await?;
        conversation.connect(input, output).await.map(drop)
    };
    let reading = async {
        let (mut text, mut before) = (Vec::new(), None);
        while let Some(Shown::Stdout(data)) = shown.recv().await {
            text.extend(data);
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                let Ok(usage) = serde_json::from_slice::<Usage>(&line) else {
                    return;
                };
                if let Some(before) = before.replace(usage)
                    && tell
                        .send((index, Ok(line_of(record, &before, &usage))))
                        .await
                        .is_err()
                {
                    return;
                }
            }
            if text.len() > LINE {
                return;
            }
        }
    };
    let ended = tokio::select! {
        ended = conversation => ended,
        () = reading => Ok(()),
    };
    if let Err(error) = ended {
        let _ = tell.send((index, Err(error))).await;
    }
}

fn line_of(record: &Record, before: &Usage, now: &Usage) -> Line {
    let busy = now.cpu.saturating_sub(before.cpu);
    let time = now.uptime.saturating_sub(before.uptime).max(1);
    // A guest can say anything; so much at most can be true.
    let most = f64::from(record.spec.cpus) * 100.0;
    let ratio = f64::from(u32::try_from(busy).unwrap_or(u32::MAX))
        / f64::from(u32::try_from(time).unwrap_or(u32::MAX));
    let (host_memory, host_cpu_milliseconds) = record.processes.vmm.map_or((0, 0), process);
    Line {
        id: record.id.clone(),
        name: record.spec.name.as_ref().map(ToString::to_string),
        cpu_percent: (ratio * 100.0).min(most),
        memory_used: now.memory.saturating_mul(1024),
        memory_limit: now.memory_total.saturating_mul(1024),
        network_received: now.received,
        network_sent: now.sent,
        block_read: now.read,
        block_written: now.written,
        processes: now.processes,
        host_memory,
        host_cpu_milliseconds,
    }
}

/// The memory of a process of this host in bytes, and its time on processors in milliseconds.
fn process(pid: u32) -> (u64, u64) {
    let text = fs_err::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    let fields: Vec<u64> = fields
        .split_ascii_whitespace()
        .map(|word| word.parse().unwrap_or(0))
        .collect();
    let field = |index: usize| fields.get(index).copied().unwrap_or(0);
    let page = rustix::param::page_size() as u64;
    let tick = 1000 / rustix::param::clock_ticks_per_second().max(1);
    (field(21) * page, (field(11) + field(12)) * tick)
}

fn show(lines: &[Option<Line>], anew: bool) -> anyhow::Result<()> {
    let mut table = Table::new(&[
        "ID",
        "NAME",
        "CPU %",
        "MEM USAGE / LIMIT",
        "NET I/O",
        "BLOCK I/O",
        "PIDS",
        "HOST MEM",
    ]);
    for line in lines.iter().flatten() {
        table.row(vec![
            line.id.to_string(),
            line.name.clone().unwrap_or_default(),
            format!("{:.2}%", line.cpu_percent),
            format!("{} / {}", size(line.memory_used), size(line.memory_limit)),
            format!(
                "{} / {}",
                size(line.network_received),
                size(line.network_sent)
            ),
            format!("{} / {}", size(line.block_read), size(line.block_written)),
            line.processes.to_string(),
            size(line.host_memory),
        ]);
    }
    let home = if anew && terminal::is_output_seen() {
        "\x1b[H\x1b[2J"
    } else {
        ""
    };
    terminal::print(format_args!("{home}{table}"))
}

/// Bytes as people read them.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut tenths = u128::from(bytes) * 10;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 {
        format!("{bytes}{name}")
    } else {
        format!("{}.{}{name}", tenths / 10, tenths % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        for (bytes, expected) in [
            (0, "0B"),
            (1023, "1023B"),
            (1536, "1.5KiB"),
            (128 << 20, "128.0MiB"),
            (u64::MAX, "16777215.9TiB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
    }
}
