//! A cache in a registry: an image like any other.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::sync::Arc;

use firebuild_core::{Digest, Reference};
use firebuild_store::layout::{Descriptor, MANIFEST, Manifest};
use firebuild_store::{Blob, Lease, TemporaryFile};
use futures::StreamExt as _;

use super::{Exported, LARGEST_DOCUMENT, RECORDS, Records, json};
use crate::error::{Error, Result};
use crate::registry::{Document, Registry, RegistryError, Repository};

/// Layers that are compressed and sent at once.
const AT_ONCE: usize = 3;

/// Where a cache's blobs are.
#[derive(Debug)]
pub(super) struct Place {
    registry: Registry,
    reference: Reference,
}

impl Place {
    pub(super) fn name(&self) -> String {
        self.reference.familiar()
    }

    /// Fetches a layer. It has no name, and goes when it is dropped.
    pub(super) async fn fetch(&self, lease: &Lease, layer: &Descriptor) -> Result<TemporaryFile> {
        let repository = Repository::from(&self.reference);
        let stream = self.registry.blob(&repository, layer.digest, layer.size);
        let file = stream.save(lease.store().temporary_file()?).await?;
        let rewound = io::Seek::rewind(&mut file.file());
        rewound.map_err(|error| Error::io(error, || format!("read layer `{}`", layer.digest)))?;
        Ok(file)
    }
}

impl Exported {
    /// Reads what the image `reference` of a registry tells of a cache; none if there is no such
    /// image. Layers are fetched when they are [obtained](Exported::obtain).
    ///
    /// # Errors
    /// [`Error::Registry`]; [`Error::Invalid`] if it is something else.
    pub async fn fetch(registry: &Registry, reference: &Reference) -> Result<Option<Self>> {
        let document = match registry.manifest(reference).await {
            Err(RegistryError::NotFound { .. }) => return Ok(None),
            other => other?,
        };
        let name = format!("image `{}`", reference.familiar());
        let manifest = manifest(&document, &name)?;
        let (repository, config) = (reference.into(), &manifest.config);
        let bytes = registry.small_blob(&repository, config, LARGEST_DOCUMENT);
        let records: Records =
            serde_json::from_slice(&bytes.await?).map_err(|source| Error::Document {
                what: format!("the configuration of {name}"),
                source,
            })?;
        let place = super::Place::Registry(Place {
            registry: registry.clone(),
            reference: reference.clone(),
        });
        Self::new(place, manifest, records, &name).map(Some)
    }
}

fn manifest(document: &Document, name: &str) -> Result<Manifest> {
    let none = || Error::invalid(name, "is no build cache");
    if document.media_type != MANIFEST {
        return Err(none());
    }
    let manifest: Manifest = document.parse()?;
    if manifest.config.media_type != RECORDS {
        return Err(none());
    }
    Ok(manifest)
}

/// Writes the results of these keys to a registry, as the image `reference`, in place of what that
/// was. Layers that the registry has are not sent again. Returns how many results it holds.
///
/// # Errors
/// [`Error::Registry`], [`Error::Io`], [`Error::Store`].
pub async fn push_cache(
    lease: &Lease,
    keys: &BTreeSet<Digest>,
    registry: &Registry,
    reference: &Reference,
) -> Result<usize> {
    let records = Records::of(lease.store(), keys)?;
    let known = match Exported::fetch(registry, reference).await {
        Err(Error::Registry(error)) if error.is_unreachable() => return Err(error.into()),
        // What is there and cannot be understood is written anew.
        other => other.ok().flatten(),
    };
    let push = Push {
        lease,
        registry,
        repository: reference.into(),
        known: known.map(|known| known.layers).unwrap_or_default(),
    };
    let layers = records.layers();
    let pushed = futures::stream::iter(&layers).map(|layer| push.layer(layer));
    let mut pushed = pushed.buffered(AT_ONCE);
    let mut descriptors = Vec::new();
    while let Some(descriptor) = pushed.next().await {
        descriptors.push(descriptor?);
    }
    drop(pushed);
    let config = push.document(json(&records)?).await?;
    let bytes = json(&Manifest::new(config, descriptors))?;
    registry
        .push_manifest(reference, MANIFEST, bytes.into())
        .await?;
    Ok(records.records.len())
}

struct Push<'a> {
    lease: &'a Lease,
    registry: &'a Registry,
    repository: Repository,
    /// What the registry had, by the digests of uncompressed bytes.
    known: std::collections::BTreeMap<Digest, Descriptor>,
}

impl Push<'_> {
    async fn layer(&self, layer: &Digest) -> Result<Descriptor> {
        if let Some(known) = self.known.get(layer)
            && self
                .registry
                .has_blob(&self.repository, &known.digest)
                .await?
        {
            return Ok(known.clone());
        }
        let (lease, layer) = (self.lease.clone(), *layer);
        let compressing = tokio::task::spawn_blocking(move || {
            let file = lease.store().temporary_file().map_err(io::Error::from)?;
            super::compress(lease.store(), &layer, file)
        });
        let compressed = compressing.await.map_err(io::Error::other).flatten();
        let (file, descriptor) =
            compressed.map_err(|error| Error::io(error, || format!("compress layer `{layer}`")))?;
        self.send(&descriptor, &file).await?;
        Ok(descriptor)
    }

    async fn document(&self, bytes: Vec<u8>) -> Result<Descriptor> {
        let descriptor = Descriptor::new(RECORDS, Digest::of(&bytes), bytes.len() as u64);
        let file = self.lease.store().temporary_file()?;
        file.file()
            .write_all(&bytes)
            .map_err(|error| Error::io(error, || "write a document".to_owned()))?;
        self.send(&descriptor, &file).await?;
        Ok(descriptor)
    }

    async fn send(&self, descriptor: &Descriptor, file: &TemporaryFile) -> Result<()> {
        let open = file.file().try_clone();
        let open = open.map_err(|error| Error::io(error, || "open a layer".to_owned()))?;
        let blob = Blob {
            digest: descriptor.digest,
            size: descriptor.size,
        };
        self.registry
            .push_blob(&self.repository, blob, &Arc::new(open), None, None)
            .await?;
        Ok(())
    }
}
