//! Named contexts: images, and files that are fetched when a step reads them.

use std::collections::BTreeMap;

use firebuild_core::Reference;
use firebuild_core::tree::Timestamp;
use firebuild_plan::lower::NamedContext;
use firebuild_store::Store;

use super::dockerfile::ignored;
use super::{Context, ContextError, LayoutImage, NamedPlace, Origin, Place, archive_of, shown};
use crate::Error;
use crate::fetch::{Destination, Fetcher};
use crate::sources::Files;

/// What named contexts mean to lowering. An image in a layout is imported, without a name: it is
/// known by its digest.
///
/// # Errors
/// [`Error::Image`] for a layout that cannot be imported.
pub fn resolve_named(
    store: &Store,
    named: &BTreeMap<String, NamedPlace>,
) -> Result<BTreeMap<String, NamedContext>, Error> {
    named
        .iter()
        .map(|(name, place)| Ok((name.clone(), resolve(store, place)?)))
        .collect()
}

fn resolve(store: &Store, place: &NamedPlace) -> Result<NamedContext, Error> {
    match place {
        NamedPlace::Image(reference) => Ok(NamedContext::Image(reference.clone())),
        NamedPlace::Files(_) => Ok(NamedContext::Files),
        NamedPlace::Layout { directory, image } => {
            let wanted = match image {
                LayoutImage::Only => None,
                LayoutImage::Tag(tag) => Some(tag.clone()),
                LayoutImage::Digest(digest) => Some(digest.to_string()),
            };
            let image = firebuild_oci::import_oci_dir(
                store,
                (directory, wanted.as_deref()),
                &crate::rootfs::Ext4,
                &[],
            )?;
            let name = format!("oci-layout@{}", image.manifest.digest);
            // A name and a digest are always a reference.
            let reference = name.parse::<Reference>();
            reference.map(NamedContext::Image).map_err(|error| {
                let (value, reason) = (name.clone(), error.to_string());
                ContextError::Named { value, reason }.into()
            })
        }
    }
}

/// The contexts that have files.
pub(super) fn contexts(
    named: &BTreeMap<String, NamedPlace>,
) -> Result<BTreeMap<String, Context>, ContextError> {
    let mut contexts = BTreeMap::new();
    for (name, place) in named {
        let origin = match place {
            NamedPlace::Image(_) | NamedPlace::Layout { .. } => continue,
            NamedPlace::Files(Place::Directory(directory)) => {
                super::open::check_directory(directory)?;
                Origin::Directory(directory.clone(), ignored(directory, None)?)
            }
            NamedPlace::Files(place) => Origin::Place(place.clone()),
        };
        contexts.insert(name.clone(), origin.into());
    }
    Ok(contexts)
}

/// The time of a named context from elsewhere, in seconds since 1970.
pub(super) async fn time(
    place: &Place,
    fetcher: &Fetcher,
    to: Destination<'_>,
) -> Result<Option<u64>, Error> {
    let seconds = |time: Timestamp| u64::try_from(time.seconds).ok();
    match place {
        Place::Git { source, .. } => Ok(Some(fetcher.git(to, source).await?.time)),
        Place::Http(url) => {
            let download = fetcher.http(to, url, None).await?;
            if let Some(time) = download.last_modified.and_then(seconds) {
                return Ok(Some(time));
            }
            let (threads, blob) = (fetcher.threads(), &download.blob.digest);
            let name = format!("`{}`", shown(url));
            let archive = archive_of(threads, to.lease, blob, &name).await?;
            Ok(archive.and_then(|(_, newest)| newest.and_then(seconds)))
        }
        Place::Directory(_) | Place::StandardInput => Ok(None),
    }
}

/// The files of a named context from elsewhere.
pub(super) async fn files(
    place: &Place,
    fetcher: &Fetcher,
    to: Destination<'_>,
) -> Result<Files, ContextError> {
    match place {
        Place::Git { source, .. } => {
            let checkout = fetcher.git(to, source).await?;
            super::of_checkout(fetcher.threads(), to.lease, checkout).await
        }
        Place::Http(url) => {
            let name = format!("`{}`", shown(url));
            let download = fetcher.http(to, url, None).await?;
            let archive =
                archive_of(fetcher.threads(), to.lease, &download.blob.digest, &name).await?;
            let (files, _) = archive.ok_or(ContextError::NotArchive(name))?;
            Ok(files)
        }
        Place::Directory(_) | Place::StandardInput => Ok(Files::default()),
    }
}
