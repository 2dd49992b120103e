//! Images as archives and layouts; layer bytes to file tree and back.
//!
//! * [`LayerIndex`] is what a layer holds, without its files' bytes; [`apply`] lays it on a tree.
//! * [`Changes`] is a layer that is being made; it is written in the one canonical form.
//! * [`Decompressed`] tells compressed bytes by their beginning.
//! * [`Sources`] are where files' bytes are; a [`HostFile`] is one that may change.
//! * [`Image`] is a configuration and its layers in the store; [`image_tree`] is its file tree.
//! * [`export_cache`], [`push_cache`] and [`Exported`]: the build cache outside of a store.
//! * [`pull`] and [`push`]: images from registries and to them.
//! * [`registry`]: where images and caches come from and go to.
//! * [`Trust`] is whom TLS clients believe, [`ClientIdentity`] as whom they present themselves.
//! * Imports: [`import_rootfs_tar`], [`import_oci_dir`], [`import_oci_archive`],
//!   [`import_docker_archive`]. Exports: [`export_rootfs_tar`], [`export_oci_dir`],
//!   [`export_oci_archive`], [`export_docker_archive`].
//!
//! Layers that are made here are uncompressed, so such a layer's blob is named by its diff id, and its
//! files are read where they are. Layers that came from elsewhere stay as they came; their files'
//! bytes are unpacked ([`unpack`]) to a root file system image and read there.
//!
//! What a build does with a copied file, from the base image to the new one:
//!
//! ```
//! use firebuild_core::tree::{Content, Kind, Metadata, Node};
//! use firebuild_core::{ImageConfig, Platform};
//! use firebuild_oci::{Changes, Sources, find_image, image_tree, write_image};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let host_file = directory.path().join("motd");
//! # std::fs::write(&host_file, b"hello\n")?;
//! # let store = firebuild_store::Store::open(&directory.path().join("store"))?;
//! # let base = ImageConfig::scratch(Platform::host());
//! # write_image(&store.lease()?, base, &[], &[], &["base".parse()?])?;
//! // Nothing is collected before the new image refers to it.
//! let lease = store.lease()?;
//! let base = find_image(&store, &"base".parse()?)?;
//! let (lower, _) = image_tree(&store, base.diff_ids())?;
//!
//! let mut sources = Sources::new();
//! let source = sources.add_path(host_file);
//! let mut changes = Changes::over(&lower);
//! let node = Node {
//!     metadata: Metadata::root_owned(0o644),
//!     kind: Kind::File(Content::whole(source, 0, 6)),
//! };
//! changes.insert(b"etc/motd", node)?;
//!
//! let writer = changes.write(&sources, lease.blob_writer()?)?;
//! let layer = writer.commit(None)?;
//! let mut layers = base.plain_layers(&store)?;
//! layers.push(layer);
//! let image = write_image(&lease, base.config, &base.layers, &layers, &["new:1".parse()?])?;
//! assert_eq!(image.config.rootfs.diff_ids.last(), Some(&layer.digest));
//! # Ok(())
//! # }
//! ```

mod arrive;
mod build_cache;
mod cause;
mod changes;
mod compression;
mod error;
mod export;
mod export_archive;
mod host_file;
mod image;
mod import;
mod import_archive;
mod import_dir;
mod index;
mod kept;
mod members;
mod merge;
mod origin;
pub mod registry;
mod source;
mod transfer;
mod trust;
mod unpack;

pub use arrive::{Destination, Documents, Fill, Lower, Merged, take_in, unpack_kept};
pub use build_cache::{Exported, Obtained, RECORDS, Records, export_cache, push_cache};
pub use cause::Cause;
pub use changes::Changes;
pub use compression::Decompressed;
pub use error::{Error, Result};
pub use export::{export_oci_dir, export_rootfs_tar};
pub use export_archive::{export_docker_archive, export_oci_archive};
pub use host_file::{HostFile, Identity};
pub use image::{Image, find_image, image_tree, read_image, write_image};
pub use import::{ImportLimits, import_layer, import_rootfs_tar};
pub use import_archive::{import_docker_archive, import_oci_archive};
pub use import_dir::import_oci_dir;
pub use index::LayerIndex;
pub use kept::{is_kept_well, kept_layer, layer_index, plain_layer, relearn};
pub use merge::apply;
pub use origin::{Origin, OriginLayer};
pub use source::Sources;
pub use transfer::{
    LayerCompression, Motion, Pulled, PushedImage, Unwatched, Watcher, pull, push, restore,
};
pub use trust::{ClientIdentity, Trust, TrustError};
pub use unpack::{Arriving, Open, Room, Unpacked, unpack};
