//! A cache in a directory: an OCI image layout.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use firebuild_core::Digest;
use firebuild_store::layout::{
    Descriptor, INDEX, Index, LAYOUT_MARKER, MANIFEST, Manifest, REF_NAME,
};
use firebuild_store::{Lease, Store};
use serde::{Deserialize, Serialize};

use super::{Exported, LARGEST_DOCUMENT, Place, RECORDS, Records, json};
use crate::error::{Error, Result};

/// Writes the results of these keys to the layout `directory`, in place of what it held. Keys that
/// are not known any more are left out. Layers that it holds already are not written again, and
/// those that nothing needs any more are removed. Returns how many results it holds.
///
/// # Errors
/// [`Error::Io`], [`Error::Store`].
pub fn export_cache(lease: &Lease, keys: &BTreeSet<Digest>, directory: &Path) -> Result<usize> {
    let store = lease.store();
    let blobs = directory.join("blobs/sha256");
    let fail = |error| {
        Error::io(error, || {
            format!("write the cache `{}`", directory.display())
        })
    };
    fs_err::create_dir_all(&blobs).map_err(fail)?;
    let known = Exported::open(directory).ok().flatten();
    let known = known.map(|known| known.layers).unwrap_or_default();
    let records = Records::of(store, keys)?;
    let mut layers = BTreeMap::new();
    for layer in records.layers() {
        let there = known.get(&layer).filter(|there| has(&blobs, there));
        let descriptor = match there {
            Some(descriptor) => descriptor.clone(),
            None => compress(store, &layer, &blobs)?,
        };
        layers.insert(layer, descriptor);
    }
    let count = records.records.len();
    let config = document(&blobs, RECORDS, &records)?;
    let manifest = Manifest::new(config, layers.into_values().collect());
    let mut entry = document(&blobs, MANIFEST, &manifest)?;
    entry
        .annotations
        .insert(REF_NAME.to_owned(), "latest".to_owned());
    let mut needed: BTreeSet<String> = manifest
        .layers
        .iter()
        .map(|layer| layer.digest.hex())
        .collect();
    needed.extend([manifest.config.digest.hex(), entry.digest.hex()]);
    let index = Index {
        media_type: Some(INDEX.to_owned()),
        manifests: vec![entry],
        ..Index::default()
    };
    write_whole(&directory.join("oci-layout"), LAYOUT_MARKER.as_bytes()).map_err(fail)?;
    write_whole(&directory.join("index.json"), &json(&index)?).map_err(fail)?;
    sweep(&blobs, &needed).map_err(fail)?;
    Ok(count)
}

impl Exported {
    /// Reads what the layout `directory` holds; nothing if there is no such directory.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Document`] or [`Error::Invalid`] if it is something else or damaged.
    pub fn open(directory: &Path) -> Result<Option<Self>> {
        let index = directory.join("index.json");
        if !index.exists() {
            return Ok(None);
        }
        let blobs = directory.join("blobs/sha256");
        let index: Index = read(&index)?;
        let Some(entry) = index.manifests.first() else {
            return Ok(None);
        };
        let manifest: Manifest = read(&blobs.join(entry.digest.hex()))?;
        let name = format!("`{}`", directory.display());
        if manifest.config.media_type != RECORDS {
            return Err(Error::invalid(
                name,
                "is an image layout, but no build cache",
            ));
        }
        let records: Records = read(&blobs.join(manifest.config.digest.hex()))?;
        Self::new(Place::Directory(blobs), manifest, records, &name).map(Some)
    }
}

pub(super) fn open(blobs: &Path, digest: &Digest) -> Result<File> {
    let path = blobs.join(digest.hex());
    let file = fs_err::File::open(&path)
        .map_err(|error| Error::io(error, || format!("open `{}`", path.display())))?;
    Ok(file.into_file())
}

fn has(blobs: &Path, layer: &Descriptor) -> bool {
    let metadata = fs_err::metadata(blobs.join(layer.digest.hex()));
    metadata.is_ok_and(|metadata| metadata.len() == layer.size)
}

/// Compresses a layer of the store into a directory of blobs.
fn compress(store: &Store, layer: &Digest, blobs: &Path) -> Result<Descriptor> {
    let fail = |error| Error::io(error, || format!("compress layer `{layer}`"));
    let partial = blobs.join(format!(".partial-{}", std::process::id()));
    let output = fs_err::File::create(&partial).map_err(fail)?;
    let (output, descriptor) = super::compress(store, layer, output).map_err(fail)?;
    output.sync_all().map_err(fail)?;
    fs_err::rename(&partial, blobs.join(descriptor.digest.hex())).map_err(fail)?;
    Ok(descriptor)
}

fn document(blobs: &Path, media_type: &str, value: &impl Serialize) -> Result<Descriptor> {
    let bytes = json(value)?;
    let digest = Digest::of(&bytes);
    let path = blobs.join(digest.hex());
    write_whole(&path, &bytes)
        .map_err(|error| Error::io(error, || format!("write `{}`", path.display())))?;
    Ok(Descriptor::new(media_type, digest, bytes.len() as u64))
}

fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let partial = path.with_extension(format!("partial-{}", std::process::id()));
    let mut file = fs_err::File::create(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs_err::rename(partial, path)
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T> {
    use std::io::Read as _;
    let fail = |error| Error::io(error, || format!("read `{}`", path.display()));
    let file = fs_err::File::open(path).map_err(fail)?;
    let mut bytes = Vec::new();
    file.take(LARGEST_DOCUMENT)
        .read_to_end(&mut bytes)
        .map_err(fail)?;
    serde_json::from_slice(&bytes).map_err(|source| Error::Document {
        what: format!("`{}`", path.display()),
        source,
    })
}

fn sweep(blobs: &Path, needed: &BTreeSet<String>) -> io::Result<()> {
    for entry in fs_err::read_dir(blobs)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_str().is_none_or(|name| !needed.contains(name)) {
            fs_err::remove_file(entry.path())?;
        }
    }
    Ok(())
}
