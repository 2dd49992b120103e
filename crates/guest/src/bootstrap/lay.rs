//! Laying a finished layer on: unpacking it into a directory that overlayfs takes for an upper one.

use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use firebuild_core::layer::{Item, LayerEntry, LayerReader};
use firebuild_core::tree::{Device, Timestamp, shown};
use rustix::fs::{AtFlags, CWD, FileType, Mode, linkat, lstat, makedev, mknodat};

use crate::attributes;
use crate::error::{GuestError, Result, chain};

/// Unpacks the layer that `bytes` are into `directory`, which exists and is empty. Where the layer
/// does not mention the root directory, `directory` keeps its attributes and its time.
pub(crate) fn unpack(bytes: impl Read, directory: &Path) -> Result<()> {
    unpack_all(LayerReader::new(bytes), directory)
}

/// The same for an archive that is no layer: no name in it means anything more.
pub(crate) fn unpack_plain(bytes: impl Read, directory: &Path) -> Result<()> {
    unpack_all(LayerReader::new(bytes).plain(), directory)
}

fn unpack_all(mut reader: LayerReader<impl Read>, directory: &Path) -> Result<()> {
    let kept = lstat(directory)
        .map_err(io::Error::from)
        .and_then(|stat| attributes::read(directory, &stat))
        .map_err(|error| GuestError::Layer(format!("cannot read its directory: {error}")))?;
    let mut laying = Laying {
        directory: directory.to_owned(),
        times: vec![(directory.to_owned(), kept.mtime)],
    };
    loop {
        let entry = reader
            .next_entry()
            .map_err(|error| GuestError::Layer(chain(&error)))?;
        let Some(entry) = entry else { break };
        laying
            .entry(&entry, &mut reader)
            .map_err(|error| GuestError::Layer(format!("`{}`: {error}", shown(&entry.path))))?;
    }
    if !reader.ended() {
        return Err(GuestError::Layer("it is cut off".to_owned()));
    }
    laying
        .finish()
        .map_err(|error| GuestError::Layer(format!("cannot set times: {error}")))
}

struct Laying {
    directory: PathBuf,
    /// Of directories, which change while they are filled.
    times: Vec<(PathBuf, Timestamp)>,
}

impl Laying {
    fn entry(&mut self, entry: &LayerEntry, bytes: &mut dyn Read) -> io::Result<()> {
        let at = self.place(&entry.path)?;
        match &entry.item {
            Item::Whiteout => return self.node(&at, FileType::CharacterDevice, Device::default()),
            Item::Opaque => {
                make_directory(&at)?;
                return attributes::set_opaque(&at);
            }
            Item::Directory => {
                if is_whiteout(&at) {
                    fs_err::remove_file(&at)?;
                    fs_err::create_dir(&at)?;
                    attributes::set_opaque(&at)?;
                }
                make_directory(&at)?;
                self.times.push((at.clone(), entry.metadata.mtime));
                return attributes::apply(&at, &entry.metadata, false);
            }
            Item::HardLink(target) => {
                let target = self.place(target)?;
                remove(&at)?;
                return Ok(linkat(CWD, &target, CWD, &at, AtFlags::empty())?);
            }
            Item::File(content) => self.file(&at, content, bytes)?,
            Item::Symlink(target) => {
                remove(&at)?;
                rustix::fs::symlink(&**target, &at)?;
            }
            Item::CharacterDevice(device) => self.node(&at, FileType::CharacterDevice, *device)?,
            Item::BlockDevice(device) => self.node(&at, FileType::BlockDevice, *device)?,
            Item::Fifo => self.node(&at, FileType::Fifo, Device::default())?,
        }
        attributes::apply(&at, &entry.metadata, matches!(entry.item, Item::Symlink(_)))?;
        attributes::set_time(&at, entry.metadata.mtime)
    }

    /// Where a path lies. Its parents must be directories of this layer: links are not followed,
    /// so nothing is ever written outside.
    fn place(&self, path: &[u8]) -> io::Result<PathBuf> {
        let mut parts: Vec<&[u8]> = firebuild_core::tree::components(path).collect();
        let name = parts.pop().unwrap_or_default();
        let mut at = self.directory.clone();
        for part in parts {
            at.push(as_path(part));
            make_directory(&at)?;
        }
        if !name.is_empty() {
            at.push(as_path(name));
        }
        Ok(at)
    }

    fn node(&self, at: &Path, kind: FileType, device: Device) -> io::Result<()> {
        remove(at)?;
        let device = makedev(device.major, device.minor);
        Ok(mknodat(CWD, at, kind, Mode::from_raw_mode(0o600), device)?)
    }

    fn file(
        &self,
        at: &Path,
        content: &firebuild_core::tree::Content,
        bytes: &mut dyn Read,
    ) -> io::Result<()> {
        use std::io::Seek as _;
        remove(at)?;
        let mut file = fs_err::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(at)?;
        for segment in &content.segments {
            file.seek(io::SeekFrom::Start(segment.start))?;
            io::copy(&mut bytes.take(segment.length), &mut file)?;
        }
        file.flush()?;
        file.set_len(content.length)
    }

    /// Sets the times of directories, each after those below it; what was said last counts.
    fn finish(self) -> io::Result<()> {
        let times: std::collections::BTreeMap<PathBuf, Timestamp> =
            self.times.into_iter().collect();
        times
            .into_iter()
            .rev()
            .try_for_each(|(at, time)| attributes::set_time(&at, time))
    }
}

fn as_path(part: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt as _;
    Path::new(std::ffi::OsStr::from_bytes(part))
}

fn is_whiteout(at: &Path) -> bool {
    lstat(at).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
    })
}

fn make_directory(at: &Path) -> io::Result<()> {
    match lstat(at).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
        Ok(FileType::Directory) => Ok(()),
        Ok(_) => Err(io::ErrorKind::NotADirectory.into()),
        Err(_) => fs_err::create_dir(at),
    }
}

/// Takes away what an entry replaces.
fn remove(at: &Path) -> io::Result<()> {
    match lstat(at).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
        Ok(FileType::Directory) => fs_err::remove_dir_all(at),
        Ok(_) => fs_err::remove_file(at),
        Err(_) => Ok(()),
    }
}
