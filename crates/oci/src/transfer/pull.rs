//! Images from registries.

use std::io;
use std::sync::Arc;

use firebuild_core::{Digest, Platform, Reference};
use firebuild_store::layout::{Descriptor, Manifest, SOURCE};
use firebuild_store::{Blob, Store};

use super::layer::Downloads;
use super::{Watcher, blocking};
use crate::error::{Error, Result};
use crate::registry::{Registry, RegistryError};
use crate::{Destination, Documents, Image, ImportLimits, read_image, take_in};

/// An image that was pulled.
#[derive(Debug)]
pub struct Pulled {
    /// As it is in the store.
    pub image: Image,
    /// The digest of what the registry has under its name: of an index, if that is what it is.
    pub digest: Digest,
    /// How many bytes came for its layers.
    pub fetched: u64,
    /// Whether it was there already.
    pub known: bool,
}

/// Brings the image `reference` into the store, under this name; of an image for several platforms
/// the one for `platform`. One that is there as the registry has it is only asked for. Layers are
/// fetched at the same time, those that the store has are not, and what breaks off goes on where it
/// was. Mirrors are asked before the registry; what they do not have, or not right, it is asked for.
///
/// # Errors
/// [`Error::Registry`], and those of [`take_in`].
pub async fn pull(
    store: &Store,
    registry: &Registry,
    (reference, platform): (&Reference, &Platform),
    destination: impl Destination + Clone + Send + 'static,
    watcher: &Arc<dyn Watcher>,
) -> Result<Pulled> {
    let _lease = store.lease()?;
    let pull = Pull {
        store,
        registry,
        reference,
        platform,
        watcher,
    };
    let mut last = None;
    for place in registry.places(reference)? {
        match pull.from(&place, destination.clone()).await {
            Ok(pulled) => return Ok(pulled),
            // A mirror need not have everything; its own registry has the last word.
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| Error::NoImage(Box::new(reference.clone()))))
}

