//! `firebuild image`: what is in the store, in and out by hand.

mod digest;
mod export;
mod history;
mod import;
mod list;
mod prune;
mod remove;

use clap::{Args, Subcommand};
use firebuild_core::{ImageConfig, Reference};
use firebuild_store::Store;
use serde::Serialize;

pub(crate) use history::History;
pub(crate) use list::Ls;
pub(super) use prune::{PruneArguments, report};
pub(crate) use remove::Rm;

use super::{Format, Global};
use crate::terminal;

#[derive(Debug, Subcommand)]
pub(crate) enum Image {
    /// List images
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Show an image's configuration, layers and digests
    Inspect(Inspect),
    /// Show how an image was made, step by step, the last one first
    History(History),
    /// Give an image one more name
    Tag(Tag),
    /// Remove images by name; layers that nothing else needs go with them
    #[command(visible_alias = "remove")]
    Rm(Rm),
    /// Remove images without a name; with `--all` also those that no microVM runs from
    Prune(prune::Prune),
    /// Take an image in: an image layout, what `docker save` wrote, or a root file system
    Import(import::Import),
    /// Write an image out: for other tools, or as a file system
    Export(export::Export),
}

impl Image {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        match self {
            Self::Ls(command) => command.run(global),
            Self::Inspect(command) => command.run(global),
            Self::History(command) => command.run(global),
            Self::Tag(command) => command.run(global),
            Self::Rm(command) => command.run(global),
            Self::Prune(command) => command.run(global),
            Self::Import(command) => command.run(global),
            Self::Export(command) => command.run(global),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The image
    name: Reference,
    /// How to print; facts of an image are JSON either way
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What `image inspect` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    name: String,
    digest: String,
    config_digest: String,
    size: u64,
    layers: Vec<InspectedLayer>,
    config: ImageConfig,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedLayer {
    digest: String,
    media_type: String,
    size: u64,
}

impl Inspect {
    fn run(self, global: &Global) -> anyhow::Result<()> {
        let Self {
            name,
            format: Format::Text | Format::Json,
        } = self;
        let lease = global.store()?.lease()?;
        let image = find(lease.store(), &name)?;
        let layers = image.layers.iter().map(|layer| InspectedLayer {
            digest: layer.digest.to_string(),
            media_type: layer.media_type.clone(),
            size: layer.size,
        });
        terminal::print_json(&Inspected {
            name: name.to_string(),
            digest: image.manifest.digest.to_string(),
            config_digest: image.config_digest.to_string(),
            size: image.layers.iter().map(|layer| layer.size).sum(),
            layers: layers.collect(),
            config: image.config,
        })
    }
}

#[derive(Debug, Args)]
pub(crate) struct Tag {
    /// An image in the store
    name: Reference,
    /// Its new name; an image that has it loses it
    new_name: Reference,
}

impl Tag {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let store = global.store()?;
        let _lease = store.lease()?;
        let image = find(&store, &self.name)?;
        Ok(store.tags().set(&self.new_name, image.manifest)?)
    }
}

/// An image of the store by its name, or by the beginning of its digest; or an error that says what to do.
pub(crate) fn find(store: &Store, name: &Reference) -> anyhow::Result<firebuild_oci::Image> {
    match firebuild_oci::find_image(store, name) {
        Err(firebuild_oci::Error::NoImage(_)) => {}
        other => return Ok(other?),
    }
    match &digest::find(store, &name.familiar())?[..] {
        [] => Err(firebuild_builder::Error::NoImage {
            reference: name.clone(),
        }
        .into()),
        [entry, ..] => Ok(firebuild_oci::read_image(store, &entry.descriptor)?),
    }
}
