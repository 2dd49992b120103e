//! From layers as they come to files' bytes at their final place, in one pass.
//!
//! Each layer's bytes are read once. On the way they are hashed as they came, decompressed, and
//! hashed again; files' bytes go straight to blocks of an image that is being made, and everything
//! else becomes the layer's [`LayerIndex`]. Several layers are unpacked at the same time, and of each
//! layer reading, decompressing and placing go on beside each other. What is in memory at a time does
//! not depend on how large the layers are, only on how many entries they have.

mod ahead;
mod incoming;
mod lanes;
mod place;

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::Scope;

use firebuild_core::layer::{Item, LayerEntry, LayerError, LayerReader};
use firebuild_core::tree::shown;
use firebuild_core::{Digest, Hasher};
use firebuild_store::Blob;

use crate::compression::Decompressed;
use crate::error::{Error, Result};
use crate::{ImportLimits, LayerIndex};
use ahead::read_ahead;
use incoming::{Expected, Incoming, came};
use lanes::{Lanes, Stopped};
pub(crate) use place::{BLOCK, Stream};
use place::{PlaceError, Placer};

/// How hard headers are compressed: they are read again soon.
const LEVEL: i32 = 1;

/// Blocks of 4096 bytes of an image that is being made.
pub trait Room: Send {
    /// The next neighbouring blocks, at most `most` and at least one; none if there are no more.
    fn take(&mut self, most: u64) -> Option<Range<u64>>;
}

/// Opens a layer.
pub type Open<'a> = Box<dyn FnOnce() -> Result<Box<dyn Read + Send + 'a>> + Send + 'a>;

/// A layer that is to be unpacked.
pub struct Arriving<'a> {
    /// What it is called in messages.
    pub name: String,
    /// Gives its bytes, compressed by gzip, bzip2, zstd, xz or nothing. Called when its turn has
    /// come: of many layers only a few are open at a time.
    pub open: Open<'a>,
    /// What those bytes must be, if it is known.
    pub blob: Option<Blob>,
    /// The digest that they must have uncompressed, if it is known.
    pub diff_id: Option<Digest>,
    /// Whether they were found to be all that before, so that they need not be hashed.
    pub trusted: bool,
}

/// A layer whose files' bytes are in an image.
#[derive(Debug)]
pub struct Unpacked {
    /// The bytes as they came.
    pub blob: Blob,
    /// The same uncompressed.
    pub layer: Blob,
    /// Its entries. The contents' source is the layer's number, counted from the one that was given,
    /// and their offsets are in the stream that its blocks are.
    pub index: LayerIndex,
    /// The blocks of the image that have its files' bytes, in order.
    pub blocks: Vec<Range<u64>>,
    /// What [`LayerIndex::of_headers`] makes an index of.
    pub headers: Vec<u8>,
}

/// Why a lane ended early.
enum Failure {
    Stopped,
    Error(Error),
}

impl From<Stopped> for Failure {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// Unpacks layers, lowest first, to blocks of `output`. The same layers and the same room give the
/// same blocks. The lowest one's contents get the source `first`, the next one's the number after it.
///
/// # Errors
/// [`Error::WrongDigest`], [`Error::Layer`], [`Error::TooLarge`] for a layer that is not valid;
/// [`Error::Io`]; [`Error::NoRoom`]. What is in `output` is then of no use.
pub fn unpack(
    layers: Vec<Arriving<'_>>,
    first: u32,
    room: &mut dyn Room,
    output: &File,
    limits: &ImportLimits,
) -> Result<Vec<Unpacked>> {
    let lanes = Lanes::new(layers.len(), room);
    let waiting: Vec<_> = layers
        .into_iter()
        .map(|layer| Mutex::new(Some(layer)))
        .collect();
    let work = Work {
        lanes: &lanes,
        waiting: &waiting,
        first,
        output,
        limits,
        headers: &AtomicU64::new(0),
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let lanes = 0..lanes.count();
        let threads: Vec<_> = lanes
            .map(|lane| scope.spawn(move || work.lane(scope, lane)))
            .collect();
        threads.into_iter().map(|thread| thread.join()).collect()
    });
    let mut unpacked = Vec::new();
    let mut stopped = false;
    for result in results {
        match result {
            Ok(Ok(layers)) => unpacked.extend(layers),
            Ok(Err(Failure::Error(error))) => return Err(error),
            Ok(Err(Failure::Stopped)) | Err(_) => stopped = true,
        }
    }
    if stopped {
        return Err(died());
    }
    unpacked.sort_unstable_by_key(|(number, _)| *number);
    Ok(unpacked.into_iter().map(|(_, layer)| layer).collect())
}

