//! Layers in the store by their diff ids, however it keeps them: uncompressed, or as they came.

use std::fs::File;
use std::io;

use firebuild_core::Digest;
use firebuild_core::digest::Hashing;
use firebuild_core::layer::{LayerError, Limits};
use firebuild_store::layout::Descriptor;
use firebuild_store::{Blob, LayerRecord, Lease, Store};

use crate::compression::Decompressed;
use crate::error::{Error, Result};
use crate::{Arriving, LayerIndex, Sources};

/// The bytes of a layer as the store has them, to be unpacked.
///
/// # Errors
/// [`Error::Store`] if it has none.
pub fn kept_layer<'a>(store: &Store, diff_id: &Digest) -> Result<Arriving<'a>> {
    let blob = match store.layers().get(diff_id)? {
        Some(record) => record.blob(),
        None => Blob {
            digest: *diff_id,
            size: length(&store.blob(diff_id)?, diff_id)?,
        },
    };
    let store = store.clone();
    Ok(Arriving {
        name: format!("layer `{diff_id}`"),
        open: Box::new(move || Ok(Box::new(store.blob(&blob.digest)?))),
        blob: Some(blob),
        diff_id: Some(*diff_id),
        // It got its name when it was found to be what it is.
        trusted: true,
    })
}

/// The uncompressed bytes of a layer, which are put into the store if they are not there.
///
/// # Errors
/// [`Error::Store`], [`Error::Io`], [`Error::WrongDigest`].
pub fn plain_layer(lease: &Lease, diff_id: &Digest) -> Result<File> {
    let store = lease.store();
    if let Some(record) = store.layers().get(diff_id)?
        && !store.has_blob(diff_id)?
    {
        let doing = || format!("decompress layer `{diff_id}`");
        let input = store.blob(&record.blob.digest)?;
        let mut writer = lease.blob_writer()?;
        Decompressed::new(input)
            .and_then(|mut plain| io::copy(&mut plain, &mut writer))
            .map_err(|error| Error::io(error, doing))?;
        writer.commit(Some(diff_id))?;
    }
    Ok(store.blob(diff_id)?)
}

/// What a layer holds. Its files' bytes become one more of `sources`.
///
/// # Errors
/// [`Error::Store`], [`Error::Io`]; [`Error::Layer`] if it is not valid.
pub fn layer_index(lease: &Lease, diff_id: &Digest, sources: &mut Sources) -> Result<LayerIndex> {
    let store = lease.store();
    let fail = |source: LayerError| Error::Layer {
        layer: format!("layer `{diff_id}`"),
        source,
    };
    if !store.has_blob(diff_id)?
        && let Some(record) = store.layers().get(diff_id)?
        && let Some(index) = placed(store, diff_id, &record, sources)?
    {
        return Ok(index);
    }
    let file = plain_layer(lease, diff_id)?;
    let number = sources.add_file(store.blob(diff_id)?);
    LayerIndex::of_file(&file, number, Limits::default()).map_err(fail)
}

/// A layer whose files' bytes lie in a root file system image. None if that is not there any more,
/// or what was kept of it is damaged.
fn placed(
    store: &Store,
    diff_id: &Digest,
    record: &LayerRecord,
    sources: &mut Sources,
) -> Result<Option<LayerIndex>> {
    let Some(placed) = &record.placed else {
        return Ok(None);
    };
    let path = store.rootfs_path(&placed.rootfs);
    let image = match File::options().read(true).open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => {
            other.map_err(|error| Error::io(error, || format!("open `{}`", path.display())))?
        }
    };
    let Some(headers) = store.layers().headers(diff_id)? else {
        return Ok(None);
    };
    let number = sources.next_number();
    let Ok(index) = LayerIndex::of_headers(headers.as_slice(), number, Limits::default()) else {
        return Ok(None);
    };
    sources.add_placed(image, placed.blocks.iter().cloned());
    Ok(Some(index))
}

/// Whether what is kept of a layer that came from elsewhere is what its maker wrote: its record, and
/// its headers if its files' bytes have a place.
///
/// # Errors
/// [`Error::Store`].
pub fn is_kept_well(store: &Store, diff_id: &Digest) -> Result<bool> {
    let Some(record) = store.layers().get(diff_id)? else {
        return Ok(false);
    };
    if record.placed.is_none() {
        return Ok(true);
    }
    let headers = store.layers().headers(diff_id)?.unwrap_or_default();
    Ok(LayerIndex::of_headers(headers.as_slice(), 0, Limits::default()).is_ok())
}

/// Makes the record of a layer that came from elsewhere anew, from the blob that holds it. Returns
/// whether that is such a layer. Where its files' bytes lie is found out when it is next unpacked.
///
/// # Errors
/// [`Error::Store`].
pub fn relearn(store: &Store, diff_id: &Digest, blob: &Descriptor) -> Result<bool> {
    let input = store.blob(&blob.digest)?;
    let mut hashing = Hashing::new(io::sink());
    let copied = Decompressed::new(input).and_then(|mut plain| io::copy(&mut plain, &mut hashing));
    if copied.is_err() {
        return Ok(false);
    }
    let (_, digest, size) = hashing.finish();
    if digest != *diff_id {
        return Ok(false);
    }
    let record = LayerRecord {
        size,
        blob: blob.clone(),
        placed: None,
    };
    store.layers().put(diff_id, record, b"")?;
    Ok(true)
}

/// How many bytes a layer has uncompressed, where a manifest refers to it so.
pub(crate) fn plain_size(store: &Store, diff_id: &Digest, referred: &Descriptor) -> Result<u64> {
    if referred.digest == *diff_id {
        return Ok(referred.size);
    }
    let record = store.layers().get(diff_id)?;
    Ok(record.map_or(referred.size, |record| record.size))
}

fn length(file: &File, diff_id: &Digest) -> Result<u64> {
    let metadata = file.metadata();
    let metadata =
        metadata.map_err(|error| Error::io(error, || format!("read layer `{diff_id}`")))?;
    Ok(metadata.len())
}
