//! `firebuild image history`: how an image was made, as its configuration tells it.

use clap::Args;
use firebuild_core::{ByteSize, Reference};
use firebuild_oci::Image;
use serde::Serialize;

use super::find;
use crate::command::{Format, Global};
use crate::terminal::{self, Table};

/// How many characters of a command the table shows.
const SHOWN: usize = 60;

#[derive(Debug, Args)]
pub(crate) struct History {
    /// The image
    name: Reference,
    /// Show whole commands and digests
    #[arg(long)]
    no_trunc: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// A step, as JSON shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Step {
    created: Option<String>,
    created_by: Option<String>,
    /// What its layer takes in the store, compressed or not; 0 if it made none.
    size: u64,
    empty_layer: bool,
    /// The layer's digest, uncompressed.
    diff_id: Option<String>,
    /// The digest of the layer as the manifest refers to it.
    digest: Option<String>,
    author: Option<String>,
    comment: Option<String>,
}

impl History {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let lease = global.store()?.lease()?;
        let image = find(lease.store(), &self.name)?;
        let steps = steps(&image);
        if self.format == Format::Json {
            return terminal::print_json(&steps);
        }
        let mut table = Table::new(&["LAYER", "CREATED", "CREATED BY", "SIZE", "COMMENT"]);
        for step in steps {
            table.row(self.row(step));
        }
        terminal::print(table)
    }

    fn row(&self, step: Step) -> Vec<String> {
        let layer = step.diff_id.unwrap_or_default();
        let layer = layer.trim_start_matches("sha256:").to_owned();
        // A command of several lines would tear the table.
        let command = step.created_by.unwrap_or_default();
        let command = command.split_whitespace().collect::<Vec<_>>().join(" ");
        let shortened = |text: String, most: usize| match text.char_indices().nth(most) {
            Some((end, _)) if !self.no_trunc => format!("{}…", &text[..end]),
            _ => text,
        };
        vec![
            match layer.get(..12) {
                Some(start) if !self.no_trunc => start.to_owned(),
                _ => layer,
            },
            step.created.unwrap_or_default(),
            shortened(command, SHOWN),
            ByteSize(step.size).to_string(),
            step.comment.unwrap_or_default(),
        ]
    }
}

/// The steps, the last one first. Layers that the history does not tell of are steps without words.
fn steps(image: &Image) -> Vec<Step> {
    let mut layers = image.diff_ids().iter().zip(&image.layers);
    let mut layer = |step: &mut Step| {
        if let Some((diff_id, layer)) = layers.next() {
            step.size = layer.size;
            step.diff_id = Some(diff_id.to_string());
            step.digest = Some(layer.digest.to_string());
            return true;
        }
        false
    };
    let mut steps = Vec::new();
    for told in &image.config.history {
        let mut step = Step {
            created: told.created.clone(),
            created_by: told.created_by.clone(),
            empty_layer: told.empty_layer,
            author: told.author.clone(),
            comment: told.comment.clone(),
            ..Step::untold()
        };
        if !told.empty_layer {
            layer(&mut step);
        }
        steps.push(step);
    }
    loop {
        let mut step = Step::untold();
        if !layer(&mut step) {
            break;
        }
        steps.push(step);
    }
    steps.reverse();
    steps
}

impl Step {
    /// A step of which nothing is told.
    fn untold() -> Self {
        Self {
            created: None,
            created_by: None,
            size: 0,
            empty_layer: false,
            diff_id: None,
            digest: None,
            author: None,
            comment: None,
        }
    }
}
