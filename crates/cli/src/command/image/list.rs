//! `firebuild image ls`: the images that there are, in the store and with its storage provider.

use std::collections::BTreeSet;

use clap::Args;
use firebuild_builder::provider::{Listed, Own, Provider, ProviderError};
use firebuild_core::ByteSize;
use serde::Serialize;

use crate::command::storage::StorageArguments;
use crate::command::{Format, Global};
use crate::error;
use crate::terminal::{self, Table};

/// How much of a digest people need.
const SHORT: usize = 12;

#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// Print digests only, each once
    #[arg(long, short, conflicts_with = "format")]
    quiet: bool,
    /// Images are always all shown
    #[arg(long, short, hide = true)]
    all: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    storage: StorageArguments,
}

/// A row of `image ls`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    name: String,
    digest: Option<String>,
    created: Option<String>,
    size: u64,
}

impl From<Listed> for Row {
    fn from(listed: Listed) -> Self {
        Self {
            name: listed.name.familiar(),
            digest: listed.digest.map(|digest| digest.to_string()),
            created: listed.created,
            size: listed.size,
        }
    }
}

impl Ls {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let provider = self.storage.provider()?;
        let store = global.store()?;
        let mut images = Own.images(&store)?;
        images.extend(provider.images(&store)?);
        let rows = rows(images);
        match (self.quiet, self.format) {
            (true, _) => {
                let digests: BTreeSet<String> =
                    rows.into_iter().filter_map(|row| row.digest).collect();
                let lines: String = digests.iter().map(|digest| format!("{digest}\n")).collect();
                terminal::print(lines)
            }
            (_, Format::Json) => terminal::print_json(&rows),
            (_, Format::Text) => terminal::print(table(rows)),
        }
    }
}

/// Each name once: what the store has comes first.
fn rows(images: Vec<Result<Listed, ProviderError>>) -> Vec<Row> {
    let mut names = BTreeSet::new();
    let mut rows = Vec::new();
    for image in images {
        match image {
            Ok(listed) if names.insert(listed.name.clone()) => rows.push(listed.into()),
            Ok(_) => {}
            // Whoever wants to see the others has to see them.
            Err(error) => warn(error),
        }
    }
    rows
}

fn warn(error: ProviderError) {
    let error = anyhow::Error::new(error);
    let hint = error::hint_of(&error).map(|hint| format!("; {hint}"));
    let hint = hint.unwrap_or_default();
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    terminal::say(format_args!("warning: {}{hint}", causes.join(": ")));
}

fn table(rows: Vec<Row>) -> Table {
    let mut table = Table::new(&["NAME", "DIGEST", "CREATED", "SIZE"]);
    for row in rows {
        let digest = row.digest.unwrap_or_default();
        table.row(vec![
            row.name,
            digest
                .trim_start_matches("sha256:")
                .chars()
                .take(SHORT)
                .collect(),
            row.created.unwrap_or_default(),
            ByteSize(row.size).to_string(),
        ]);
    }
    table
}
