//! An archive to where a person wants it, by the rules that `cp` has.
//!
//! What must hold: whatever the archive says, nothing is written but below the destination. Names are
//! taken without `..`; a directory on the way that is a link is refused, unless the whole root is the
//! archive's anyway.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use firebuild_core::layer::{Item, LayerEntry, LayerReader};
use firebuild_core::tree::{Content, Device, Metadata, Timestamp, components, shown};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, XattrFlags, linkat, lsetxattr, lstat, makedev, mknodat,
};
use rustix::io::Errno;

use super::attributes;
use super::pack::named;

/// What of zeros is not written, in bytes: the file gets a hole.
const BLOCK: usize = 4096;

/// How much is read at once, in bytes: a multiple of [`BLOCK`].
const PIECE: usize = 64 << 10;

/// Where an archive is to be unpacked.
#[derive(Debug, Clone)]
pub struct Destination {
    /// The path. A directory that is there gets what the archive holds; else the archive's first entry
    /// is called so.
    pub path: PathBuf,
    /// Whether it is what a directory holds that goes into a directory, and not the directory itself.
    pub contents: bool,
    /// Whether the archive is a person's own, in which every entry has its name: the path is a
    /// directory that is there.
    pub archive: bool,
    /// Whether it may do everything: follow links, make devices, set all attributes. So it is in a
    /// guest, in a root that holds nothing else.
    pub trusted: bool,
}

/// Unpacks the archive that `input` is.
///
/// # Errors
/// What cannot be written, named; an archive that is none, or is cut off; `InvalidInput` if the
/// destination cannot be one.
pub fn unpack(input: impl Read, destination: &Destination) -> io::Result<()> {
    let mut reader = LayerReader::new(BufReader::with_capacity(PIECE, input)).plain();
    let mut unpacking: Option<Unpacking<'_>> = None;
    while let Some(entry) = reader.next_entry().map_err(io::Error::other)? {
        let unpacking = match &mut unpacking {
            Some(unpacking) => unpacking,
            None => unpacking.insert(Unpacking::begin(destination, &entry)?),
        };
        let path = unpacking.renamed(&entry.path);
        let at = unpacking.root.join(OsStr::from_bytes(&path));
        unpacking
            .entry(&path, &entry, &mut reader)
            .map_err(|error| named(&at, error))?;
    }
    if !reader.ended() {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the archive is cut off",
        ));
    }
    match unpacking {
        Some(unpacking) => unpacking.finish(),
        None => Ok(()),
    }
}

struct Unpacking<'a> {
    destination: &'a Destination,
    /// The directory that all goes to.
    root: PathBuf,
    name: Name,
    /// Of directories, which change while they are filled.
    times: BTreeMap<PathBuf, Timestamp>,
}

/// What becomes of the first part of a path.
enum Name {
    Kept,
    /// It is left away.
    Gone,
    /// It is this.
    Other(Vec<u8>),
}

