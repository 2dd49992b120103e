//! What a step changed, as a layer: the content of its overlay's upper directory.
//!
//! Overlayfs notes a removed entry as a character device 0/0 and a replaced directory by an
//! attribute (Documentation/filesystems/overlayfs.rst); layers have whiteouts for both. Entries
//! come in the order of their names' bytes, parents before children, so that the same change gives
//! the same bytes.

use std::collections::HashMap;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use firebuild_core::layer::{Entry, LayerWriter};
use firebuild_core::tree::{Device, Metadata, shown};
use firebuild_protocol::files::walk;
use rustix::fs::{FileType, Stat, lstat};

use crate::attributes;

/// Writes the content of `upper` as a layer. `below` is what the root directory was before.
pub(crate) fn write<W: Write>(upper: &Path, below: &Metadata, output: W) -> io::Result<W> {
    let mut scan = Scan {
        upper: upper.to_owned(),
        layer: LayerWriter::new(output),
        links: HashMap::new(),
    };
    let stat = lstat(upper)?;
    let root = attributes::read(upper, &stat)?;
    if root != *below {
        scan.layer.entry(b"", &root, Entry::Directory)?;
    }
    walk::below(upper, |path| scan.entry(path))?;
    scan.layer.finish()
}

struct Scan<W> {
    upper: PathBuf,
    layer: LayerWriter<W>,
    /// The first path of every file that has several.
    links: HashMap<u64, Vec<u8>>,
}

impl<W: Write> Scan<W> {
    /// Writes one entry. True if it is a directory.
    fn entry(&mut self, path: &[u8]) -> io::Result<bool> {
        let at = walk::at(&self.upper, path);
        let stat = lstat(&at)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::CharacterDevice && walk::device(&stat) == Device::default() {
            self.layer.whiteout(path)?;
            return Ok(false);
        }
        // The next step would see it, and no other build that takes this layer would.
        if at
            .file_name()
            .is_some_and(|name| name.as_bytes().starts_with(b".wh."))
        {
            let path = shown(path);
            return Err(io::Error::other(format!(
                "`/{path}` cannot be in an image, because in a layer a name that begins with `.wh.` says that \
                 another file is removed; the step has to remove it or give it another name"
            )));
        }
        let metadata = attributes::read(&at, &stat)?;
        if kind != FileType::Directory && stat.st_nlink > 1 && kind != FileType::Socket {
            if let Some(first) = self.links.get(&stat.st_ino) {
                self.layer.entry(path, &metadata, Entry::HardLink(first))?;
                return Ok(false);
            }
            self.links.insert(stat.st_ino, path.to_vec());
        }
        match kind {
            FileType::Directory => {
                self.layer.entry(path, &metadata, Entry::Directory)?;
                if attributes::is_opaque(&at)? {
                    self.layer.opaque(path)?;
                }
                return Ok(true);
            }
            FileType::RegularFile => self.file(path, &at, &metadata, &stat)?,
            FileType::Symlink => {
                let target = fs_err::read_link(&at)?;
                let target = target.as_os_str().as_bytes();
                self.layer.entry(path, &metadata, Entry::Symlink(target))?;
            }
            _ => {
                if let Some(node) = walk::node(&stat) {
                    self.layer.entry(path, &metadata, node)?;
                }
            }
        }
        Ok(false)
    }

    fn file(&mut self, path: &[u8], at: &Path, metadata: &Metadata, stat: &Stat) -> io::Result<()> {
        let length = u64::try_from(stat.st_size).unwrap_or(0);
        let mut bytes = fs_err::File::open(at)?;
        self.layer.file(path, metadata, length, &mut bytes)
    }
}
