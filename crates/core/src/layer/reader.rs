//! Reads any tool's layer, one entry at a time, in bounded memory, trusting nothing in it.
//!
//! What must hold of every entry that comes out: its path is normalised and stays inside (see
//! `name`), its metadata is in range, its content lies where [`Content`] says, and all that was
//! read so far is within [`Limits`]. After an error nothing more comes out.

use std::io::{self, Read, Seek};

use super::BLOCK;
use super::entry::Pending;
use super::extended::Extended;
use super::header::Header;
use super::limits::{Fault, LayerError, Limits, Used};
use super::name::Form;
use crate::tree::{Content, Device, Metadata};

/// One entry of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerEntry {
    /// The path: relative, without `.`, `..` and empty parts; empty for the root directory. For a
    /// whiteout it is the path that is hidden.
    pub path: Box<[u8]>,
    /// Mode, owner, time, attributes. Of no meaning for whiteouts and opaque markers.
    pub metadata: Metadata,
    /// What the entry is.
    pub item: Item,
    /// Where the entry's header begins in the layer, in bytes.
    pub offset: u64,
}

/// What an entry of a layer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A directory.
    Directory,
    /// A regular file. The segments' offsets are positions in the layer's own bytes, and their
    /// source is 0.
    File(Content),
    /// Another name of the entry with this path, which is normalised as all paths are.
    HardLink(Box<[u8]>),
    /// A symbolic link and its target, which may be any bytes but NUL.
    Symlink(Box<[u8]>),
    /// A character device.
    CharacterDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A named pipe.
    Fifo,
    /// The lower layers' entry of this path is not in the result.
    Whiteout,
    /// Nothing of what lower layers have in this directory is in the result.
    Opaque,
}

/// Reads a layer's entries from `R`, which should be buffered.
///
/// As [`Read`] it gives the stored bytes of the entry that [`LayerReader::next_entry`] returned
/// last: for a file the bytes of its segments, in order and without holes; for the rest nothing.
/// Bytes that are not read are skipped.
#[derive(Debug)]
pub struct LayerReader<R> {
    input: R,
    skip: fn(&mut R, u64) -> io::Result<()>,
    pub(super) form: Form,
    pub(super) limits: Limits,
    pub(super) used: Used,
    /// How many bytes of the input are behind us.
    pub(super) position: u64,
    /// How many stored bytes of the current entry are ahead.
    pub(super) stored: u64,
    /// How many bytes follow them up to the next header.
    padding: u64,
    globals: Extended,
    /// The last entry's path, for messages.
    pub(super) last: Vec<u8>,
    state: State,
    /// What was read and is no file's content, if it is wanted.
    headers: Option<Vec<u8>>,
    /// Whether the input is only that.
    only_headers: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    /// The archive's end was marked.
    Ended,
    /// The input ended at a header's place, or an error came out.
    Stopped,
}

impl<R: Read> LayerReader<R> {
    /// A layer that is read from its beginning.
    pub fn new(input: R) -> Self {
        Self::with(input, Limits::default(), |input, count| {
            io::copy(&mut input.take(count), &mut io::sink()).and_then(|skipped| {
                if skipped == count {
                    Ok(())
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                }
            })
        })
    }

    fn with(input: R, limits: Limits, skip: fn(&mut R, u64) -> io::Result<()>) -> Self {
        Self {
            input,
            skip,
            form: Form::Layer,
            limits,
            used: Used::default(),
            position: 0,
            stored: 0,
            padding: 0,
            globals: Extended::default(),
            last: Vec::new(),
            state: State::Reading,
            headers: None,
            only_headers: false,
        }
    }

