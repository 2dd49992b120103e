//! The build cache outside of a store: results of steps as an OCI image, in the layout of a
//! directory or in a registry, from which other machines take what they have not done themselves.
//!
//! One manifest, whose configuration ([`Records`], [`RECORDS`]) tells the keys of steps and the
//! layers that they gave, and whose layers are these, compressed by zstd. So a registry keeps it
//! like any image. To know what a cache has, its manifest and configuration are enough: a layer is
//! read when a step needs it.

mod directory;
mod remote;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use firebuild_core::Digest;
use firebuild_core::digest::Hashing;
use firebuild_store::layout::{Descriptor, LAYER, Manifest};
use firebuild_store::{CacheRecord, Lease, Store, TemporaryFile};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::import::{ImportLimits, import_layer};

pub use directory::export_cache;
use remote::Place as RemotePlace;
pub use remote::push_cache;

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

impl Records {
    /// Those of the keys that are known to a store.
    fn of(store: &Store, keys: &BTreeSet<Digest>) -> Result<Self> {
        let mut records = BTreeMap::new();
        for key in keys {
            records.extend(store.cache().get(key)?.map(|record| (*key, record)));
        }
        let version = 1;
        Ok(Self { version, records })
    }

    /// Each layer once.
    fn layers(&self) -> BTreeSet<Digest> {
        self.records.values().map(|record| record.layer).collect()
    }
}

/// A cache that was exported.
#[derive(Debug)]
pub struct Exported {
    place: Place,
    records: BTreeMap<Digest, CacheRecord>,
    /// By the digests of their uncompressed bytes.
    layers: BTreeMap<Digest, Descriptor>,
    /// Whether it is not to be asked any more.
    given_up: AtomicBool,
}

/// Where its blobs are.
#[derive(Debug)]
enum Place {
    /// In this directory.
    Directory(PathBuf),
    Registry(RemotePlace),
}

/// A result of an exported cache, with its layer's compressed bytes, unless the store has it.
#[derive(Debug)]
pub struct Obtained {
    key: Digest,
    record: CacheRecord,
    layer: Option<(Compressed, String)>,
}

#[derive(Debug)]
enum Compressed {
    File(File),
    Fetched(TemporaryFile),
}

impl Exported {
    /// What a manifest and its configuration tell. `name` is what messages call the cache.
    fn new(place: Place, manifest: Manifest, records: Records, name: &str) -> Result<Self> {
        if records.version != 1 {
            return Err(Error::invalid(name, "was written by a newer firebuild"));
        }
        let mut layers = BTreeMap::new();
        for layer in manifest.layers {
            let diff_id = layer.annotations.get(DIFF_ID).map(|text| text.parse());
            if let Some(Ok(diff_id)) = diff_id {
                layers.insert(diff_id, layer);
            }
        }
        Ok(Self {
            place,
            records: records.records,
            layers,
            given_up: AtomicBool::new(false),
        })
    }

    /// The registry's name for it, if it is in a registry.
    #[must_use]
    pub fn remote(&self) -> Option<String> {
        match &self.place {
            Place::Directory(_) => None,
            Place::Registry(place) => Some(place.name()),
        }
    }

    /// Says that it has failed: from now on it has nothing. Returns whether it had before.
    pub fn give_up(&self) -> bool {
        !self.given_up.swap(true, Ordering::Relaxed)
    }

    /// The result of a key, if this has it; its layer is fetched, if it is in a registry and the
    /// store does not have it.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Registry`], [`Error::Store`].
    pub async fn obtain(&self, lease: &Lease, key: &Digest) -> Result<Option<Obtained>> {
        let Some(record) = self.records.get(key).cloned() else {
            return Ok(None);
        };
        if self.given_up.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let key = *key;
        if lease.store().has_blob(&record.layer)? {
            return Ok(Some(Obtained {
                key,
                record,
                layer: None,
            }));
        }
        let Some(layer) = self.layers.get(&record.layer) else {
            return Ok(None);
        };
        let compressed = match &self.place {
            Place::Directory(blobs) => Compressed::File(directory::open(blobs, &layer.digest)?),
            Place::Registry(place) => Compressed::Fetched(place.fetch(lease, layer).await?),
        };
        Ok(Some(Obtained {
            key,
            record,
            layer: Some((compressed, format!("layer `{}` of the cache", layer.digest))),
        }))
    }
}

impl Obtained {
    /// Takes it into the store.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Layer`] and the like if the layer is damaged, [`Error::Store`].
    pub fn keep(self, lease: &Lease) -> Result<()> {
        if let Some((compressed, name)) = &self.layer {
            let file = match compressed {
                Compressed::File(file) => file,
                Compressed::Fetched(file) => file.file(),
            };
            let (staged, _) = import_layer(lease, file, name, &ImportLimits::default())?;
            staged.check(&self.record.layer)?;
            staged.commit()?;
        }
        Ok(lease.store().cache().put(&self.key, &self.record)?)
    }
}

/// Compresses a layer of the store. Returns what it was written to, and the descriptor without its
/// name.
fn compress<W: Write>(store: &Store, layer: &Digest, output: W) -> io::Result<(W, Descriptor)> {
    let mut input = store.blob(layer).map_err(io::Error::from)?;
    let mut encoder = zstd::Encoder::new(Hashing::new(output), LEVEL)?;
    io::copy(&mut input, &mut encoder)?;
    let (output, digest, size) = encoder.finish()?.finish();
    let mut descriptor = Descriptor::new(&format!("{LAYER}+zstd"), digest, size);
    descriptor
        .annotations
        .insert(DIFF_ID.to_owned(), layer.to_string());
    Ok((output, descriptor))
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value)
        .map_err(|error| Error::io(error.into(), || "write a document".to_owned()))
}
