//! The one canonical way in which firebuild writes a layer's bytes.
//!
//! Host and guest both make layers, and the same change must give the same bytes wherever it is
//! written. The form is a POSIX pax archive (IEEE Std 1003.1, "pax Interchange Format") as the OCI
//! image specification's `layer.md` wants it: a plain ustar header where that can hold the entry,
//! preceded by an extended header where it cannot (long names, large numbers, nanoseconds,
//! extended attributes as `SCHILY.xattr.*`). Paths have no leading slash; directories end in one.
//!
//! The writer does not sort and does not check an order: entries are for the caller to give as
//! [`Tree::walk`](crate::tree::Tree::walk) visits them, parents before children and siblings in the
//! order of their names' bytes; an opaque marker comes right after its directory, a whiteout where
//! the name that it hides would be.

use std::io::{self, Read, Write};

use super::{BLOCK, OPAQUE, WHITEOUT_PREFIX, XATTR_PREFIX};
use crate::tree::{Device, Metadata, Timestamp};

/// What an entry is, with what only that kind has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A directory.
    Directory,
    /// A regular file of this many bytes, which the caller gives next.
    File(u64),
    /// Another name of an earlier entry, by its path.
    HardLink(&'a [u8]),
    /// A symbolic link and its target.
    Symlink(&'a [u8]),
    /// A character device.
    CharacterDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A named pipe.
    Fifo,
}

/// Writes a layer's entries to `W`. [`LayerWriter::finish`] must be called at the end.
#[derive(Debug)]
pub struct LayerWriter<W> {
    output: W,
}

impl<W: Write> LayerWriter<W> {
    /// A layer that will be written to `output`.
    pub fn new(output: W) -> Self {
        Self { output }
    }

    /// Writes one entry that has no bytes of its own.
    ///
    /// # Errors
    /// Those of the output; `InvalidInput` for a path that is empty or holds NUL, and for
    /// [`Entry::File`], which goes through [`LayerWriter::file`].
    pub fn entry(&mut self, path: &[u8], metadata: &Metadata, entry: Entry<'_>) -> io::Result<()> {
        if let Entry::File(_) = entry {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a file's bytes are missing",
            ));
        }
        self.header(path, metadata, entry)
    }

    /// Writes a regular file of exactly `length` bytes taken from `bytes`.
    ///
    /// # Errors
    /// Those of the output and of `bytes`; `UnexpectedEof` if `bytes` has fewer than `length`.
    pub fn file(
        &mut self,
        path: &[u8],
        metadata: &Metadata,
        length: u64,
        bytes: &mut dyn Read,
    ) -> io::Result<()> {
        self.header(path, metadata, Entry::File(length))?;
        let copied = io::copy(&mut bytes.take(length), &mut self.output)?;
        if copied < length {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file became shorter while it was read",
            ));
        }
        self.pad(length)
    }

    /// Writes a whiteout: the lower layers' `path` is not in the result.
    ///
    /// # Errors
    /// Those of the output.
    pub fn whiteout(&mut self, path: &[u8]) -> io::Result<()> {
        let (parent, name) = split(path);
        self.marker(&[parent, WHITEOUT_PREFIX, name].concat())
    }

    /// Writes an opaque marker: nothing of the lower layers' directory `path` is in the result.
    ///
    /// # Errors
    /// Those of the output.
    pub fn opaque(&mut self, path: &[u8]) -> io::Result<()> {
        let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
        self.marker(&[path, slash, OPAQUE].concat())
    }

    /// Ends the archive and gives the output back.
    ///
    /// # Errors
    /// Those of the output.
    pub fn finish(mut self) -> io::Result<W> {
        self.output.write_all(&[0; 2 * BLOCK])?;
        self.output.flush()?;
        Ok(self.output)
    }

    fn marker(&mut self, path: &[u8]) -> io::Result<()> {
        self.header(path, &Metadata::default(), Entry::File(0))
    }

    fn header(&mut self, path: &[u8], metadata: &Metadata, entry: Entry<'_>) -> io::Result<()> {
        if path.contains(&0) || path.starts_with(b"/") {
            let message = format!("`{}` cannot be a path in a layer", crate::tree::shown(path));
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let mut path = if path.is_empty() {
            b"./".to_vec()
        } else {
            path.to_vec()
        };
        if entry == Entry::Directory && !path.ends_with(b"/") {
            path.push(b'/');
        }
        let (header, records) = encode(&path, metadata, entry);
        if !records.is_empty() {
            let extended = Metadata {
                mode: 0o644,
                ..Metadata::default()
            };
            let length = records.len() as u64;
            let (mut block, _) = encode(b"PaxHeaders/entry", &extended, Entry::File(length));
            block[156] = b'x';
            seal(&mut block);
            self.output.write_all(&block)?;
            self.output.write_all(&records)?;
            self.pad(length)?;
        }
        self.output.write_all(&header)
    }

    fn pad(&mut self, length: u64) -> io::Result<()> {
        // The remainder is below 512.
        let rest = usize::try_from(length % BLOCK as u64).unwrap_or_default();
        if rest == 0 {
            return Ok(());
        }
        self.output.write_all(&[0; BLOCK][rest..])
    }
}