impl<'a> Unpacking<'a> {
    /// Decides where everything goes, by what is there and by the first entry.
    fn begin(destination: &'a Destination, first: &LayerEntry) -> io::Result<Self> {
        let no = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
        let path = &destination.path;
        let is_directory = first.item == Item::Directory;
        let text = path.display();
        let begun = |root: &Path, name| Self {
            destination,
            root: root.to_owned(),
            name,
            times: BTreeMap::new(),
        };
        let found = match fs_err::canonicalize(path) {
            Ok(real) => Some((fs_err::metadata(&real)?.is_dir(), real)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        match found {
            Some((true, real)) => Ok(begun(
                &real,
                if destination.contents && is_directory && !destination.archive {
                    Name::Gone
                } else {
                    Name::Kept
                },
            )),
            Some((false, _)) if destination.archive || is_directory => {
                Err(no(format!("`{text}` is not a directory")))
            }
            None if destination.archive => Err(no(format!("there is no directory `{text}`"))),
            None if !is_directory && path.as_os_str().as_bytes().ends_with(b"/") => {
                Err(no(format!("there is no directory `{text}`")))
            }
            found => {
                let path = found.map_or_else(|| path.clone(), |(_, real)| real);
                let name = path.file_name().map(OsStr::as_bytes);
                let name = name.ok_or_else(|| no(format!("`{text}` cannot be written")))?;
                let parent = path
                    .parent()
                    .filter(|parent| !parent.as_os_str().is_empty());
                let parent = parent.unwrap_or(Path::new("."));
                match fs_err::metadata(parent) {
                    Ok(parent) if parent.is_dir() => {}
                    _ => return Err(no(format!("there is no directory `{}`", parent.display()))),
                }
                Ok(begun(parent, Name::Other(name.to_vec())))
            }
        }
    }

    /// The path that an entry gets, below the root.
    fn renamed(&self, path: &[u8]) -> Vec<u8> {
        let parts: Vec<&[u8]> = components(path).collect();
        match &self.name {
            Name::Kept => parts.join(&b'/'),
            Name::Gone => parts.get(1..).unwrap_or_default().join(&b'/'),
            Name::Other(name) => {
                let rest = parts.get(1..).unwrap_or_default();
                [&[name.as_slice()], rest].concat().join(&b'/')
            }
        }
    }

    fn entry(&mut self, path: &[u8], entry: &LayerEntry, bytes: &mut dyn Read) -> io::Result<()> {
        if path.is_empty() {
            // The destination itself stays as it is.
            return Ok(());
        }
        let at = self.place(path)?;
        match &entry.item {
            Item::Directory => {
                self.make_directory(&at)?;
                self.times.insert(at.clone(), entry.metadata.mtime);
                return self.apply(&at, &entry.metadata, false);
            }
            Item::HardLink(target) => {
                let target = self.place(&self.renamed(target))?;
                if target != at {
                    remove(&at)?;
                    linkat(CWD, &target, CWD, &at, AtFlags::empty())?;
                }
                return Ok(());
            }
            Item::File(content) => file(&at, content, bytes)?,
            Item::Symlink(target) => {
                remove(&at)?;
                rustix::fs::symlink(&**target, &at)?;
            }
            Item::CharacterDevice(device) => {
                self.device(&at, FileType::CharacterDevice, *device)?;
            }
            Item::BlockDevice(device) => self.device(&at, FileType::BlockDevice, *device)?,
            Item::Fifo => node(&at, FileType::Fifo, Device::default())?,
            // A plain archive has none.
            Item::Whiteout | Item::Opaque => return Ok(()),
        }
        self.apply(&at, &entry.metadata, matches!(entry.item, Item::Symlink(_)))?;
        attributes::set_time(&at, entry.metadata.mtime)
    }

    /// Where a path lies, whose parents are directories.
    fn place(&self, path: &[u8]) -> io::Result<PathBuf> {
        let mut parts: Vec<&[u8]> = components(path).collect();
        let name = parts.pop().unwrap_or_default();
        let mut at = self.root.clone();
        for part in parts {
            at.push(OsStr::from_bytes(part));
            self.make_directory(&at)?;
        }
        at.push(OsStr::from_bytes(name));
        Ok(at)
    }

    fn make_directory(&self, at: &Path) -> io::Result<()> {
        match lstat(at).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            Ok(FileType::Directory) => Ok(()),
            Ok(FileType::Symlink) if self.destination.trusted && at.is_dir() => Ok(()),
            Ok(FileType::Symlink) => Err(io::Error::other(format!(
                "`{}` is a link, which is not followed",
                shown(at.as_os_str().as_bytes())
            ))),
            Ok(_) => Err(io::ErrorKind::NotADirectory.into()),
            Err(_) => fs_err::create_dir(at),
        }
    }

    fn device(&self, at: &Path, kind: FileType, device: Device) -> io::Result<()> {
        if !self.destination.trusted {
            return Err(io::Error::other(
                "it is a device, and those stay in their VM",
            ));
        }
        node(at, kind, device)
    }

    fn apply(&self, at: &Path, metadata: &Metadata, is_link: bool) -> io::Result<()> {
        let plain = Metadata {
            xattrs: Default::default(),
            ..metadata.clone()
        };
        attributes::apply(at, &plain, is_link)?;
        for (name, value) in &metadata.xattrs {
            if !self.destination.trusted && !name.starts_with(b"user.") {
                continue;
            }
            match lsetxattr(at, &**name, value, XattrFlags::empty()) {
                // Not every file system has them.
                Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Sets the times of directories, each after those below it.
    fn finish(self) -> io::Result<()> {
        let mut times = self.times.into_iter().rev();
        times.try_for_each(|(at, time)| attributes::set_time(&at, time))
    }
}

fn node(at: &Path, kind: FileType, device: Device) -> io::Result<()> {
    remove(at)?;
    let device = makedev(device.major, device.minor);
    Ok(mknodat(CWD, at, kind, Mode::from_raw_mode(0o600), device)?)
}

/// Takes away what an entry replaces.
fn remove(at: &Path) -> io::Result<()> {
    match lstat(at).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
        Ok(FileType::Directory) => Err(io::ErrorKind::IsADirectory.into()),
        Ok(_) => fs_err::remove_file(at),
        Err(_) => Ok(()),
    }
}

/// Writes a file. Where it holds nothing but zeros, it gets holes.
fn file(at: &Path, content: &Content, bytes: &mut dyn Read) -> io::Result<()> {
    remove(at)?;
    let mut options = fs_err::OpenOptions::new();
    let mut file = options.write(true).create_new(true).open(at)?;
    let mut buffer = vec![0; PIECE];
    for segment in &content.segments {
        let (mut start, mut left) = (segment.start, segment.length);
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            let piece = &mut buffer[..length];
            bytes.read_exact(piece)?;
            for block in piece.chunks(BLOCK) {
                if block.iter().any(|byte| *byte != 0) {
                    file.seek(SeekFrom::Start(start))?;
                    file.write_all(block)?;
                }
                start += block.len() as u64;
            }
            left -= length as u64;
        }
    }
    file.flush()?;
    file.set_len(content.length)
}
