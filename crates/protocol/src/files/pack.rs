//! What is below a path, as an archive.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, BufWriter, Read as _, Write};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use firebuild_core::layer::{Entry, LayerWriter};
use firebuild_core::tree::shown;
use rustix::fs::{FileType, Stat, lstat, stat};

use super::{attributes, walk};

/// Writes what is at `source` to `output`: its own entry first, called as it is called, then what is
/// below it, if it is a directory. A link is written as a link, unless `follow` says otherwise or its
/// path ends with a slash. Sockets are left out, and so is what vanishes meanwhile.
///
/// # Errors
/// Those of the output, and of the files, which are named.
pub fn pack<W: Write>(source: &Path, follow: bool, output: W) -> io::Result<W> {
    let ends = source.as_os_str().as_bytes();
    let follow = follow || ends.ends_with(b"/") || ends.ends_with(b"/.");
    let found = if follow { stat(source) } else { lstat(source) };
    let found = found.map_err(|error| named(source, error.into()))?;
    let mut packing = Packing {
        source: source.to_owned(),
        name: name(source)?,
        archive: LayerWriter::new(BufWriter::with_capacity(64 << 10, output)),
        links: HashMap::new(),
    };
    let directory = packing.entry(b"", &found)?;
    if directory {
        packing.below()?;
    }
    Ok(packing.archive.finish()?.into_inner()?)
}

/// What the file at a path is called.
fn name(source: &Path) -> io::Result<Vec<u8>> {
    let name = source.file_name().map(OsStr::to_owned);
    let name = match name {
        Some(name) => Some(name),
        // `.`, `..` and `/` are called otherwise.
        None => {
            let path = fs_err::canonicalize(source)?;
            path.file_name().map(OsStr::to_owned)
        }
    };
    Ok(name.map_or_else(|| b"root".to_vec(), |name| name.into_vec()))
}

struct Packing<W: Write> {
    source: PathBuf,
    name: Vec<u8>,
    archive: LayerWriter<BufWriter<W>>,
    /// The first path of every file that has several, by device and number.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl<W: Write> Packing<W> {
    /// Everything below the source.
    fn below(&mut self) -> io::Result<()> {
        walk::below(&self.source.clone(), |path| {
            let at = walk::at(&self.source, path);
            match lstat(&at) {
                Err(rustix::io::Errno::NOENT) => Ok(false),
                Err(error) => Err(named(&at, error.into())),
                Ok(found) => self.entry(path, &found),
            }
        })
    }

    /// Writes one entry, by its path below the source. True if it is a directory.
    fn entry(&mut self, path: &[u8], found: &Stat) -> io::Result<bool> {
        let at = walk::at(&self.source, path);
        self.write(path, &at, found)
            .map_err(|error| named(&at, error))
    }

    fn write(&mut self, path: &[u8], at: &Path, found: &Stat) -> io::Result<bool> {
        let kind = FileType::from_raw_mode(found.st_mode);
        let called = if path.is_empty() {
            self.name.clone()
        } else {
            [&self.name, &b"/"[..], path].concat()
        };
        let metadata = attributes::read(at, found)?;
        if kind != FileType::Directory && kind != FileType::Socket && found.st_nlink > 1 {
            let key = (found.st_dev, found.st_ino);
            if let Some(first) = self.links.get(&key) {
                self.archive
                    .entry(&called, &metadata, Entry::HardLink(first))?;
                return Ok(false);
            }
            self.links.insert(key, called.clone());
        }
        match kind {
            FileType::Directory => {
                self.archive.entry(&called, &metadata, Entry::Directory)?;
            }
            FileType::RegularFile => {
                let length = u64::try_from(found.st_size).unwrap_or(0);
                // One that is being written to keeps the length that it had.
                let mut bytes = fs_err::File::open(at)?.chain(io::repeat(0));
                self.archive.file(&called, &metadata, length, &mut bytes)?;
            }
            FileType::Symlink => {
                let target = fs_err::read_link(at)?;
                let target = Entry::Symlink(target.as_os_str().as_bytes());
                self.archive.entry(&called, &metadata, target)?;
            }
            _ => {
                if let Some(node) = walk::node(found) {
                    self.archive.entry(&called, &metadata, node)?;
                }
            }
        }
        Ok(kind == FileType::Directory)
    }
}

/// An error that names the file.
pub(super) fn named(at: &Path, error: io::Error) -> io::Error {
    let text = error.to_string();
    let path = shown(at.as_os_str().as_bytes());
    if text.contains(&path) {
        return error;
    }
    io::Error::new(error.kind(), format!("`{path}`: {text}"))
}
