//! `firebuild image import`: images from files.

use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::Context as _;
use clap::Args;
use firebuild_builder::rootfs::Ext4;
use firebuild_core::{ImageConfig, Platform, Reference};
use firebuild_oci::Image;
use firebuild_store::Store;

use crate::command::Global;
use crate::terminal;

/// Standard input.
const INPUT: &str = "-";

#[derive(Debug, Args)]
#[command(after_help = "Sources:
  FILE                         the archive of a root file system
  oci:DIR[:NAME]               an OCI image layout
  oci-archive:FILE[:NAME]      an OCI image layout as an archive
  docker-archive:FILE[:NAME]   what `docker save` writes

Archives may be compressed by gzip, bzip2, xz or zstd; `-` as FILE reads standard input. NAME chooses
among several images. Layers stay as they are, and everything is verified.")]
pub(crate) struct Import {
    /// Where the image is: see below
    source: String,
    /// The image's name
    #[arg(long, short)]
    tag: Reference,
}

impl Import {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<()> {
        let store = global.store()?;
        let image = self.take(&store)?;
        terminal::print(format_args!("{}\n", image.manifest.digest))
    }

    fn take(&self, store: &Store) -> anyhow::Result<Image> {
        let names = std::slice::from_ref(&self.tag);
        if let Some(layout) = self.source.strip_prefix("oci:") {
            let place = split(layout, Path::is_dir);
            return Ok(firebuild_oci::import_oci_dir(store, place, &Ext4, names)?);
        }
        if let Some(archive) = self.source.strip_prefix("oci-archive:") {
            let place = split(archive, Path::is_file);
            let input = open(place.0)?;
            let imported = firebuild_oci::import_oci_archive(store, place, input, &Ext4, names);
            return Ok(imported?);
        }
        if let Some(archive) = self.source.strip_prefix("docker-archive:") {
            let place = split(archive, Path::is_file);
            let input = open(place.0)?;
            let imported = firebuild_oci::import_docker_archive(store, place, input, &Ext4, names);
            return Ok(imported?);
        }
        let mut config = ImageConfig::scratch(Platform::host());
        config.config.working_dir.clear();
        let input = open(Path::new(&self.source))?;
        Ok(firebuild_oci::import_rootfs_tar(
            store, input, config, &self.tag,
        )?)
    }
}

fn open(path: &Path) -> anyhow::Result<Box<dyn Read>> {
    if path == Path::new(INPUT) {
        return Ok(Box::new(std::io::stdin().lock()));
    }
    let file = fs_err::File::open(path).context("cannot import the image")?;
    Ok(Box::new(BufReader::new(file)))
}

/// `PLACE[:NAME]`, where a place of the whole name comes first.
fn split(text: &str, is_there: fn(&Path) -> bool) -> (&Path, Option<&str>) {
    if is_there(Path::new(text)) {
        return (Path::new(text), None);
    }
    match text.split_once(':') {
        Some((place, name)) => (Path::new(place), Some(name)),
        None => (Path::new(text), None),
    }
}
