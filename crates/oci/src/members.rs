//! Files by their names, in a directory or in an archive: the two ways in which image layouts come.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use firebuild_core::layer::{Item, LayerReader, Limits};
use firebuild_core::tree::shown;
use firebuild_store::{Store, TemporaryFile};

use crate::compression::Decompressed;
use crate::error::{Error, Result};
use crate::source::open_regular;

/// The most files of an archive.
const MOST_MEMBERS: u64 = 100_000;

/// The most links from a name to a file.
const MOST_LINKS: usize = 8;

/// A file that is read from its beginning.
pub(crate) struct Member<'a> {
    pub(crate) bytes: Box<dyn Read + Send + 'a>,
    pub(crate) length: u64,
}

/// Files by name.
pub(crate) trait Members: Sync {
    /// Opens one of them. Its name is relative.
    fn open(&self, name: &str) -> io::Result<Member<'_>>;

    /// Where they are, for messages.
    fn place(&self) -> &Path;
}

/// A directory.
pub(crate) struct Directory<'a>(pub(crate) &'a Path);

impl Members for Directory<'_> {
    fn open(&self, name: &str) -> io::Result<Member<'_>> {
        let file = open_regular(&self.0.join(name))?;
        let length = file.metadata()?.len();
        Ok(Member {
            bytes: Box::new(file),
            length,
        })
    }

    fn place(&self) -> &Path {
        self.0
    }
}

/// An archive whose files are read where they are in it.
pub(crate) struct Archive<'a> {
    path: &'a Path,
    file: TemporaryFile,
    members: HashMap<Box<[u8]>, Place>,
}

enum Place {
    File { offset: u64, length: u64 },
    Link(Vec<u8>),
}

impl<'a> Archive<'a> {
    /// Reads an archive, compressed or not, to a file of the store. `path` is for messages.
    pub(crate) fn of(store: &Store, path: &'a Path, input: impl Read, most: u64) -> Result<Self> {
        let doing = || format!("read `{}`", path.display());
        let fail = |error| Error::io(error, doing);
        let spool = store.temporary_file()?;
        let mut plain = Decompressed::new(input)
            .map_err(fail)?
            .take(most.saturating_add(1));
        let mut output = spool.file();
        let mut buffer = vec![0; 256 << 10];
        let mut length = 0;
        loop {
            let read = plain.read(&mut buffer).map_err(fail)?;
            if read == 0 {
                break;
            }
            length += read as u64;
            let written = output.write_all(&buffer[..read]);
            written.map_err(|error| fail(store.write_error(error, "write an archive")))?;
        }
        if length > most {
            return Err(Error::TooLarge {
                what: format!("`{}`", path.display()),
                limit: most,
            });
        }
        let members = members(spool.file()).map_err(|source| Error::Archive {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path,
            file: spool,
            members,
        })
    }
}

fn members(
    mut file: &File,
) -> Result<HashMap<Box<[u8]>, Place>, firebuild_core::layer::LayerError> {
    use firebuild_core::layer::LayerError;
    let rewound = file.rewind();
    rewound.map_err(|source| LayerError::Read { offset: 0, source })?;
    let limits = Limits {
        entries: MOST_MEMBERS,
        ..Limits::default()
    };
    let input = BufReader::with_capacity(8 << 10, file);
    let mut reader = LayerReader::seekable(input).limited(limits).plain();
    let mut members = HashMap::new();
    while let Some(entry) = reader.next_entry()? {
        let place = match entry.item {
            Item::File(content) => match *content.segments {
                [] => Place::File {
                    offset: 0,
                    length: 0,
                },
                [segment] if segment.length == content.length => Place::File {
                    offset: segment.offset,
                    length: segment.length,
                },
                // A sparse file; no tool writes such.
                _ => continue,
            },
            Item::HardLink(target) => Place::Link(target.into()),
            Item::Symlink(target) => Place::Link(beside(&entry.path, &target)),
            _ => continue,
        };
        members.insert(entry.path, place);
    }
    Ok(members)
}

/// The path that a link's target means, as far as it needs no more than names and `..`.
fn beside(link: &[u8], target: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = firebuild_core::tree::components(link).collect();
    parts.pop();
    if target.starts_with(b"/") {
        parts.clear();
    }
    for part in firebuild_core::tree::components(target) {
        if part == b".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts.join(&b'/')
}

impl Members for Archive<'_> {
    fn open(&self, name: &str) -> io::Result<Member<'_>> {
        let mut name = name.as_bytes().to_vec();
        for _ in 0..MOST_LINKS {
            match self.members.get(name.as_slice()) {
                Some(Place::Link(target)) => name.clone_from(target),
                Some(Place::File { offset, length }) => {
                    let bytes = Slice {
                        file: self.file.file(),
                        offset: *offset,
                        left: *length,
                    };
                    return Ok(Member {
                        bytes: Box::new(bytes),
                        length: *length,
                    });
                }
                None => break,
            }
        }
        let message = format!("`{}` has no file `{}`", self.path.display(), shown(&name));
        Err(io::Error::new(io::ErrorKind::NotFound, message))
    }

    fn place(&self) -> &Path {
        self.path
    }
}

/// A part of a file.
struct Slice<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
}

impl Read for Slice<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let read = self.file.read_at(&mut buffer[..most], self.offset)?;
        self.offset += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_files_beside_them() {
        let cases: [(&[u8], &[u8], &[u8]); 4] = [
            (b"a/layer.tar", b"../b/layer.tar", b"b/layer.tar"),
            (b"layer.tar", b"x", b"x"),
            (b"a/b", b"/c/d", b"c/d"),
            (b"a", b"../../../etc/passwd", b"etc/passwd"),
        ];
        for (link, target, expected) in cases {
            assert_eq!(beside(link, target), expected);
        }
    }
}
