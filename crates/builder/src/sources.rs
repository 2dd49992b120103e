//! A file tree together with the bytes of its files.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Arc;

use firebuild_core::Digest;
use firebuild_core::tree::Tree;
use firebuild_oci::Sources;
use rustix::fs::MemfdFlags;

use crate::context::Digests;

/// A tree and the bytes of its files.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// What is there.
    pub(crate) tree: Tree,
    /// Where its bytes are.
    pub(crate) sources: Sources,
    /// Stands for the archive that they all come from, and for how it was read: what they are can be
    /// known by it. None if they are not of one.
    pub(crate) archive: Option<Digest>,
    /// The digests of a build context's files, to be kept for the next build.
    pub(crate) digests: Option<Arc<Digests>>,
}

/// A file in memory that holds `text`, to be a source.
pub(crate) fn text(text: &str) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create(
        "firebuild-text",
        MemfdFlags::CLOEXEC,
    )?);
    file.write_all(text.as_bytes())?;
    Ok(file)
}
