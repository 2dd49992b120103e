//! What a layer holds, without its files' bytes.

use std::fs::File;
use std::io::{BufReader, Read, Seek};

use firebuild_core::layer::{Item, LayerEntry, LayerError, LayerReader, Limits};

use crate::unpack::Stream;

/// Bytes read at once: headers stand apart, so more would be read in vain.
const BUFFER: usize = 8 << 10;

/// The entries of a layer, in the order in which it has them. Files' contents are segments of the
/// layer's own bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayerIndex {
    entries: Vec<LayerEntry>,
    ended: bool,
}

impl LayerIndex {
    /// Reads a layer's headers. Its files' contents will say that they lie in `source`.
    ///
    /// # Errors
    /// Those of [`LayerReader::next_entry`].
    pub fn read(layer: impl Read + Seek, source: u32, limits: Limits) -> Result<Self, LayerError> {
        Self::collect(LayerReader::seekable(layer).limited(limits), source)
    }

    fn collect<R: Read>(mut reader: LayerReader<R>, source: u32) -> Result<Self, LayerError> {
        let mut entries = Vec::new();
        while let Some(mut entry) = reader.next_entry()? {
            if let Item::File(content) = &mut entry.item {
                content.source = source;
            }
            entries.push(entry);
        }
        Ok(Self {
            entries,
            ended: reader.ended(),
        })
    }

    /// The index of entries that were read one by one.
    pub(crate) fn of_entries(entries: Vec<LayerEntry>, ended: bool) -> Self {
        Self { entries, ended }
    }

    /// As [`LayerIndex::read`], from what was kept of a layer that was unpacked: see
    /// [`crate::Unpacked`]. The contents' offsets are in the stream of the layer's blocks.
    ///
    /// # Errors
    /// Those of [`LayerIndex::read`].
    pub fn of_headers(headers: impl Read, source: u32, limits: Limits) -> Result<Self, LayerError> {
        let failed = |source| LayerError::Read { offset: 0, source };
        let decoder = zstd::Decoder::new(headers).map_err(failed)?;
        let decoder = BufReader::with_capacity(128 << 10, decoder);
        let mut reader = LayerReader::new(decoder).limited(limits).only_headers();
        let mut stream = Stream::default();
        let mut entries = Vec::new();
        while let Some(mut entry) = reader.next_entry()? {
            if let Item::File(content) = &mut entry.item {
                *content = stream.content(content, source);
            }
            entries.push(entry);
        }
        Ok(Self {
            entries,
            ended: reader.ended(),
        })
    }

    /// As [`LayerIndex::read`], from a file's beginning.
    ///
    /// # Errors
    /// Those of [`LayerIndex::read`].
    pub fn of_file(file: &File, source: u32, limits: Limits) -> Result<Self, LayerError> {
        Self::read(from_the_beginning(file)?, source, limits)
    }

    /// The same of an archive that is no layer: see [`LayerReader::plain`].
    ///
    /// # Errors
    /// Those of [`LayerIndex::read`].
    pub fn of_plain_file(file: &File, source: u32, limits: Limits) -> Result<Self, LayerError> {
        let reader = LayerReader::seekable(from_the_beginning(file)?);
        Self::collect(reader.limited(limits).plain(), source)
    }

    /// The entries, to take.
    #[must_use]
    pub fn into_entries(self) -> Vec<LayerEntry> {
        self.entries
    }

    /// The entries.
    #[must_use]
    pub fn entries(&self) -> &[LayerEntry] {
        &self.entries
    }

    /// Whether the archive's end was marked: see [`LayerReader::ended`].
    #[must_use]
    pub fn ended(&self) -> bool {
        self.ended
    }
}

fn from_the_beginning(mut file: &File) -> Result<BufReader<&File>, LayerError> {
    file.rewind()
        .map_err(|source| LayerError::Read { offset: 0, source })?;
    Ok(BufReader::with_capacity(BUFFER, file))
}
