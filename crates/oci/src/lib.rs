//! Images as archives and layouts; layer bytes to file tree and back.
//!
//! * [`LayerIndex`] is what a layer holds, without its files' bytes; [`apply`] lays it on a tree.
//! * [`Changes`] is a layer that is being made; it is written in the one canonical form.
//! * [`Sources`] are where files' bytes are.
//! * [`Image`] is a configuration and its layers in the store; [`image_tree`] is its file tree.
//! * Imports and exports: [`import_rootfs_tar`], [`import_oci_dir`], [`export_rootfs_tar`],
//!   [`export_oci_dir`].
//!
//! Layers in the store are uncompressed, so a layer's blob is named by its diff id, and its files
//! are read where they are.

mod changes;
mod compression;
mod error;
mod export;
mod image;
mod import;
mod import_dir;
mod index;
mod merge;
mod source;

pub use changes::Changes;
pub use error::{Error, Result};
pub use export::{export_oci_dir, export_rootfs_tar};
pub use image::{Image, find_image, image_tree, read_image, write_image};
pub use import::{ImportLimits, import_layer, import_rootfs_tar};
pub use import_dir::import_oci_dir;
pub use index::LayerIndex;
pub use merge::apply;
pub use source::Sources;
