//! `firebuild pull` and `firebuild push`: images from registries and to them.

use std::sync::Arc;
use std::time::Instant;

use clap::{Args, ValueEnum};
use firebuild_builder::progress::{Event, Progress};
use firebuild_builder::rootfs::Ext4;
use firebuild_core::{ByteSize, Platform, Reference};
use firebuild_oci::LayerCompression;

use super::{Global, block_on, image};
use crate::error::hinted;
use crate::progress::layers::{Direction, Layers};
use crate::progress::{self, ProgressArgument};
use crate::registry::RegistryArguments;
use crate::terminal;

#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// The image: `[HOST[:PORT]/]NAME[:TAG][@DIGEST]`
    name: Reference,
    /// Of an image for several platforms, take the one for `OS/ARCHITECTURE[/VARIANT]`
    #[arg(long, value_name = "PLATFORM", value_parser = platform)]
    platform: Option<Platform>,
    #[command(flatten)]
    registry: RegistryArguments,
    #[command(flatten)]
    shown: ProgressArgument,
}

impl Pull {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let (store, began) = (global.store()?, Instant::now());
        let shown = self.shown.on_demand(began);
        let client = self.registry.client(&self.name, &*shown)?;
        let platform = self.platform.unwrap_or_else(Platform::host);
        let watcher = Layers::watcher(Arc::clone(&shown), Direction::Here);
        let wanted = (&self.name, &platform);
        let pulled = block_on(firebuild_oci::pull(&store, &client, wanted, Ext4, &watcher))??;
        let name = self.name.familiar();
        let text = if pulled.known {
            format!("`{name}` is here as the registry has it")
        } else {
            let (fetched, took) = (ByteSize(pulled.fetched), progress::time(began.elapsed()));
            format!("pulled `{name}`: {fetched} in {took}")
        };
        note(&*shown, &text);
        terminal::print(format_args!("{}\n", pulled.digest))
    }
}

#[derive(Debug, Args)]
pub(crate) struct Push {
    /// An image in the store
    name: Reference,
    /// Its name in the registry, if it is another one
    to: Option<Reference>,
    /// How layers are compressed
    #[arg(long, value_enum, default_value_t)]
    compression: Compression,
    #[command(flatten)]
    registry: RegistryArguments,
    #[command(flatten)]
    shown: ProgressArgument,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Compression {
    /// As every tool reads it
    #[default]
    Gzip,
    /// Smaller and quicker
    Zstd,
    /// Not at all
    None,
}

impl Push {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let (store, began) = (global.store()?, Instant::now());
        let to = self.to.as_ref().unwrap_or(&self.name);
        if to.digest().is_some() {
            let hint = "give it a tag: `firebuild push NAME REGISTRY/NAME:TAG`";
            return Err(hinted(
                "an image is pushed under a tag, not under a digest",
                hint,
            ));
        }
        let lease = store.lease()?;
        let image = image::find(&store, &self.name)?;
        let shown = self.shown.on_demand(began);
        let client = self.registry.client(to, &*shown)?;
        let compression = match self.compression {
            Compression::Gzip => LayerCompression::Gzip,
            Compression::Zstd => LayerCompression::Zstd,
            Compression::None => LayerCompression::None,
        };
        let watcher = Layers::watcher(Arc::clone(&shown), Direction::There);
        let pushing = firebuild_oci::push(&lease, &client, &image, to, compression, &watcher);
        let pushed = block_on(pushing)??;
        let text = format!(
            "pushed `{}`: {} in {}; {} of {} layers were there",
            to.familiar(),
            ByteSize(pushed.sent),
            progress::time(began.elapsed()),
            pushed.there,
            pushed.layers,
        );
        note(&*shown, &text);
        terminal::print(format_args!("{}\n", pushed.digest))
    }
}

/// Says how it ended, in the style in which everything else was said.
fn note(shown: &dyn Progress, text: &str) {
    shown.event(Event::Note { stage: None, text });
}

/// `OS/ARCHITECTURE[/VARIANT]`
fn platform(text: &str) -> Result<Platform, String> {
    let mut parts = text.split('/').map(str::to_owned);
    let mut next = || parts.next().filter(|part| !part.is_empty());
    match (next(), next(), next(), next()) {
        (Some(os), Some(architecture), variant, None) => Ok(Platform {
            architecture,
            os,
            variant,
        }),
        _ => Err("a platform has the form OS/ARCHITECTURE[/VARIANT]".to_owned()),
    }
}
