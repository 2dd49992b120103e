//! The file system of an image for use elsewhere: all in one file.

use std::fs::File;

use firebuild_core::ByteSize;
use firebuild_disk::ext4;
use firebuild_disk::verity;
pub use firebuild_disk::verity::Verity;
use firebuild_oci::Lower;
use firebuild_store::Store;

use super::{Free, Placed, key_of};
use crate::Error;

/// Writes the file system of an image to `output`, for use elsewhere: with a journal, and at least
/// `size`. The same image and size give the same bytes.
///
/// # Errors
/// [`Error::Image`], [`Error::RootFs`], and those of the store.
pub fn export(
    store: &Store,
    image: &firebuild_oci::Image,
    size: ByteSize,
    output: &File,
) -> Result<ext4::Summary, Error> {
    let mut room = Free(ext4::Room::new());
    let merged = firebuild_oci::unpack_kept(
        store,
        image.diff_ids(),
        &Lower::default(),
        &mut room,
        output,
    )?;
    let options = ext4::Options {
        identity: key_of(image.diff_ids()).bytes().to_vec(),
        minimum_size: size,
        journal: Some(ext4::suitable_journal(size)),
        ..ext4::Options::default()
    };
    let placed = Placed::above(merged.sources, merged.blocks);
    ext4::finish(&merged.tree, &placed, &room.0, output, &options).map_err(Error::RootFs)
}

/// Adds a dm-verity tree behind the file system of an image, which is `size` long.
///
/// # Errors
/// [`Error::Verity`].
pub fn protect(
    image: &firebuild_oci::Image,
    size: ByteSize,
    output: &File,
) -> Result<Verity, Error> {
    let identity = key_of(image.diff_ids());
    verity::append(output, size, identity.bytes()).map_err(Error::Verity)
}
