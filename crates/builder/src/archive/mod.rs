//! Archives, told by their content: what ADD unpacks and what a context can be.
//!
//! A file is an archive if it begins with a tar header, after gzip, bzip2, xz or zstd were taken
//! off. A compressed file that holds anything else is just a file. An archive is read once, into a
//! temporary file of the store that holds it uncompressed; its entries refer to that file.
//!
//! Nothing in an archive is trusted: see [`Limits`] for how much one may ask, and
//! [`firebuild_core::layer`] for what an entry may be.

mod bounds;

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufWriter, Cursor, Read, Write as _};

use firebuild_core::layer::{self, Item, LayerEntry, LayerError, LayerReader};
use firebuild_core::tree::{Timestamp, Tree};
use firebuild_oci::Decompressed;
use firebuild_store::Store;

use crate::copy::{CopyError, Part, Request};
use bounds::{Bounded, Counted, Excess};

/// How much one archive may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the archive, uncompressed.
    pub size: u64,
    /// How many bytes one compressed byte may become, once there are more than `free`: gzip cannot
    /// do more than 1,032, and what others do beyond that is mostly an attack.
    pub ratio: u64,
    /// Uncompressed bytes from which on `ratio` counts.
    pub free: u64,
    /// What the entries may be.
    pub entries: layer::Limits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            size: 64 << 30,
            ratio: 1000,
            free: 1 << 30,
            entries: layer::Limits::default(),
        }
    }
}

/// Why an archive cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Its bytes could not be read, or are no valid compressed ones.
    #[error("the archive cannot be read")]
    Read(#[source] io::Error),
    /// It ends too early.
    #[error("the archive is cut off within `{0}`")]
    CutOff(String),
    /// An entry that no archive may have.
    #[error("entry `{entry}` of the archive is not valid: {reason}")]
    Entry {
        /// Its path.
        entry: String,
        /// What is wrong.
        reason: String,
    },
    /// It asks for more than is allowed.
    #[error("the archive is too large: more than {limit} {what}")]
    Large {
        /// What was counted.
        what: &'static str,
        /// How much of it is allowed.
        limit: u64,
    },
    /// A few bytes that become very many.
    #[error(
        "the archive expands to more than {0} times its size, as only one made to fill a disk does"
    )]
    Bomb(u64),
    /// What it holds makes no file tree.
    #[error("the archive cannot be unpacked")]
    Tree(#[source] CopyError),
    /// It could not be kept.
    #[error("the archive could not be kept")]
    Store(#[from] firebuild_store::Error),
}

/// What an archive holds, and where its files' bytes are.
#[derive(Debug)]
pub struct Archive {
    /// The entries in their order. The segments of files' contents are positions in `file`, and
    /// their source is 0.
    pub entries: Vec<LayerEntry>,
    /// The archive without compression. It has no name, and goes away when it is closed.
    pub file: File,
}

/// Reads an archive. The result is none if the input is something else; then some of it was read.
///
/// This takes as long as reading, inflating and writing all of it does: not for an asynchronous
/// thread.
///
/// # Errors
/// [`ArchiveError`].
pub fn open(
    store: &Store,
    input: impl Read,
    limits: &Limits,
) -> Result<Option<Archive>, ArchiveError> {
    let compressed = Cell::new(0);
    let excess = Cell::new(None);
    let input = Counted::new(input, &compressed);
    let Ok(mut plain) = Decompressed::new(input) else {
        return Ok(None);
    };
    let mut start = Vec::new();
    // Bytes that only begin like compressed ones are an ordinary file too.
    if plain.by_ref().take(512).read_to_end(&mut start).is_err() || !layer::begins_archive(&start) {
        return Ok(None);
    }
    let temporary = store.temporary_file()?;
    let file = temporary.file().try_clone().map_err(ArchiveError::Read)?;
    let mut output = BufWriter::with_capacity(256 << 10, &file);
    let input = Bounded {
        input: Cursor::new(start).chain(plain),
        output: &mut output,
        size: 0,
        compressed: &compressed,
        limits,
        excess: &excess,
    };
    let mut reader = LayerReader::new(input)
        .plain()
        .limited(limits.entries.clone());
    let mut entries = Vec::new();
    loop {
        match reader.next_entry() {
            Ok(Some(entry)) => entries.push(entry),
            Ok(None) => break,
            Err(error) => return Err(described(error, excess.take(), limits)),
        }
    }
    drop(reader);
    bounded_content(&entries, compressed.get(), limits)?;
    output.flush().map_err(ArchiveError::Read)?;
    drop(output);
    Ok(Some(Archive { entries, file }))
}

fn described(error: LayerError, excess: Option<Excess>, limits: &Limits) -> ArchiveError {
    match (error, excess) {
        (_, Some(Excess::Size)) => ArchiveError::Large {
            what: "bytes",
            limit: limits.size,
        },
        (_, Some(Excess::Ratio)) => ArchiveError::Bomb(limits.ratio),
        (LayerError::Read { source, .. }, None)
            if source.kind() == io::ErrorKind::UnexpectedEof =>
        {
            ArchiveError::CutOff("its compressed bytes".to_owned())
        }
        (LayerError::Read { source, .. }, None) => ArchiveError::Read(source),
        (LayerError::Truncated { entry, .. }, None) => ArchiveError::CutOff(entry),
        (LayerError::Malformed { entry, reason, .. }, None) => {
            ArchiveError::Entry { entry, reason }
        }
        (LayerError::Limit { what, limit, .. }, None) => ArchiveError::Large { what, limit },
    }
}

impl Archive {
    /// The files as a tree of their own, whose contents are in `source`: what a context that comes
    /// as an archive is. Owners are the archive's.
    ///
    /// # Errors
    /// [`ArchiveError::Tree`] if the entries contradict each other.
    pub fn tree(&self, source: u32) -> Result<Tree, ArchiveError> {
        let request = Request {
            parts: &[Part::Archive {
                entries: &self.entries,
                source,
                mtime: Timestamp::default(),
            }],
            destination: b"/",
            owner: None,
            mode: None,
        };
        crate::copy::copy(&Tree::default(), &request).map_err(ArchiveError::Tree)
    }
}

/// Checks the files' lengths, because a hole takes nothing in an archive and is zeros in a layer.
fn bounded_content(
    entries: &[LayerEntry],
    compressed: u64,
    limits: &Limits,
) -> Result<(), ArchiveError> {
    let lengths = entries.iter().map(|entry| match &entry.item {
        Item::File(content) => content.length,
        _ => 0,
    });
    let size = lengths.fold(0, u64::saturating_add);
    if size > limits.size {
        return Err(ArchiveError::Large {
            what: "bytes",
            limit: limits.size,
        });
    }
    if size > limits.free && size > compressed.saturating_mul(limits.ratio) {
        return Err(ArchiveError::Bomb(limits.ratio));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
