//! Where files' bytes are: what the numbers in [`Content::source`] mean.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use firebuild_core::Hasher;
use firebuild_core::tree::{Content, Segment};
use fs_err::os::unix::fs::OpenOptionsExt;
use rustix::fs::OFlags;

use crate::HostFile;
use crate::unpack::BLOCK;

/// Files that are read by position, numbered from 0. A clone has the same files, open once.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    files: Vec<Source>,
}

#[derive(Debug, Clone)]
enum Source {
    /// A layer's blob, or any other file that is open.
    Open(Arc<File>),
    /// A file of the host, opened when it is read: a build context may have a hundred thousand.
    Path(Arc<Path>),
    /// The same, as it was when it was found.
    Host(Arc<HostFile>),
    /// A layer whose files' bytes lie in blocks of an image.
    Placed(Arc<Placed>),
}

/// Blocks of 4096 bytes of a file, in an order of their own.
#[derive(Debug)]
struct Placed {
    file: File,
    /// Where each run begins in the stream that the blocks are, and its blocks.
    runs: Vec<(u64, Range<u64>)>,
}

impl Placed {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let next = self.runs.partition_point(|(start, _)| *start <= offset);
        let Some((start, blocks)) = next.checked_sub(1).map(|run| &self.runs[run]) else {
            return Ok(0);
        };
        let within = offset - start;
        let length = (blocks.end - blocks.start) * BLOCK;
        let buffer = shorter(buffer, length.saturating_sub(within));
        self.file.read_at(buffer, blocks.start * BLOCK + within)
    }

    fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            let read = self.read_at(buffer, offset)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            buffer = &mut buffer[read..];
            offset += read as u64;
        }
        Ok(())
    }
}

impl Sources {
    /// No sources.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an open file. Returns its number.
    pub fn add_file(&mut self, file: File) -> u32 {
        self.add(Source::Open(file.into()))
    }

    /// Adds a host file that is one file's whole content. It is opened when it is read, and must
    /// then be a regular file of that content's length. Returns its number.
    pub fn add_path(&mut self, path: PathBuf) -> u32 {
        self.add(Source::Path(path.into()))
    }

    /// As [`Sources::add_path`], of a file that is known more closely: what is read of it is what
    /// was found, or reading fails.
    pub fn add_host_file(&mut self, file: Arc<HostFile>) -> u32 {
        self.add(Source::Host(file))
    }

    /// Adds an image in which a layer's files lie, at these blocks of 4096 bytes: see
    /// [`crate::Unpacked`]. Returns its number.
    pub fn add_placed(&mut self, file: File, blocks: impl IntoIterator<Item = Range<u64>>) -> u32 {
        let mut position = 0;
        let runs = blocks.into_iter().map(|run| {
            let start = position;
            position += (run.end - run.start) * BLOCK;
            (start, run)
        });
        let runs = runs.collect();
        self.add(Source::Placed(Arc::new(Placed { file, runs })))
    }

    /// The file of [`Sources::add_host_file`] that has this number.
    #[must_use]
    pub fn host_file(&self, source: u32) -> Option<&Arc<HostFile>> {
        match self.source(source) {
            Ok(Source::Host(file)) => Some(file),
            _ => None,
        }
    }

    /// Adds all of another's files. Returns what is to be added to the other's numbers.
    pub fn append(&mut self, other: Self) -> u32 {
        let base = number(self.files.len());
        self.files.extend(other.files);
        base
    }

    fn add(&mut self, source: Source) -> u32 {
        self.files.push(source);
        number(self.files.len() - 1)
    }