/// A thread that ends without a result was ended by a mistake of ours.
fn died() -> Error {
    Error::io(io::ErrorKind::Other.into(), || {
        "unpack the layers".to_owned()
    })
}

/// What all lanes share.
#[derive(Clone, Copy)]
struct Work<'w, 'a> {
    lanes: &'w Lanes<'w>,
    waiting: &'w [Mutex<Option<Arriving<'a>>>],
    first: u32,
    output: &'w File,
    limits: &'w ImportLimits,
    /// Bytes of headers so far, of all layers.
    headers: &'w AtomicU64,
}

/// Stops the others unless it is told that all went well.
struct StopAll<'w>(Option<&'w Lanes<'w>>);

impl Drop for StopAll<'_> {
    fn drop(&mut self) {
        if let Some(lanes) = self.0 {
            lanes.stop();
        }
    }
}

impl<'w> Work<'w, '_> {
    /// Unpacks layers as long as there are any.
    fn lane<'s>(
        self,
        scope: &'s Scope<'s, '_>,
        lane: usize,
    ) -> Result<Vec<(usize, Unpacked)>, Failure>
    where
        Self: 's,
    {
        let mut others = StopAll(Some(self.lanes));
        let mut placer = Placer::new(self.output);
        let mut unpacked = Vec::new();
        while let Some(number) = self.lanes.layer(lane)? {
            let waiting = &self.waiting[number];
            let arriving = waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            let arriving = arriving.ok_or_else(died)?;
            let mut piece = || self.lanes.piece(lane)?.ok_or(Failure::Error(Error::NoRoom));
            let expected = Expected {
                blob: arriving.blob,
                diff_id: arriving.diff_id,
                name: arriving.name,
                trusted: arriving.trusted,
            };
            let layer = self.layer(
                scope,
                (arriving.open)()?,
                &expected,
                (number, &mut placer),
                &mut piece,
            )?;
            unpacked.push((number, layer));
        }
        others.0 = None;
        Ok(unpacked)
    }

    fn layer<'s>(
        self,
        scope: &'s Scope<'s, '_>,
        bytes: Box<dyn Read + Send + 's>,
        expected: &Expected,
        (number, placer): (usize, &mut Placer<'_>),
        piece: &mut impl FnMut() -> Result<Range<u64>, Failure>,
    ) -> Result<Unpacked, Failure> {
        let unreadable = |error| Error::io(error, || format!("read {}", expected.name));
        // One byte more than there should be shows that there are too many.
        let most = expected
            .blob
            .map_or(u64::MAX, |blob| blob.size.saturating_add(1));
        let hash = !expected.trusted;
        let incoming = Incoming {
            bytes: bytes.take(most),
            hasher: hash.then(Hasher::new),
            length: 0,
        };
        let raw = read_ahead(scope, incoming);
        let plain = Decompressed::new(raw).map_err(unreadable)?;
        let most = self.limits.layer.saturating_add(1);
        let plain = read_ahead(scope, plain.take(most)).hashing(hash);
        let mut placing = Placing {
            number: u32::try_from(number)
                .map_or(u32::MAX, |number| self.first.saturating_add(number)),
            reader: LayerReader::new(plain)
                .limited(self.limits.entries.clone())
                .keeping_headers(),
            stream: Stream::default(),
            entries: Vec::new(),
            headers: headers_encoder().map_err(unreadable)?,
            taken: self.headers,
            most: self.limits.headers,
        };
        let placed = placing.all(placer, piece);
        let read = match placed {
            Err(Place::Failed(failure)) => return Err(failure),
            Err(Place::Layer(source)) => Err(source),
            Ok(()) => Ok(()),
        };
        let Placing {
            reader,
            entries,
            headers,
            ..
        } = placing;
        let ended = reader.ended();
        let mut plain = reader.into_inner();
        if read.is_ok() {
            io::copy(&mut plain, &mut io::sink()).map_err(unreadable)?;
        }
        let (diff_id, size) = plain.seen();
        let (came, read) = match (came(plain), read) {
            // The input failed before, and that says why.
            (Err(_), Err(LayerError::Read { source, .. })) => return Err(unreadable(source).into()),
            (came, read) => (came.map_err(unreadable)?, read),
        };
        let blob = expected.blob(came)?;
        read.map_err(|source| expected.layer(source))?;
        if size > self.limits.layer {
            return Err(Error::TooLarge {
                what: expected.name.clone(),
                limit: self.limits.layer,
            }
            .into());
        }
        let digest = expected.layer_digest(diff_id)?;
        let layer = Blob { digest, size };
        let blocks = placer.finish();
        Ok(Unpacked {
            blob,
            layer,
            index: LayerIndex::of_entries(entries, ended),
            blocks: blocks.map_err(|error| Error::io(error, writing))?,
            headers: headers.finish().map_err(unreadable)?,
        })
    }
}

