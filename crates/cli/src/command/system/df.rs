//! `firebuild system df`: what the store takes.

use clap::Args;
use firebuild_builder::care;
use firebuild_core::ByteSize;
use firebuild_store::{Category, Usage};
use serde::Serialize;

use crate::command::lifecycle::host;
use crate::command::{Format, Global};
use crate::terminal::{self, Table};

#[derive(Debug, Args)]
#[command(after_help = "\
SIZE is what files take on the disk; what several images share counts once. RECLAIMABLE is what
`firebuild system prune --all` would free.")]
pub(crate) struct Df {
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// A row, as JSON shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    #[serde(rename = "Type")]
    kind: &'static str,
    count: u64,
    /// In bytes.
    size: u64,
    /// In bytes.
    reclaimable: u64,
}

impl Df {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<()> {
        let rows = care::usage(&host(global)?.store)?.into_iter().map(Row::of);
        let rows: Vec<Row> = rows.collect();
        if self.format == Format::Json {
            return terminal::print_json(&rows);
        }
        let mut table = Table::new(&["TYPE", "COUNT", "SIZE", "RECLAIMABLE"]);
        let sum = rows.iter().fold((0, 0), |(size, reclaimable), row| {
            (size + row.size, reclaimable + row.reclaimable)
        });
        for row in &rows {
            table.row(cells(
                row.kind,
                row.count.to_string(),
                row.size,
                row.reclaimable,
            ));
        }
        table.row(cells("all", String::new(), sum.0, sum.1));
        terminal::print(table)
    }
}

fn cells(kind: &str, count: String, size: u64, reclaimable: u64) -> Vec<String> {
    vec![
        kind.replace('-', " "),
        count,
        ByteSize(size).to_string(),
        ByteSize(reclaimable).to_string(),
    ]
}

impl Row {
    fn of(usage: Usage) -> Self {
        Self {
            kind: match usage.category {
                Category::Images => "images",
                Category::RootFileSystems => "root-file-systems",
                Category::BuildCache => "build-cache",
                Category::Downloads => "downloads",
                Category::CacheMounts => "cache-mounts",
                Category::Volumes => "volumes",
                Category::Kernels => "kernels",
                Category::Machines => "microvms",
                Category::Other => "other",
            },
            count: usage.count,
            size: usage.bytes,
            reclaimable: usage.reclaimable,
        }
    }
}