/// The path up to and with the last slash, and what follows it.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let at = path
        .iter()
        .rposition(|byte| *byte == b'/')
        .map_or(0, |at| at + 1);
    path.split_at(at)
}

/// The ustar header block and the records of the extended header; none where the block holds all.
fn encode(path: &[u8], metadata: &Metadata, entry: Entry<'_>) -> ([u8; BLOCK], Vec<u8>) {
    let mut block = [0; BLOCK];
    let mut records = Vec::new();
    let (kind, length, link, device) = match entry {
        Entry::File(length) => (b'0', length, None, None),
        Entry::HardLink(target) => (b'1', 0, Some(target), None),
        Entry::Symlink(target) => (b'2', 0, Some(target), None),
        Entry::CharacterDevice(device) => (b'3', 0, None, Some(device)),
        Entry::BlockDevice(device) => (b'4', 0, None, Some(device)),
        Entry::Directory => (b'5', 0, None, None),
        Entry::Fifo => (b'6', 0, None, None),
    };
    text(&mut block, 0, 100, path, "path", &mut records);
    number(
        &mut block,
        100,
        8,
        u64::from(metadata.mode & 0o7777),
        "mode",
        &mut records,
    );
    number(
        &mut block,
        108,
        8,
        u64::from(metadata.uid),
        "uid",
        &mut records,
    );
    number(
        &mut block,
        116,
        8,
        u64::from(metadata.gid),
        "gid",
        &mut records,
    );
    number(&mut block, 124, 12, length, "size", &mut records);
    time(&mut block, metadata.mtime, &mut records);
    block[156] = kind;
    if let Some(target) = link {
        text(&mut block, 157, 100, target, "linkpath", &mut records);
    }
    block[257..265].copy_from_slice(b"ustar\x0000");
    let Device { major, minor } = device.unwrap_or_default();
    number(
        &mut block,
        329,
        8,
        u64::from(major),
        "SCHILY.devmajor",
        &mut records,
    );
    number(
        &mut block,
        337,
        8,
        u64::from(minor),
        "SCHILY.devminor",
        &mut records,
    );
    for (name, value) in &metadata.xattrs {
        record(&mut records, &xattr_key(name), value);
    }
    seal(&mut block);
    (block, records)
}

fn text(
    block: &mut [u8; BLOCK],
    at: usize,
    room: usize,
    value: &[u8],
    key: &str,
    records: &mut Vec<u8>,
) {
    let fits = value.len() <= room;
    if !fits || !value.is_ascii() {
        record(records, key.as_bytes(), value);
    }
    let shown = &value[..value.len().min(room)];
    block[at..at + shown.len()].copy_from_slice(shown);
}

fn number(
    block: &mut [u8; BLOCK],
    at: usize,
    room: usize,
    value: u64,
    key: &str,
    records: &mut Vec<u8>,
) {
    let mut digits = format!("{value:0width$o}", width = room - 1);
    if digits.len() > room - 1 {
        record(records, key.as_bytes(), value.to_string().as_bytes());
        digits = "0".repeat(room - 1);
    }
    block[at..at + room - 1].copy_from_slice(digits.as_bytes());
}

fn time(block: &mut [u8; BLOCK], time: Timestamp, records: &mut Vec<u8>) {
    let Timestamp {
        seconds,
        nanoseconds,
    } = time;
    let whole = u64::try_from(seconds)
        .ok()
        .filter(|seconds| *seconds < 1 << 33);
    number(block, 136, 12, whole.unwrap_or(0), "", records);
    if nanoseconds == 0 && whole.is_some() {
        return;
    }
    // A fraction counts away from zero in text and forward from `seconds` in a timestamp.
    let (sign, seconds, nanoseconds) = if seconds < 0 && nanoseconds > 0 {
        (
            "-",
            (seconds + 1).unsigned_abs(),
            1_000_000_000 - nanoseconds,
        )
    } else {
        (
            if seconds < 0 { "-" } else { "" },
            seconds.unsigned_abs(),
            nanoseconds,
        )
    };
    let fraction = if nanoseconds == 0 {
        String::new()
    } else {
        format!(".{nanoseconds:09}")
    };
    let text = format!("{sign}{seconds}{}", fraction.trim_end_matches('0'));
    record(records, b"mtime", text.as_bytes());
}