/// Fetches again what is missing of an image that was pulled and has this name and descriptor in the
/// store: by the digest that its registry had for it then, whatever it has under the name now. False
/// for one that did not come from a registry.
///
/// # Errors
/// Those of [`pull`].
pub async fn restore(
    store: &Store,
    registry: &Registry,
    (reference, descriptor): (&Reference, &Descriptor),
    destination: impl Destination + Clone + Send + 'static,
    watcher: &Arc<dyn Watcher>,
) -> Result<bool> {
    let _lease = store.lease()?;
    let (name, repository) = (reference.registry(), reference.repository());
    let source = descriptor.annotations.get(SOURCE);
    let pinned = source.map(|digest| format!("{name}/{repository}@{digest}"));
    let Some(pinned) = pinned.and_then(|name| name.parse::<Reference>().ok()) else {
        return Ok(false);
    };
    let pull = Pull {
        store,
        registry,
        reference,
        platform: &descriptor.platform.clone().unwrap_or_else(Platform::host),
        watcher,
    };
    let mut last = Error::NoImage(Box::new(reference.clone()));
    for place in registry.places(&pinned)? {
        match pull.obtain(&place, destination.clone()).await {
            Ok((image, _, _)) if image.manifest.digest == descriptor.digest => return Ok(true),
            // Of several that fit the platform, another one was in the store.
            Ok(_) => last = Error::NoImage(Box::new(reference.clone())),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// What is pulled, and into which store.
struct Pull<'a> {
    store: &'a Store,
    registry: &'a Registry,
    reference: &'a Reference,
    platform: &'a Platform,
    watcher: &'a Arc<dyn Watcher>,
}

impl Pull<'_> {
    /// Pulls from a place: a mirror, or the image's own registry.
    async fn from(
        &self,
        place: &Reference,
        destination: impl Destination + Clone + Send + 'static,
    ) -> Result<Pulled> {
        if let Some(pulled) = self.known(place).await? {
            return Ok(pulled);
        }
        let (mut image, digest, fetched) = self.obtain(place, destination).await?;
        let annotations = &mut image.manifest.annotations;
        annotations.insert(SOURCE.to_owned(), digest.to_string());
        let tags = self.store.tags();
        tags.set(self.reference, image.manifest.clone())?;
        Ok(Pulled {
            image,
            digest,
            fetched,
            known: false,
        })
    }

    /// Brings what a place has into the store, without a name: the image, the digest that the place
    /// has for it, and how many bytes came for its layers.
    async fn obtain(
        &self,
        place: &Reference,
        destination: impl Destination + Clone + Send + 'static,
    ) -> Result<(Image, Digest, u64)> {
        let registry = self.registry;
        let index = registry.manifest(place).await?;
        let documents = documents(registry, place, index.clone(), self.platform).await?;
        let (image, fetched) = match self.attempt(place, &documents, destination.clone()).await {
            // What was here may have been other bytes than the layer's.
            Err((error, true)) if is_wrong(&error) => {
                self.attempt(place, &documents, destination).await
            }
            other => other,
        }
        .map_err(|(error, _)| error)?;
        Ok((image, index.digest, fetched))
    }

    /// The image, if it is here as the registry has it.
    async fn known(&self, place: &Reference) -> Result<Option<Pulled>> {
        let (store, platform) = (self.store, self.platform);
        let Some(descriptor) = store.tags().get(self.reference)? else {
            return Ok(None);
        };
        let source = descriptor.annotations.get(SOURCE);
        let source: Option<Digest> = source.and_then(|text| text.parse().ok());
        let fits = descriptor.platform.as_ref().is_some_and(|found| {
            found.os == platform.os && found.architecture == platform.architecture
        });
        let Some(digest) = source.filter(|_| fits) else {
            return Ok(None);
        };
        let image = match read_image(store, &descriptor) {
            Ok(image) if is_whole(store, &image)? => image,
            // What is damaged is mended.
            _ => return Ok(None),
        };
        let pinned = place.digest().is_some();
        if !pinned {
            match self.registry.digest(place).await {
                Ok(told) if told == Some(digest) => {}
                // Some registries do not know this question; the manifest itself will tell.
                Ok(_) | Err(RegistryError::Status { .. }) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(Pulled {
            image,
            digest,
            fetched: 0,
            known: true,
        }))
    }

    /// Fetches and unpacks the layers. After an error it is also told whether some of the bytes were
    /// here from an earlier time.
    async fn attempt(
        &self,
        place: &Reference,
        documents: &Documents,
        destination: impl Destination + Send + 'static,
    ) -> Result<(Image, u64), (Error, bool)> {
        let store = self.store;
        let downloads = Downloads::new(self.registry, place.into(), (store, self.watcher));
        let outcome = Arc::clone(&downloads.outcome);
        let (taking, coming) = (store.clone(), documents.clone());
        let taken =
            blocking(move || take_in(&taking, &coming, &downloads, &destination, &[])).await;
        let error = match (taken, outcome.failure()) {
            (Ok(image), _) => {
                forget(store, documents);
                return Ok((image, outcome.fetched()));
            }
            (Err(_), Some(failure)) => failure.into(),
            (Err(error), None) => error,
        };
        // What can go on later stays; of what is not valid nothing does.
        let goes_on = match &error {
            Error::Registry(error) => error.is_unreachable(),
            error => matches!(error, Error::Store(_)) || is_for_lack_of_space(error),
        };
        if !goes_on {
            forget(store, documents);
        }
        Err((error, outcome.resumed()))
    }
}

fn is_whole(store: &Store, image: &Image) -> Result<bool> {
    for layer in &image.layers {
        let blob = Blob {
            digest: layer.digest,
            size: layer.size,
        };
        if !store.has_whole_blob(&blob)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The manifest for the platform, and its configuration.
async fn documents(
    registry: &Registry,
    reference: &Reference,
    index: crate::registry::Document,
    platform: &Platform,
) -> Result<Documents> {
    let document = registry.choose(reference, index, platform).await?;
    let manifest: Manifest = document.parse()?;
    let limit = ImportLimits::default().document;
    let repository = reference.into();
    let config = registry.small_blob(&repository, &manifest.config, limit);
    Ok(Documents {
        config: config.await?,
        descriptor: document.descriptor(),
        manifest: document.bytes.to_vec(),
    })
}

/// Whether the bytes were not those of the layer.
fn is_wrong(error: &Error) -> bool {
    let digest = matches!(error, Error::Registry(RegistryError::WrongDigest { .. }));
    digest || !matches!(error, Error::Registry(_) | Error::Store(_)) && !is_for_lack_of_space(error)
}

/// Whether a disk is full, whoever wanted to write to it.
fn is_for_lack_of_space(error: &Error) -> bool {
    let first: &(dyn std::error::Error + 'static) = error;
    std::iter::successors(Some(first), |error| error.source())
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .any(|error| {
            matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            )
        })
}

/// Removes what was kept of the layers' bytes. What cannot be removed now is, some day.
fn forget(store: &Store, documents: &Documents) {
    let manifest = serde_json::from_slice::<Manifest>(&documents.manifest);
    for layer in manifest.into_iter().flat_map(|manifest| manifest.layers) {
        let _ = store.forget_partial(&layer.digest);
    }
}
