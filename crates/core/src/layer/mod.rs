//! The bytes of layers: the one canonical way in which firebuild writes them, and a reader that
//! takes what every tool writes and trusts none of it.
//!
//! A layer is a POSIX pax archive (IEEE Std 1003.1, "pax Interchange Format") with the whiteouts
//! of the OCI image specification's `layer.md`. [`LayerWriter`] makes one, [`LayerReader`] reads
//! any. Host and guest share both.

mod entry;
mod extended;
mod header;
mod limits;
mod name;
mod reader;
mod sparse;
mod writer;

pub use limits::{LayerError, Limits};
pub use reader::{Item, LayerEntry, LayerReader, begins_archive};
pub use writer::{Entry, LayerWriter};

/// The unit of an archive: headers are one, contents are padded to a multiple.
const BLOCK: usize = 512;

/// What a whiteout's name begins with.
const WHITEOUT_PREFIX: &[u8] = b".wh.";

/// The name of the entry that hides all of a directory's lower entries.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What the names of other markers begin with, which only the AUFS driver knew.
const RESERVED_PREFIX: &[u8] = b".wh..wh.";

/// The record of an extended attribute: this, then the attribute's name.
const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";
