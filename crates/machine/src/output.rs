//! What a workload wrote, kept in files of bounded size.
//!
//! A record is a line `TIME STREAM LENGTH`, as many bytes, and a line feed. Records are in segments
//! `output.0.log`, `output.1.log`, …, of bounded size; the last of them are kept ([`LogLimits`]). One
//! process writes, any number read: a record that is not whole yet is not there yet.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use firebuild_core::ByteSize;
use fs_err::File;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How much of what a workload writes is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct LogLimits {
    /// How many bytes a segment has at most: 1 MiB to 1 GiB.
    pub max_size: ByteSize,
    /// How many segments are kept: 2 to 1000.
    pub max_files: u32,
}

impl Default for LogLimits {
    /// 32 MiB, twice.
    fn default() -> Self {
        Self {
            max_size: ByteSize::mib(32),
            max_files: 2,
        }
    }
}

impl LogLimits {
    /// Checks the bounds.
    ///
    /// # Errors
    /// What cannot be, and what can.
    pub fn check(&self) -> Result<(), String> {
        if !(ByteSize::mib(1)..=ByteSize::mib(1 << 10)).contains(&self.max_size) {
            let found = self.max_size;
            return Err(format!("a file of output has 1 MiB to 1 GiB, not {found}"));
        }
        if !(2..=1000).contains(&self.max_files) {
            let found = self.max_files;
            return Err(format!("2 to 1000 files of output are kept, not {found}"));
        }
        Ok(())
    }
}

/// How many bytes of output a record has at most.
const PIECE: usize = 64 << 10;

/// How long a record's first line can be.
const HEAD: usize = 64;

/// Which of its outputs a workload wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Something that a workload wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When it reached the host.
    pub time: Timestamp,
    /// To which output.
    pub stream: Stream,
    /// The bytes, not necessarily whole lines.
    pub data: Vec<u8>,
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        })
    }
}

/// Writes the records of one VM.
#[derive(Debug)]
pub struct Writer {
    directory: PathBuf,
    number: u64,
    file: File,
    written: u64,
    segment: u64,
    kept: u64,
}

impl Writer {
    /// Begins the records of a VM in its `directory`, or goes on with those that are there, behind
    /// the last that is whole.
    ///
    /// # Errors
    /// The segment cannot be made or read.
    pub fn open(directory: &Path, limits: LogLimits) -> io::Result<Self> {
        Self::with_segment(directory, limits.max_size.0, limits.max_files)
    }

    fn with_segment(directory: &Path, segment: u64, kept: u32) -> io::Result<Self> {
        let number = numbers(directory)?.into_iter().max().unwrap_or_default();
        let path = path(directory, number);
        let file = File::options()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)?;
        let written = whole(&file)?;
        file.set_len(written)?;
        Ok(Self {
            directory: directory.to_owned(),
            number,
            file,
            written,
            segment,
            kept: kept.into(),
        })
    }

    /// Adds what the workload wrote.
    ///
    /// # Errors
    /// It cannot be written; the records before are whole all the same.
    pub fn write(&mut self, time: Timestamp, stream: Stream, data: &[u8]) -> io::Result<()> {
        for piece in data.chunks(PIECE) {
            let mut record = format!("{time} {stream} {}\n", piece.len()).into_bytes();
            record.extend_from_slice(piece);
            record.push(b'\n');
            if self.written > 0 && self.written + record.len() as u64 > self.segment {
                self.turn()?;
            }
            if let Err(error) = self.file.write_all(&record) {
                // Half a record would hide all that follow.
                self.file.set_len(self.written)?;
                return Err(error);
            }
            self.written += record.len() as u64;
        }
        Ok(())
    }

    /// The segment that is being written.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// How many bytes the segment still has room for.
    #[must_use]
    pub fn room(&self) -> u64 {
        self.segment.saturating_sub(self.written)
    }

    fn turn(&mut self) -> io::Result<()> {
        self.file = File::create(path(&self.directory, self.number + 1))?;
        self.number += 1;
        self.written = 0;
        match self.number.checked_sub(self.kept) {
            Some(old) => fs_err::remove_file(path(&self.directory, old)),
            None => Ok(()),
        }
    }
}