fn headers_encoder() -> io::Result<zstd::Encoder<'static, Vec<u8>>> {
    let mut encoder = zstd::Encoder::new(Vec::new(), LEVEL)?;
    encoder.include_checksum(true)?;
    Ok(encoder)
}

/// A layer whose entries are being read.
struct Placing<'w, R: Read> {
    number: u32,
    reader: LayerReader<R>,
    stream: Stream,
    entries: Vec<LayerEntry>,
    headers: zstd::Encoder<'static, Vec<u8>>,
    /// Bytes of headers so far, of all layers, and how many there may be.
    taken: &'w AtomicU64,
    most: u64,
}

/// Why not all entries were read.
enum Place {
    Layer(LayerError),
    Failed(Failure),
}

impl From<LayerError> for Place {
    fn from(error: LayerError) -> Self {
        Self::Layer(error)
    }
}

fn writing() -> String {
    "write the image".to_owned()
}

impl<R: Read> Placing<'_, R> {
    fn all(
        &mut self,
        placer: &mut Placer<'_>,
        piece: &mut impl FnMut() -> Result<Range<u64>, Failure>,
    ) -> Result<(), Place> {
        loop {
            let entry = self.reader.next_entry()?;
            let headers = self.reader.take_headers();
            self.count(headers.len() as u64)?;
            let kept = self.headers.write_all(&headers);
            kept.map_err(|error| Place::Failed(Error::io(error, writing).into()))?;
            let Some(mut entry) = entry else {
                return Ok(());
            };
            if let Item::File(content) = &mut entry.item {
                let placed = self.stream.content(content, self.number);
                let written = placer.write(content, &mut self.reader, piece);
                written.map_err(|error| self.failed(&entry.path, error))?;
                *content = placed;
            }
            self.entries.push(entry);
        }
    }

    /// One image may have many layers, each within its limits, and all are in memory at once.
    fn count(&self, headers: u64) -> Result<(), Place> {
        let taken = self.taken.fetch_add(headers, Ordering::Relaxed);
        if taken.saturating_add(headers) <= self.most {
            return Ok(());
        }
        let error = Error::TooLarge {
            what: "what all layers list together".to_owned(),
            limit: self.most,
        };
        Err(Place::Failed(error.into()))
    }

    fn failed(&self, entry: &[u8], error: PlaceError<Failure>) -> Place {
        match error {
            PlaceError::Read(source) if source.kind() == io::ErrorKind::UnexpectedEof => {
                Place::Layer(LayerError::Truncated {
                    entry: shown(entry),
                    offset: self.reader.position(),
                })
            }
            PlaceError::Read(source) => Place::Layer(LayerError::Read {
                offset: self.reader.position(),
                source,
            }),
            PlaceError::Write(error) => Place::Failed(Error::io(error, writing).into()),
            PlaceError::Room(failure) => Place::Failed(failure),
        }
    }
}
