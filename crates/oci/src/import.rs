//! Layers and root file systems that come from elsewhere.
//!
//! Nothing of them gets a name in the store before all of it has been read and found valid.

use std::io::{self, Read, Write};

use firebuild_core::layer::Limits;
use firebuild_core::tree::Tree;
use firebuild_core::{ImageConfig, Reference};
use firebuild_store::{Lease, StagedBlob, Store};

use crate::compression::Decompressed;
use crate::error::{Error, Result};
use crate::{Image, LayerIndex, apply, write_image};

/// Bounds on what is imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportLimits {
    /// Bytes of a manifest, an index or a configuration.
    pub document: u64,
    /// Layers of one image.
    pub layers: usize,
    /// Bytes of a layer, uncompressed.
    pub layer: u64,
    /// Bytes of headers of all layers of one image: 512 for an entry, and more for long names.
    pub headers: u64,
    /// What a layer may hold.
    pub entries: Limits,
}

impl Default for ImportLimits {
    fn default() -> Self {
        Self {
            document: 4 << 20,
            layers: 1000,
            layer: 1 << 36,
            headers: 1 << 31,
            entries: Limits::default(),
        }
    }
}

/// Reads a layer, compressed by gzip, bzip2, zstd, xz or nothing, into the store and checks it; it has no
/// name there until it is committed.
///
/// # Errors
/// [`Error::Layer`], [`Error::CutOff`], [`Error::TooLarge`] if it is not valid; [`Error::Io`] if it
/// cannot be read; [`Error::Store`].
pub fn import_layer(
    lease: &Lease,
    input: impl Read,
    name: &str,
    limits: &ImportLimits,
) -> Result<(StagedBlob, LayerIndex)> {
    let mut writer = lease.blob_writer()?;
    let unreadable = |error| Error::io(error, || format!("read {name}"));
    let mut input = Decompressed::new(input).map_err(unreadable)?;
    let read = copy(&mut input, &mut writer, limits.layer, name)?;
    if read > limits.layer {
        return Err(Error::TooLarge {
            what: name.to_owned(),
            limit: limits.layer,
        });
    }
    input.drain().map_err(unreadable)?;
    let staged = writer.finish()?;
    let index = LayerIndex::of_file(staged.file(), 0, limits.entries.clone());
    let index = index.map_err(|source| Error::Layer {
        layer: name.to_owned(),
        source,
    })?;
    Ok((staged, index))
}

/// Copies at most one byte more than `limit`.
fn copy(input: &mut impl Read, output: &mut impl Write, limit: u64, name: &str) -> Result<u64> {
    io::copy(&mut input.take(limit.saturating_add(1)), output)
        .map_err(|error| Error::io(error, || format!("read {name}")))
}

/// Makes an image of one layer from the archive of a root file system, compressed by gzip, bzip2,
/// zstd, xz or nothing. The layer is the archive, byte for byte.
///
/// # Errors
/// Those of [`import_layer`]; [`Error::CutOff`] for an archive without an end; [`Error::Entry`] for
/// one that makes no file tree. Nothing of it is then in the store.
pub fn import_rootfs_tar(
    store: &Store,
    input: impl Read,
    config: ImageConfig,
    reference: &Reference,
) -> Result<Image> {
    let lease = store.lease()?;
    let name = "the archive";
    let (staged, index) = import_layer(&lease, input, name, &ImportLimits::default())?;
    if !index.ended() {
        return Err(Error::CutOff(name.to_owned()));
    }
    apply(&mut Tree::default(), index)?;
    let layer = staged.commit()?;
    write_image(
        &lease,
        config,
        &[],
        &[layer],
        std::slice::from_ref(reference),
    )
}
