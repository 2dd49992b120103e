//! Images to registries.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use firebuild_core::digest::Hashing;
use firebuild_core::{Digest, Reference};
use firebuild_store::layout::{Descriptor, LAYER, MANIFEST, Manifest};
use firebuild_store::{Blob, Lease, Remembered, Store, TemporaryFile};
use futures::StreamExt as _;

use super::{Motion, Watcher, blocking};
use crate::error::{Error, Result};
use crate::registry::{Pushed, Registry, Repository, Told};
use crate::{Image, read_image};

/// Layers that are on their way at once.
const AT_ONCE: usize = 3;
/// How hard zstd compresses.
const ZSTD_LEVEL: i32 = 3;
/// What Docker calls a layer that is compressed by gzip.
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// How layers that were made here are compressed for a registry. Others are sent as they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LayerCompression {
    /// As every tool reads it.
    #[default]
    Gzip,
    /// Smaller and quicker; tools older than 2021 do not read it.
    Zstd,
    /// Not at all.
    None,
}

/// What a registry got.
#[derive(Debug)]
pub struct PushedImage {
    /// The digest of the manifest there.
    pub digest: Digest,
    /// Bytes that were sent for layers.
    pub sent: u64,
    /// Layers that the registry had, or took over from another of its repositories.
    pub there: usize,
    /// All its layers.
    pub layers: usize,
}

/// Sends an image of the store to a registry, under this name. Its configuration is there byte for
/// byte what it is here, and so is its manifest, unless layers had to be compressed. The same image
/// is always the same bytes.
///
/// # Errors
/// [`Error::Registry`], [`Error::Io`], [`Error::Store`].
pub async fn push(
    lease: &Lease,
    registry: &Registry,
    image: &Image,
    reference: &Reference,
    compression: LayerCompression,
    watcher: &Arc<dyn Watcher>,
) -> Result<PushedImage> {
    let place = registry.place(reference)?;
    let push = Push {
        lease,
        registry,
        repository: (&place).into(),
        compression,
        watcher,
        elsewhere: elsewhere(lease.store(), registry, &place)?,
    };
    let wanted: BTreeMap<Digest, &Descriptor> = image
        .layers
        .iter()
        .map(|layer| (layer.digest, layer))
        .collect();
    let plain: BTreeSet<&Digest> = image.diff_ids().iter().collect();
    let going = wanted.values().map(|layer| {
        let is_plain = plain.contains(&layer.digest);
        push.layer(layer, is_plain)
    });
    let mut going = futures::stream::iter(going).buffer_unordered(AT_ONCE);
    let (mut compressed, mut sent, mut there) = (BTreeMap::new(), 0, 0);
    while let Some(done) = going.next().await {
        let (layer, descriptor, pushed) = done?;
        match pushed {
            Pushed::Sent => sent += descriptor.size,
            Pushed::There | Pushed::Mounted => there += 1,
        }
        compressed.insert(layer, descriptor);
    }
    drop(going);
    let digest = push.manifest(image, &place, &compressed).await?;
    Ok(PushedImage {
        digest,
        sent,
        there,
        layers: wanted.len(),
    })
}

/// For each layer, by its blob's digest and by its diff id, the path of another repository of the
/// same registry that may have it: of an image with a name there.
fn elsewhere(
    store: &Store,
    registry: &Registry,
    reference: &Reference,
) -> Result<BTreeMap<Digest, String>> {
    let mut found = BTreeMap::new();
    for tagged in store.tags().list()? {
        // What is blocked is nowhere.
        let name = tagged.reference.and_then(|name| registry.place(&name).ok());
        let Some(name) = name else {
            continue;
        };
        let same = name.repository() == reference.repository();
        if name.registry() != reference.registry() || same {
            continue;
        }
        let image = read_image(store, &tagged.descriptor)?;
        let blobs = image.layers.iter().map(|layer| &layer.digest);
        for layer in blobs.chain(image.diff_ids()) {
            found.insert(*layer, name.repository().to_owned());
        }
    }
    Ok(found)
}

struct Push<'a> {
    lease: &'a Lease,
    registry: &'a Registry,
    repository: Repository,
    compression: LayerCompression,
    watcher: &'a Arc<dyn Watcher>,
    elsewhere: BTreeMap<Digest, String>,
}

/// A file to send, and what keeps it there.
type Sending = (Arc<File>, Option<TemporaryFile>);

