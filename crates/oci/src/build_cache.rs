//! The build cache outside of a store: results of steps as an OCI image layout, which other
//! machines take from what they have not done themselves.
//!
//! One manifest, whose configuration ([`Records`], [`RECORDS`]) tells the keys of steps and the
//! layers that they gave, and whose layers are these, compressed by zstd. So a registry keeps it
//! like any image.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use firebuild_core::Digest;
use firebuild_core::digest::Hashing;
use firebuild_store::layout::{
    Descriptor, INDEX, Index, LAYER, LAYOUT_MARKER, MANIFEST, Manifest, REF_NAME,
};
use firebuild_store::{CacheRecord, Lease, Store};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::import::{ImportLimits, import_layer};

/// The media type of the configuration.
pub const RECORDS: &str = "application/vnd.firebuild.cache.config.v1+json";

/// The annotation of a layer's descriptor that is the digest of its uncompressed bytes.
const DIFF_ID: &str = "io.firebuild.diff-id";

/// How hard layers are compressed: quickly, because a cache that is slow to write is left out.
const LEVEL: i32 = 3;

/// The largest manifest or configuration that is read, in bytes.
const LARGEST_DOCUMENT: u64 = 64 << 20;

/// The records of an exported cache, by their keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Records {
    /// Always 1.
    pub version: u32,
    /// What each step gave.
    pub records: BTreeMap<Digest, CacheRecord>,
}

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
    let mut records = BTreeMap::new();
    for key in keys {
        records.extend(store.cache().get(key)?.map(|record| (*key, record)));
    }
    let mut layers = BTreeMap::new();
    for record in records.values() {
        if layers.contains_key(&record.layer) {
            continue;
        }
        let there = known
            .as_ref()
            .and_then(|known| known.layers.get(&record.layer));
        let descriptor = match there {
            Some(descriptor) if known.as_ref().is_some_and(|known| known.has(descriptor)) => {
                descriptor.clone()
            }
            _ => compress(store, &record.layer, &blobs)?,
        };
        layers.insert(record.layer, descriptor);
    }
    let count = records.len();
    let config = document(
        &blobs,
        RECORDS,
        &Records {
            version: 1,
            records,
        },
    )?;
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

/// A cache that was exported to a directory.
#[derive(Debug)]
pub struct Exported {
    blobs: PathBuf,
    records: BTreeMap<Digest, CacheRecord>,
    /// By the digests of their uncompressed bytes.
    layers: BTreeMap<Digest, Descriptor>,
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
        let invalid = |reason: &str| Error::Invalid {
            what: format!("`{}`", directory.display()),
            reason: reason.to_owned(),
        };
        if manifest.config.media_type != RECORDS {
            return Err(invalid("is an image layout, but no build cache"));
        }
        let records: Records = read(&blobs.join(manifest.config.digest.hex()))?;
        if records.version != 1 {
            return Err(invalid("was written by a newer firebuild"));
        }
        let mut layers = BTreeMap::new();
        for layer in manifest.layers {
            let diff_id = layer.annotations.get(DIFF_ID).map(|text| text.parse());
            if let Some(Ok(diff_id)) = diff_id {
                layers.insert(diff_id, layer);
            }
        }
        Ok(Some(Self {
            blobs,
            records: records.records,
            layers,
        }))
    }

    /// Takes the result of a key into the store, if this has it.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Layer`] and the like if the layer is damaged, [`Error::Store`].
    pub fn take(&self, lease: &Lease, key: &Digest) -> Result<Option<CacheRecord>> {
        let Some(record) = self.records.get(key) else {
            return Ok(None);
        };
        let store = lease.store();
        if !store.has_blob(&record.layer)? {
            let Some(layer) = self.layers.get(&record.layer) else {
                return Ok(None);
            };
            let path = self.blobs.join(layer.digest.hex());
            let file = fs_err::File::open(&path)
                .map_err(|error| Error::io(error, || format!("open `{}`", path.display())))?;
            let name = format!("layer `{}` of the cache", layer.digest);
            let (staged, _) = import_layer(lease, file, &name, &ImportLimits::default())?;
            staged.check(&record.layer)?;
            staged.commit()?;
        }
        store.cache().put(key, record)?;
        Ok(Some(record.clone()))
    }

    fn has(&self, layer: &Descriptor) -> bool {
        let metadata = fs_err::metadata(self.blobs.join(layer.digest.hex()));
        metadata.is_ok_and(|metadata| metadata.len() == layer.size)
    }
}

/// Compresses a layer of the store into a directory of blobs.
fn compress(store: &Store, layer: &Digest, blobs: &Path) -> Result<Descriptor> {
    let fail = |error| Error::io(error, || format!("compress layer `{layer}`"));
    let mut input = store.blob(layer)?;
    let partial = blobs.join(format!(".partial-{}", std::process::id()));
    let output = fs_err::File::create(&partial).map_err(fail)?;
    let mut encoder = zstd::Encoder::new(Hashing::new(output), LEVEL).map_err(fail)?;
    io::copy(&mut input, &mut encoder).map_err(fail)?;
    let (output, digest, size) = encoder.finish().map_err(fail)?.finish();
    output.sync_all().map_err(fail)?;
    fs_err::rename(&partial, blobs.join(digest.hex())).map_err(fail)?;
    let media_type = format!("{LAYER}+zstd");
    let mut descriptor = Descriptor::new(&media_type, digest, size);
    descriptor
        .annotations
        .insert(DIFF_ID.to_owned(), layer.to_string());
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

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value)
        .map_err(|error| Error::io(error.into(), || "write a document".to_owned()))
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
