//! Images as archives for other tools: image layouts (`oci-archive`), and what `docker load` reads.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};

use firebuild_core::layer::{Entry, LayerWriter};
use firebuild_core::tree::Metadata;
use firebuild_core::{Digest, Reference};
use firebuild_store::Lease;
use firebuild_store::layout::LAYOUT_MARKER;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::export::index_of;
use crate::{Image, plain_layer};

/// Writes an image as the archive of an OCI image layout, and names it there by `reference`'s tag.
/// The layers are as the store has them. The same image gives the same bytes.
///
/// # Errors
/// [`Error::Io`], [`Error::Store`].
pub fn export_oci_archive<W: Write>(
    lease: &Lease,
    image: &Image,
    reference: &Reference,
    output: W,
) -> Result<W> {
    let store = lease.store();
    let mut archive = Archive::new(output);
    let layers = image.layers.iter().map(|layer| layer.digest);
    let own = [image.manifest.digest, image.config_digest];
    let mut blobs = BTreeMap::new();
    for digest in own.into_iter().chain(layers) {
        blobs.insert(name_of(&digest), store.blob(&digest)?);
    }
    archive.directories()?;
    for (name, file) in blobs {
        archive.file(&name, file)?;
    }
    archive.bytes("index.json", &index_of(image, reference)?)?;
    archive.bytes("oci-layout", LAYOUT_MARKER.as_bytes())?;
    archive.finish()
}

/// An image in `manifest.json`, as Docker's image specification 1.2 has it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// Writes an image as `docker save` does, for `docker load`: its configuration as it is, and its
/// layers uncompressed. The same image gives the same bytes.
///
/// # Errors
/// [`Error::Io`], [`Error::Store`].
pub fn export_docker_archive<W: Write>(
    lease: &Lease,
    image: &Image,
    reference: &Reference,
    output: W,
) -> Result<W> {
    let mut archive = Archive::new(output);
    let mut blobs = BTreeMap::new();
    let config = name_of(&image.config_digest);
    blobs.insert(config.clone(), lease.store().blob(&image.config_digest)?);
    for diff_id in image.diff_ids() {
        blobs.insert(name_of(diff_id), plain_layer(lease, diff_id)?);
    }
    archive.directories()?;
    for (name, file) in blobs {
        archive.file(&name, file)?;
    }
    let saved = [Saved {
        config,
        repo_tags: vec![reference.familiar()],
        layers: image.diff_ids().iter().map(name_of).collect(),
    }];
    let json = serde_json::to_vec(&saved).map_err(|source| Error::Document {
        what: "the archive's manifest".to_owned(),
        source,
    })?;
    archive.bytes("manifest.json", &json)?;
    archive.finish()
}

fn name_of(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// An archive of plain files.
struct Archive<W>(LayerWriter<W>);

impl<W: Write> Archive<W> {
    fn new(output: W) -> Self {
        Self(LayerWriter::new(output))
    }

    fn directories(&mut self) -> Result<()> {
        let metadata = Metadata::root_owned(0o755);
        for name in ["blobs", "blobs/sha256"] {
            let written = self.0.entry(name.as_bytes(), &metadata, Entry::Directory);
            written.map_err(fail)?;
        }
        Ok(())
    }

    fn file(&mut self, name: &str, mut file: File) -> Result<()> {
        let length = file.metadata().map_err(fail)?.len();
        let metadata = Metadata::root_owned(0o644);
        let written = self.0.file(name.as_bytes(), &metadata, length, &mut file);
        written.map_err(fail)
    }

    fn bytes(&mut self, name: &str, mut bytes: &[u8]) -> Result<()> {
        let metadata = Metadata::root_owned(0o644);
        let length = bytes.len() as u64;
        let written = self.0.file(name.as_bytes(), &metadata, length, &mut bytes);
        written.map_err(fail)
    }

    fn finish(self) -> Result<W> {
        self.0.finish().map_err(fail)
    }
}

fn fail(error: io::Error) -> Error {
    Error::io(error, || "write the archive".to_owned())
}