    /// The number that the next one will have.
    pub(crate) fn next_number(&self) -> u32 {
        number(self.files.len())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Fills `buffer` from `offset` of a source.
    ///
    /// # Errors
    /// Those of the file; `UnexpectedEof` if it is too short; `NotFound` for a number that was not
    /// given out.
    pub fn read_exact_at(&self, source: u32, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match self.source(source)? {
            Source::Open(file) => file.read_exact_at(buffer, offset),
            Source::Path(path) => open_regular(path)?.read_exact_at(buffer, offset),
            Source::Host(file) => file.open()?.read_exact_at(buffer, offset),
            Source::Placed(placed) => placed.read_exact_at(buffer, offset),
        }
    }

    /// Reads a file's content from its beginning, holes as zeros.
    ///
    /// # Errors
    /// Those of the file; `InvalidData` if a host file is no regular file or has another length
    /// than the content says.
    pub fn open<'a>(&'a self, content: &'a Content) -> io::Result<ContentReader<'a>> {
        let file = match content.segments.is_empty() {
            true => Opened::None,
            false => match self.source(content.source)? {
                Source::Open(file) => Opened::Borrowed(file),
                Source::Placed(placed) => Opened::Placed(placed),
                Source::Path(path) => Opened::Owned(checked(path, content.length)?),
                Source::Host(file) => Opened::Watched(Box::new(Watched {
                    open: file.open()?,
                    file,
                    hasher: file.known_digest().map(|_| Hasher::new()),
                })),
            },
        };
        Ok(ContentReader {
            file,
            content,
            segment: 0,
            position: 0,
        })
    }

    fn source(&self, number: u32) -> io::Result<&Source> {
        usize::try_from(number)
            .ok()
            .and_then(|number| self.files.get(number))
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "a file's source is missing"))
    }
}

/// Four billion sources do not fit in memory.
fn number(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Opens a file that must be a regular one, without following a link and without waiting for the
/// other end of a pipe: directories that are read here are somebody else's.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = fs_err::OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file.into_parts().0);
    }
    let message = format!("`{}` is not a regular file", path.display());
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

fn checked(path: &Path, length: u64) -> io::Result<File> {
    let file = open_regular(path)?;
    if file.metadata()?.len() == length {
        return Ok(file);
    }
    let message = format!("`{}` changed while it was read", path.display());
    Err(io::Error::new(io::ErrorKind::InvalidData, message))
}

#[derive(Debug)]
enum Opened<'a> {
    None,
    Borrowed(&'a File),
    Placed(&'a Placed),
    Owned(File),
    Watched(Box<Watched<'a>>),
}

/// A host file that is read from its beginning to its end, and must still be what was found then.
#[derive(Debug)]
struct Watched<'a> {
    open: File,
    file: &'a HostFile,
    /// Of what was read, if it is known what that should be.
    hasher: Option<Hasher>,
}

impl Watched<'_> {
    /// Notes what was read; checks all of it at the end. Times alone would not do: a file can
    /// change twice in one tick of the clock.
    fn took(&mut self, bytes: &[u8], end: bool) -> io::Result<()> {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        if !end {
            return Ok(());
        }
        self.file.check(&self.open)?;
        let found = self.hasher.take().map(Hasher::finish);
        match (found, self.file.known_digest()) {
            (Some(found), Some(digest)) if found != *digest => Err(self.file.changed()),
            _ => Ok(()),
        }
    }
}

/// Reads one file's content. See [`Sources::open`].
#[derive(Debug)]
pub struct ContentReader<'a> {
    file: Opened<'a>,
    content: &'a Content,
    /// The first segment that is not wholly behind us.
    segment: usize,
    position: u64,
}

impl Read for ContentReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.content.length - self.position;
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let most = most.min(buffer.len());
        let buffer = &mut buffer[..most];
        if buffer.is_empty() {
            return Ok(0);
        }
        let read = match self.content.segments.get(self.segment) {
            Some(segment) if segment.start <= self.position => {
                let segment = *segment;
                self.read_segment(&segment, buffer)?
            }
            next => {
                let end = next.map_or(self.content.length, |segment| segment.start);
                let hole = shorter(buffer, end - self.position);
                hole.fill(0);
                hole.len()
            }
        };
        self.position += read as u64;
        Ok(read)
    }
}

impl ContentReader<'_> {
    fn read_segment(&mut self, segment: &Segment, buffer: &mut [u8]) -> io::Result<usize> {
        let within = self.position - segment.start;
        let buffer = shorter(buffer, segment.length - within);
        let offset = segment.offset + within;
        let read = match &self.file {
            Opened::None => 0,
            Opened::Borrowed(file) => file.read_at(buffer, offset)?,
            Opened::Placed(placed) => placed.read_at(buffer, offset)?,
            Opened::Owned(file) => file.read_at(buffer, offset)?,
            Opened::Watched(watched) => watched.open.read_at(buffer, offset)?,
        };
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Opened::Watched(watched) = &mut self.file {
            let end = self.position + read as u64 == self.content.length;
            watched.took(&buffer[..read], end)?;
        }
        if within + read as u64 == segment.length {
            self.segment += 1;
        }
        Ok(read)
    }
}

fn shorter(buffer: &mut [u8], most: u64) -> &mut [u8] {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let most = most.min(buffer.len());
    &mut buffer[..most]
}