/// How many bytes of a segment are whole records; what comes behind a damaged one is none.
fn whole(file: &File) -> io::Result<u64> {
    let mut segment = Segment {
        number: 0,
        file: File::from_parts(file.file().try_clone()?, file.path()),
        offset: 0,
    };
    let mut entries = VecDeque::new();
    loop {
        let before = segment.offset;
        entries.clear();
        match segment.read(&mut entries) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
            other => other?,
        }
        if segment.offset == before {
            return Ok(before);
        }
    }
}

/// The numbers of the segments in `directory`.
fn numbers(directory: &Path) -> io::Result<Vec<u64>> {
    let entries = match fs_err::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut numbers = Vec::new();
    for entry in entries {
        numbers.extend(entry?.file_name().to_str().and_then(number_of));
    }
    Ok(numbers)
}

fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("output.{number}.log"))
}

/// Reads the records of one VM, as far as there are any, and goes on when there are more.
#[derive(Debug)]
pub struct Reader {
    directory: PathBuf,
    current: Option<Segment>,
    ready: VecDeque<Entry>,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    file: File,
    offset: u64,
}

impl Reader {
    /// A reader of the records in `directory`, from the oldest that are kept. There need not be
    /// any yet.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            current: None,
            ready: VecDeque::new(),
        }
    }

    /// The segment that is being read, if there is any yet.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        self.current.as_ref().map(|segment| segment.number)
    }

    /// The next record; none if there are no more at the moment.
    ///
    /// # Errors
    /// A segment cannot be read, or is damaged.
    pub fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                return Ok(Some(entry));
            }
            let Some(segment) = &mut self.current else {
                self.current = self.oldest(0)?;
                if self.current.is_none() {
                    return Ok(None);
                }
                continue;
            };
            // Looked for before the last look at this one, so that nothing is missed between.
            let number = segment.number + 1;
            let later = self.directory.join(format!("output.{number}.log")).exists();
            let before = self.ready.len();
            segment.read(&mut self.ready)?;
            if self.ready.len() == before {
                // The writer may have gone on by more than one.
                match later.then(|| self.oldest(number)).transpose()?.flatten() {
                    Some(next) => self.current = Some(next),
                    None => return Ok(None),
                }
            }
        }
    }

    /// The oldest segment from `least` on.
    fn oldest(&self, least: u64) -> io::Result<Option<Segment>> {
        let numbers = numbers(&self.directory)?.into_iter();
        let Some(number) = numbers.filter(|number| *number >= least).min() else {
            return Ok(None);
        };
        match File::open(path(&self.directory, number)) {
            // Removed in the meantime, because there are two later ones.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.oldest(number + 1),
            other => Ok(Some(Segment {
                number,
                file: other?,
                offset: 0,
            })),
        }
    }
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix("output.")?
        .strip_suffix(".log")?
        .parse()
        .ok()
}

