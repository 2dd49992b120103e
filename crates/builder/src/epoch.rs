//! `SOURCE_DATE_EPOCH`: nothing that a build makes is younger than a given time, so that the same
//! inputs give the same bytes on any day.

use std::io::BufReader;

use firebuild_core::layer::{Entry, Item, LayerReader, LayerWriter};
use firebuild_core::tree::Timestamp;
use firebuild_oci::Sources;
use firebuild_store::Lease;

use crate::error::Error;
use crate::stage::Layer;

/// The layer with every time after `epoch` (in seconds since 1970) set to it: what BuildKit calls
/// rewriting timestamps. Older times stay, because files that were copied have them on every day.
pub(crate) fn dated(lease: &Lease, layer: Layer, epoch: u64) -> Result<Layer, Error> {
    let store = lease.store();
    let mut sources = Sources::new();
    // The reader gives the source of all contents as 0, which is the first that is added.
    sources.add_file(store.blob(&layer.digest)?);
    let latest = Timestamp {
        seconds: i64::try_from(epoch).unwrap_or(i64::MAX),
        nanoseconds: 0,
    };
    let mut reader = LayerReader::seekable(BufReader::new(store.blob(&layer.digest)?));
    let mut writer = LayerWriter::new(lease.blob_writer()?);
    while let Some(mut entry) = reader
        .next_entry()
        .map_err(|error| Error::Dated(std::io::Error::other(error)))?
    {
        entry.metadata.mtime = entry.metadata.mtime.min(latest);
        let (path, metadata) = (&entry.path[..], &entry.metadata);
        let kind = match &entry.item {
            Item::File(content) => {
                let mut bytes = sources.open(content).map_err(Error::Dated)?;
                writer
                    .file(path, metadata, content.length, &mut bytes)
                    .map_err(Error::Dated)?;
                continue;
            }
            Item::Whiteout => {
                writer.whiteout(path).map_err(Error::Dated)?;
                continue;
            }
            Item::Opaque => {
                writer.opaque(path).map_err(Error::Dated)?;
                continue;
            }
            Item::Directory => Entry::Directory,
            Item::HardLink(target) => Entry::HardLink(target),
            Item::Symlink(target) => Entry::Symlink(target),
            Item::CharacterDevice(device) => Entry::CharacterDevice(*device),
            Item::BlockDevice(device) => Entry::BlockDevice(*device),
            Item::Fifo => Entry::Fifo,
        };
        writer.entry(path, metadata, kind).map_err(Error::Dated)?;
    }
    let blob = writer.finish().map_err(Error::Dated)?.commit(None)?;
    Ok(Layer {
        digest: blob.digest,
        size: blob.size,
    })
}