    /// Takes other limits than the default ones.
    #[must_use]
    pub fn limited(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Reads an archive that is no layer: names that begin with `.wh.` mean nothing more than
    /// others, and `..` is taken as far as it stays inside.
    #[must_use]
    pub fn plain(mut self) -> Self {
        self.form = Form::Plain;
        self
    }

    /// Keeps what is read and is no file's content: see [`LayerReader::take_headers`].
    #[must_use]
    pub fn keeping_headers(mut self) -> Self {
        self.headers = Some(Vec::new());
        self
    }

    /// What was read and is no file's content, nor padding, since this was last asked.
    pub fn take_headers(&mut self) -> Vec<u8> {
        self.headers
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// Reads what [`LayerReader::take_headers`] gave of some layer: the same entries come out, with
    /// the positions that they have in that layer. There is no content to be read.
    #[must_use]
    pub fn only_headers(mut self) -> Self {
        self.only_headers = true;
        self
    }

    /// How many bytes of the input have been read or skipped.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Whether the blocks that mark an archive's end have been read. Some tools write none; where
    /// the layer's length is not known from elsewhere, their absence means that it was cut off.
    pub fn ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Gives the input back, at [`LayerReader::position`].
    pub fn into_inner(self) -> R {
        self.input
    }

    /// The next entry, or none at the end of the layer.
    ///
    /// # Errors
    /// [`LayerError`] if the input fails, is cut off, is no archive, has an entry that no layer may
    /// have, or exceeds a limit.
    pub fn next_entry(&mut self) -> Result<Option<LayerEntry>, LayerError> {
        if self.state != State::Reading {
            return Ok(None);
        }
        let result = self.advance();
        if result.is_err() {
            self.state = State::Stopped;
        }
        result
    }

    fn advance(&mut self) -> Result<Option<LayerEntry>, LayerError> {
        let mut pending = self.pending()?;
        loop {
            self.finish_entry()?;
            let offset = self.position;
            let Some(block) = self.header_block()? else {
                return Ok(None);
            };
            let header = Header::parse(block).map_err(|fault| fault.at(&self.last, offset))?;
            if self.extends(&header, &mut pending, offset)? {
                continue;
            }
            let path = pending.path(&header);
            self.last.clone_from(&path);
            let entry = self.entry(path, &header, &pending, offset)?;
            pending = self.pending()?;
            if entry.is_some() {
                return Ok(entry);
            }
        }
    }

    /// What global headers say of the next entry. They are counted for each entry that they are about,
    /// because they are copied for it.
    fn pending(&mut self) -> Result<Pending, LayerError> {
        let bytes = self.globals.size() as u64;
        let counted = self.used.names(bytes, &self.limits);
        counted.map_err(|fault| fault.at(&self.last, self.position))?;
        Ok(Pending {
            extended: self.globals.clone(),
            name: None,
            link: None,
        })
    }

    /// Skips what the caller did not read of the current entry.
    fn finish_entry(&mut self) -> Result<(), LayerError> {
        let count = self.stored + self.padding;
        if count > 0 && !self.only_headers {
            let truncated = LayerError::Truncated {
                entry: crate::tree::shown(&self.last),
                offset: self.position,
            };
            // Seeking past the end succeeds, so the last byte is read.
            (self.skip)(&mut self.input, count - 1)
                .and_then(|()| self.input.read_exact(&mut [0]))
                .map_err(|source| match source.kind() {
                    io::ErrorKind::UnexpectedEof => truncated,
                    _ => self.failed(source),
                })?;
        }
        self.position = self.position.saturating_add(count);
        (self.stored, self.padding) = (0, 0);
        Ok(())
    }

    fn failed(&self, source: io::Error) -> LayerError {
        LayerError::Read {
            offset: self.position,
            source,
        }
    }

    /// The next header, or none at the archive's end.
    fn header_block(&mut self) -> Result<Option<Box<[u8; BLOCK]>>, LayerError> {
        let Some(block) = self.block()? else {
            self.state = State::Stopped;
            return Ok(None);
        };
        if block.iter().any(|byte| *byte != 0) {
            return Ok(Some(block));
        }
        match self.block()? {
            Some(block) if block.iter().any(|byte| *byte != 0) => {
                let fault = Fault::new("an empty block stands where a header should");
                Err(fault.at(&self.last, self.position))
            }
            _ => {
                self.state = State::Ended;
                Ok(None)
            }
        }
    }

    /// The next block, or none if the input ends here.
    pub(super) fn block(&mut self) -> Result<Option<Box<[u8; BLOCK]>>, LayerError> {
        let mut block = Box::new([0; BLOCK]);
        let mut filled = 0;
        while filled < BLOCK {
            match self.input.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => {
                    return Err(LayerError::Truncated {
                        entry: crate::tree::shown(&self.last),
                        offset: self.position,
                    });
                }
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        self.position = self.position.saturating_add(BLOCK as u64);
        self.keep(block.as_ref());
        Ok(Some(block))
    }

    /// Takes a header that only says something of the next entry; false for any other.
    fn extends(
        &mut self,
        header: &Header,
        pending: &mut Pending,
        offset: u64,
    ) -> Result<bool, LayerError> {
        let kind = header.kind();
        match kind {
            b'x' | b'X' | b'g' | b'L' | b'K' => {}
            b'V' => {
                self.expect_content(header.size(), offset)?;
                return Ok(true);
            }
            _ => return Ok(false),
        }
        let size = header
            .size()
            .map_err(|fault| fault.at(&self.last, offset))?;
        let bytes = self.extension(size, offset)?;
        let taken = match kind {
            b'g' => self
                .globals
                .take(&bytes, &self.limits)
                .and_then(|()| pending.extended.take(&bytes, &self.limits)),
            b'L' => {
                pending.name = Some(until_nul(bytes));
                Ok(())
            }
            b'K' => {
                pending.link = Some(until_nul(bytes));
                Ok(())
            }
            _ => pending.extended.take(&bytes, &self.limits),
        };
        taken.map_err(|fault| fault.at(&self.last, offset))?;
        Ok(true)
    }

    /// The content of an extended header or long name.
    fn extension(&mut self, size: u64, offset: u64) -> Result<Vec<u8>, LayerError> {
        let limit = self.limits.extended_header;
        let bounded = if size > limit {
            Err(Fault::Limit("bytes of an extended header", limit))
        } else {
            self.used.names(size + BLOCK as u64, &self.limits)
        };
        bounded.map_err(|fault| fault.at(&self.last, offset))?;
        self.expect_content(Ok(size), offset)?;
        let mut bytes = Vec::new();
        self.read_stored(&mut bytes)?;
        self.keep(&bytes);
        Ok(bytes)
    }

    fn keep(&mut self, bytes: &[u8]) {
        if let Some(headers) = &mut self.headers {
            headers.extend_from_slice(bytes);
        }
    }

    fn read_stored(&mut self, bytes: &mut Vec<u8>) -> Result<(), LayerError> {
        let wanted = self.stored;
        let offset = self.position;
        let read = self.read_to_end(bytes).map_err(|e| self.failed(e))?;
        if (read as u64) < wanted {
            return Err(LayerError::Truncated {
                entry: crate::tree::shown(&self.last),
                offset,
            });
        }
        Ok(())
    }

    /// Notes that `size` stored bytes and their padding come next.
    pub(super) fn expect_content(
        &mut self,
        size: Result<u64, Fault>,
        offset: u64,
    ) -> Result<(), LayerError> {
        let padded = size.and_then(|size| {
            let padded = size.checked_next_multiple_of(BLOCK as u64);
            padded
                .filter(|padded| self.position.checked_add(*padded).is_some())
                .map(|padded| (size, padded - size))
                .ok_or_else(|| Fault::new("its size is out of range"))
        });
        (self.stored, self.padding) = padded.map_err(|fault| fault.at(&self.last, offset))?;
        Ok(())
    }
}

impl<R: Read + Seek> LayerReader<R> {
    /// A layer in a file: what is not read is passed over without reading it. `input` must stand
    /// at the layer's beginning, which counts as offset 0.
    pub fn seekable(input: R) -> Self {
        Self::with(input, Limits::default(), |input, count| {
            let count = i64::try_from(count).map_err(|_| io::ErrorKind::InvalidInput)?;
            input.seek_relative(count)
        })
    }
}

impl<R: Read> Read for LayerReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.stored).unwrap_or(usize::MAX);
        let most = most.min(buffer.len());
        if most == 0 {
            // Some decoders take an empty buffer for a mistake.
            return Ok(0);
        }
        let read = self.input.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the layer ends within a file",
            ));
        }
        self.stored -= read as u64;
        self.position = self.position.saturating_add(read as u64);
        Ok(read)
    }
}

/// Whether a file that begins with these bytes can be an archive: they hold a header, and one whose
/// checksum is right.
#[must_use]
pub fn begins_archive(start: &[u8]) -> bool {
    let Some(block) = start.first_chunk::<BLOCK>() else {
        return false;
    };
    block.iter().any(|byte| *byte != 0) && Header::parse(Box::new(*block)).is_ok()
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0);
    bytes.truncate(end.unwrap_or(bytes.len()));
    bytes
}