/// The record's key for an extended attribute. A record's key ends at its first `=`, so one in the
/// attribute's name is written as `%3D`, and `%` as `%25`, as GNU tar does.
fn xattr_key(name: &[u8]) -> Vec<u8> {
    let mut key = XATTR_PREFIX.to_vec();
    for byte in name {
        match byte {
            b'=' => key.extend_from_slice(b"%3D"),
            b'%' => key.extend_from_slice(b"%25"),
            other => key.push(*other),
        }
    }
    key
}

/// `LENGTH key=value\n`, where LENGTH counts the whole record, itself included.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// Writes the header's checksum: the sum of its bytes with the field itself as blanks.
fn seal(block: &mut [u8; BLOCK]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn written(write: impl FnOnce(&mut LayerWriter<Vec<u8>>)) -> Vec<u8> {
        let mut writer = LayerWriter::new(Vec::new());
        write(&mut writer);
        writer.finish().unwrap()
    }

    fn pax(entry: &mut tar::Entry<'_, &[u8]>) -> BTreeMap<String, Vec<u8>> {
        let records = entry.pax_extensions().unwrap();
        records
            .into_iter()
            .flatten()
            .map(|r| r.unwrap())
            .map(|r| (r.key().unwrap().to_owned(), r.value_bytes().to_vec()))
            .collect()
    }

    #[test]
    fn another_reader_sees_what_was_written() {
        let long = [b'n'; 300];
        let mut metadata = Metadata {
            mode: 0o4755,
            uid: 4_294_967_294,
            gid: 7,
            ..Metadata::default()
        };
        metadata.mtime = Timestamp {
            seconds: 1_700_000_000,
            nanoseconds: 120_000_000,
        };
        metadata
            .xattrs
            .insert(b"user.k".as_slice().into(), b"v\0w".as_slice().into());
        let bytes = written(|w| {
            w.entry(b"", &Metadata::root_owned(0o755), Entry::Directory)
                .unwrap();
            w.file(&long, &metadata, 3, &mut &b"abc"[..]).unwrap();
            w.entry(b"d/link", &Metadata::default(), Entry::Symlink(b"../x"))
                .unwrap();
            w.entry(
                b"d/null",
                &Metadata::root_owned(0o666),
                Entry::CharacterDevice(Device { major: 1, minor: 3 }),
            )
            .unwrap();
            w.whiteout(b"d/gone").unwrap();
            w.opaque(b"d/deep").unwrap();
        });
        let mut archive = tar::Archive::new(&bytes[..]);
        let mut paths = Vec::new();
        for (index, entry) in archive.entries().unwrap().enumerate() {
            let mut entry = entry.unwrap();
            paths.push(entry.path_bytes().into_owned());
            if index == 1 {
                assert_eq!((entry.header().mode().unwrap(), entry.size()), (0o4755, 3));
                let records = pax(&mut entry);
                assert_eq!(records["uid"], b"4294967294");
                assert_eq!(records["mtime"], b"1700000000.12");
                assert_eq!(records["SCHILY.xattr.user.k"], b"v\0w");
            }
        }
        let expected: [&[u8]; 6] = [
            b"./",
            &long,
            b"d/link",
            b"d/null",
            b"d/.wh.gone",
            b"d/deep/.wh..wh..opq",
        ];
        assert_eq!(paths, expected);
    }

    #[test]
    fn times_before_1970_count_backwards() {
        for (seconds, nanoseconds, text) in [
            (-2, 750_000_000, "-1.25"),
            (-1, 0, "-1"),
            (-1, 500_000_000, "-0.5"),
            (1 << 33, 0, "8589934592"),
        ] {
            let metadata = Metadata {
                mtime: Timestamp {
                    seconds,
                    nanoseconds,
                },
                ..Metadata::default()
            };
            let (_, records) = encode(b"x", &metadata, Entry::Fifo);
            assert_eq!(
                records,
                format!("{} mtime={text}\n", text.len() + 10).into_bytes()
            );
        }
    }

    #[test]
    fn record_lengths_count_themselves() {
        for length in 0..200 {
            let mut records = Vec::new();
            record(&mut records, b"k", &vec![b'v'; length]);
            let text = String::from_utf8(records.clone()).unwrap();
            assert_eq!(text.split_once(' ').unwrap().0, records.len().to_string());
        }
    }

    #[test]
    fn short_content_is_an_error() {
        let mut writer = LayerWriter::new(Vec::new());
        let error = writer
            .file(b"x", &Metadata::default(), 4, &mut &b"abc"[..])
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(
            writer
                .entry(b"/x", &Metadata::default(), Entry::Fifo)
                .is_err()
        );
    }
}