impl Segment {
    /// Reads the records that are whole, as many as fit a buffer.
    fn read(&mut self, entries: &mut VecDeque<Entry>) -> io::Result<()> {
        let mut buffer = vec![0; HEAD + PIECE + 1];
        let mut filled = 0;
        while filled < buffer.len() {
            let at = self.offset + filled as u64;
            match self.file.file().read_at(&mut buffer[filled..], at) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let mut rest = &buffer[..filled];
        while let Some((entry, length)) = parse(rest)? {
            entries.push_back(entry);
            self.offset += length as u64;
            rest = &rest[length..];
        }
        Ok(())
    }
}

/// The first record of `bytes` and its length; none if it is not whole.
fn parse(bytes: &[u8]) -> io::Result<Option<(Entry, usize)>> {
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the log of output is damaged");
    let Some(end) = bytes.iter().take(HEAD).position(|byte| *byte == b'\n') else {
        return if bytes.len() < HEAD {
            Ok(None)
        } else {
            Err(damaged())
        };
    };
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| damaged())?;
    let mut words = head.split(' ');
    let (Some(time), Some(stream), Some(length), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(damaged());
    };
    let length: usize = length.parse().map_err(|_| damaged())?;
    if length > PIECE {
        return Err(damaged());
    }
    let start = end + 1;
    let Some(data) = bytes.get(start..start + length) else {
        return Ok(None);
    };
    match bytes.get(start + length) {
        Some(b'\n') => {}
        Some(_) => return Err(damaged()),
        None => return Ok(None),
    }
    let entry = Entry {
        time: time.parse().map_err(|_| damaged())?,
        stream: match stream {
            "stdout" => Stream::Stdout,
            "stderr" => Stream::Stderr,
            _ => return Err(damaged()),
        },
        data: data.to_vec(),
    };
    Ok(Some((entry, start + length + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(reader: &mut Reader) -> Vec<(Stream, Vec<u8>)> {
        std::iter::from_fn(|| reader.next_entry().unwrap())
            .map(|entry| (entry.stream, entry.data))
            .collect()
    }

    #[test]
    fn reads_what_was_written_and_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let mut reader = Reader::new(directory.path());
        assert_eq!(all(&mut reader), []);
        let mut writer = Writer::open(directory.path(), LogLimits::default()).unwrap();
        assert_eq!(all(&mut reader), []);
        let now = Timestamp::now();
        writer.write(now, Stream::Stdout, b"a\nb").unwrap();
        writer.write(now, Stream::Stderr, b"\xff\n\n").unwrap();
        writer.write(now, Stream::Stderr, b"").unwrap();
        let first = [
            (Stream::Stdout, b"a\nb".to_vec()),
            (Stream::Stderr, b"\xff\n\n".to_vec()),
        ];
        assert_eq!(all(&mut reader), first);
        assert_eq!(all(&mut reader), []);
        let long = vec![b'x'; 2 * PIECE + 1];
        writer.write(now, Stream::Stdout, &long).unwrap();
        let lengths: Vec<usize> = all(&mut reader).iter().map(|(_, d)| d.len()).collect();
        assert_eq!(lengths, [PIECE, PIECE, 1]);
        assert_eq!(all(&mut Reader::new(directory.path())).len(), 5);
    }

    #[test]
    fn only_the_last_two_segments_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = Writer::with_segment(directory.path(), 1000, 2).unwrap();
        let mut follower = Reader::new(directory.path());
        let mut followed = Vec::new();
        for number in 0..500_u32 {
            let text = format!("{number} {}", "x".repeat(100));
            writer
                .write(Timestamp::now(), Stream::Stdout, text.as_bytes())
                .unwrap();
            followed.extend(all(&mut follower));
        }
        assert_eq!(followed.len(), 500);
        let files = fs_err::read_dir(directory.path()).unwrap();
        let sizes: Vec<u64> = files
            .map(|f| f.unwrap().metadata().unwrap().len())
            .collect();
        assert!(
            sizes.len() == 2 && sizes.iter().all(|size| *size <= 1000),
            "{sizes:?}"
        );
        let late = all(&mut Reader::new(directory.path()));
        assert!(followed.ends_with(&late) && late.len() > 6);
    }

    #[test]
    fn a_writer_goes_on_behind_the_last_whole_record() {
        let directory = tempfile::tempdir().unwrap();
        let now = Timestamp::now();
        let open = || Writer::with_segment(directory.path(), 1000, 2).unwrap();
        let mut writer = open();
        for _ in 0..30 {
            writer.write(now, Stream::Stdout, &[b'x'; 100]).unwrap();
        }
        let last = path(directory.path(), writer.number());
        let before = all(&mut Reader::new(directory.path())).len();
        // A supervisor was killed while it wrote.
        let mut file = fs_err::OpenOptions::new().append(true).open(&last).unwrap();
        file.write_all(b"2026-01-01T00:00:00Z stdout 300\nabc")
            .unwrap();
        let mut writer = open();
        writer.write(now, Stream::Stderr, b"again").unwrap();
        let seen = all(&mut Reader::new(directory.path()));
        assert_eq!(seen.len(), before + 1);
        assert_eq!(seen.last().unwrap(), &(Stream::Stderr, b"again".to_vec()));
        // Nonsense is no reason not to start.
        fs_err::write(&last, [b'?'; 200]).unwrap();
        open().write(now, Stream::Stdout, b"y").unwrap();
        assert!(
            all(&mut Reader::new(directory.path())).ends_with(&[(Stream::Stdout, b"y".to_vec())])
        );
    }

    #[test]
    fn half_a_record_is_none_and_nonsense_an_error() {
        let whole = b"2026-01-01T00:00:00Z stdout 3\nabc\n";
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length]).unwrap(), None, "{length}");
        }
        assert_eq!(parse(whole).unwrap().unwrap().1, whole.len());
        for text in [
            "2026-01-01T00:00:00Z stdout 3\nabcd",
            "2026-01-01T00:00:00Z stdin 3\nabc\n",
            "now stdout 3\nabc\n",
            "2026-01-01T00:00:00Z stdout 65537\n",
            "2026-01-01T00:00:00Z stdout\n",
            &"x".repeat(HEAD),
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
