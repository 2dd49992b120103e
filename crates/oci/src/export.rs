//! Images for other tools.

use std::io::{self, Write};
use std::path::Path;

use firebuild_core::Reference;
use firebuild_store::Store;
use firebuild_store::layout::{FULL_NAME, Index, LAYOUT_MARKER, REF_NAME};

use crate::error::{Error, Result};
use crate::{Changes, Image, Sources, image_tree};

/// Writes the archive of an image's root file system: the merged tree with every attribute, in the
/// canonical form of layers, so the same layers give the same bytes.
///
/// # Errors
/// Those of [`image_tree`] and [`Changes::write`].
pub fn export_rootfs_tar<W: Write>(store: &Store, image: &Image, output: W) -> Result<W> {
    let (tree, sources): (_, Sources) = image_tree(store, image.diff_ids())?;
    Changes::whole(tree).write(&sources, output)
}

/// Writes an image as an OCI image layout to `directory`, which must not exist or be empty, and
/// names it there by `reference`'s tag. It appears there whole or not at all.
///
/// # Errors
/// [`Error::Exists`], [`Error::Io`], [`Error::Store`].
pub fn export_oci_dir(
    store: &Store,
    image: &Image,
    reference: &Reference,
    directory: &Path,
) -> Result<()> {
    let doing = || format!("write the image layout `{}`", directory.display());
    let fail = |error| Error::io(error, doing);
    if !is_free(directory).map_err(fail)? {
        return Err(Error::Exists(directory.to_owned()));
    }
    let mut name = directory.file_name().unwrap_or_default().to_owned();
    name.push(format!(".partial-{}", std::process::id()));
    let partial = directory.with_file_name(name);
    let written = write_layout(store, image, reference, &partial)
        .and_then(|()| fs_err::rename(&partial, directory).map_err(fail));
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs_err::remove_dir_all(&partial);
    }
    written
}

fn is_free(directory: &Path) -> io::Result<bool> {
    match fs_err::read_dir(directory) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(false),
        Err(error) => Err(error),
    }
}

fn write_layout(
    store: &Store,
    image: &Image,
    reference: &Reference,
    directory: &Path,
) -> Result<()> {
    let doing = || format!("write the image layout `{}`", directory.display());
    let fail = |error| Error::io(error, doing);
    let blobs = directory.join("blobs/sha256");
    fs_err::create_dir_all(&blobs).map_err(fail)?;
    let own = [&image.manifest.digest, &image.config_digest];
    let layers = image.layers.iter().map(|layer| &layer.digest);
    for digest in own.into_iter().chain(layers) {
        let target = blobs.join(digest.hex());
        fs_err::copy(store.blob_path(digest), target).map_err(fail)?;
    }
    let index = index_of(image, reference)?;
    fs_err::write(directory.join("index.json"), index).map_err(fail)?;
    fs_err::write(directory.join("oci-layout"), LAYOUT_MARKER).map_err(fail)
}

/// The index of a layout that has one image, named by `reference`'s tag.
pub(crate) fn index_of(image: &Image, reference: &Reference) -> Result<Vec<u8>> {
    let mut entry = image.manifest.clone();
    entry.annotations.remove(REF_NAME);
    if let Some(tag) = reference.tag() {
        entry
            .annotations
            .insert(REF_NAME.to_owned(), tag.to_owned());
    }
    entry
        .annotations
        .insert(FULL_NAME.to_owned(), reference.to_string());
    let index = Index {
        manifests: vec![entry],
        ..Index::default()
    };
    serde_json::to_vec(&index).map_err(|source| Error::Document {
        what: "the layout's index".to_owned(),
        source,
    })
}