impl Push<'_> {
    /// Sees that the registry has a layer. Returns its digest here, and how a manifest refers to it
    /// there.
    async fn layer(&self, layer: &Descriptor, plain: bool) -> Result<(Digest, Descriptor, Pushed)> {
        let compression = self.compression;
        let begins = Motion::Underway {
            bytes: 0,
            size: None,
        };
        self.watcher.layer(&layer.digest, begins);
        let compressing = plain && compression != LayerCompression::None;
        if compressing && let Some(descriptor) = self.there(&layer.digest).await? {
            let arrived = Motion::Arrived { moved: None };
            self.watcher.layer(&layer.digest, arrived);
            return Ok((layer.digest, descriptor, Pushed::There));
        }
        let ((file, _kept), descriptor) = if compressing {
            let (store, digest) = (self.lease.store().clone(), layer.digest);
            blocking(move || compressed(&store, &digest, compression)).await?
        } else {
            let file = self.lease.store().blob(&layer.digest)?;
            ((Arc::new(file), None), layer.clone())
        };
        let blob = Blob {
            digest: descriptor.digest,
            size: descriptor.size,
        };
        let from = self.elsewhere.get(&layer.digest).map(String::as_str);
        let told: Told = {
            let (watcher, layer) = (Arc::clone(self.watcher), layer.digest);
            let size = Some(blob.size);
            Arc::new(move |bytes| watcher.layer(&layer, Motion::Underway { bytes, size }))
        };
        let pushed = self
            .registry
            .push_blob(&self.repository, blob, &file, from, Some(&told))
            .await?;
        let moved = (pushed == Pushed::Sent).then_some(blob.size);
        self.watcher.layer(&layer.digest, Motion::Arrived { moved });
        Ok((layer.digest, descriptor, pushed))
    }

    /// A layer as it was compressed another time, if the registry has that.
    async fn there(&self, diff_id: &Digest) -> Result<Option<Descriptor>> {
        let key = compressed_key(diff_id, self.compression);
        let known = self
            .lease
            .store()
            .remembered(Remembered::Compressed, &key)?;
        let known = known.and_then(|known| serde_json::from_slice::<Descriptor>(&known).ok());
        match known {
            Some(known) => {
                let has = self.registry.has_own_blob(&self.repository, &known.digest);
                Ok(has.await?.then_some(known))
            }
            None => Ok(None),
        }
    }

    /// Sends the configuration and the manifest: as it is here, if its layers are.
    async fn manifest(
        &self,
        image: &Image,
        reference: &Reference,
        layers: &BTreeMap<Digest, Descriptor>,
    ) -> Result<Digest> {
        let store = self.lease.store();
        let bytes = store.blob_bytes(&image.manifest.digest)?;
        let manifest = store.manifest(&image.manifest.digest)?;
        let config = Blob {
            digest: manifest.config.digest,
            size: manifest.config.size,
        };
        let file = Arc::new(store.blob(&config.digest)?);
        self.registry
            .push_blob(&self.repository, config, &file, None, None)
            .await?;
        let sent: Vec<Descriptor> = image
            .layers
            .iter()
            .filter_map(|layer| layers.get(&layer.digest).cloned())
            .collect();
        let (media_type, bytes) = if sent == image.layers {
            (image.manifest.media_type.as_str(), bytes)
        } else {
            let sent = sent.into_iter().map(in_oci_words).collect();
            let manifest = Manifest::new(manifest.config, sent);
            let bytes = serde_json::to_vec(&manifest).map_err(|error| {
                Error::io(error.into(), || "write the image manifest".to_owned())
            })?;
            (MANIFEST, bytes)
        };
        let pushed = self
            .registry
            .push_manifest(reference, media_type, bytes.into());
        Ok(pushed.await?)
    }
}

/// A layer as a manifest of the OCI's refers to it.
fn in_oci_words(layer: Descriptor) -> Descriptor {
    match layer.media_type.as_str() {
        DOCKER_LAYER => Descriptor {
            media_type: format!("{LAYER}+gzip"),
            ..layer
        },
        _ => layer,
    }
}

/// Under what it is remembered what a layer is compressed.
fn compressed_key(diff_id: &Digest, compression: LayerCompression) -> Digest {
    Digest::of(format!("{diff_id} {compression:?}").as_bytes())
}

/// Compresses a layer, and remembers what came of it; the same bytes give the same bytes.
fn compressed(
    store: &Store,
    layer: &Digest,
    compression: LayerCompression,
) -> Result<(Sending, Descriptor)> {
    let fail = |error| Error::io(error, || format!("compress layer `{layer}`"));
    let kept = store.temporary_file()?;
    let file = kept.file().try_clone().map_err(fail)?;
    let mut input = store.blob(layer)?;
    let descriptor = compress(&mut input, compression, &file).map_err(fail)?;
    if let Ok(text) = serde_json::to_vec(&descriptor) {
        let key = compressed_key(layer, compression);
        // Where it cannot be kept, it is compressed again another time.
        let _ = store.remember(Remembered::Compressed, &key, &text);
    }
    Ok(((Arc::new(file), Some(kept)), descriptor))
}

fn compress(
    input: &mut File,
    compression: LayerCompression,
    output: impl Write,
) -> io::Result<Descriptor> {
    let output = Hashing::new(output);
    let (kind, (_, digest, size)) = match compression {
        LayerCompression::Zstd => {
            let mut encoder = zstd::Encoder::new(output, ZSTD_LEVEL)?;
            io::copy(input, &mut encoder)?;
            ("+zstd", encoder.finish()?.finish())
        }
        LayerCompression::Gzip | LayerCompression::None => {
            let level = flate2::Compression::default();
            let mut encoder = flate2::write::GzEncoder::new(output, level);
            io::copy(input, &mut encoder)?;
            ("+gzip", encoder.finish()?.finish())
        }
    };
    Ok(Descriptor::new(&format!("{LAYER}{kind}"), digest, size))
}
