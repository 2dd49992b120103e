//! What is in the directories. Every path is opened below its root, whatever links there are.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use firebuild_core::Reference;
use firebuild_store::KernelId;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{METADATA, ROOTFS};
use crate::provider::Listed;
use crate::provider::adopt::Found;
use crate::provider::error::{Doing, ProviderError, Result};
use crate::provider::metadata::Metadata;
use crate::provider::place::Place;
use crate::time;

/// The longest metadata, in bytes.
const LONGEST_METADATA: u64 = 4 << 20;
/// How often a directory may be replaced while it is opened.
const TRIES: usize = 10;

/// What is at a place, and its name.
pub(super) fn find(root: &Path, place: &Place) -> Result<Option<(Option<Reference>, Found)>> {
    for _ in 1..TRIES {
        match open(root, place) {
            // It may have been replaced in the meantime; then there is a whole one now.
            Err(ProviderError::Incomplete { .. }) => {}
            other => return other,
        }
    }
    open(root, place)
}

fn open(root: &Path, place: &Place) -> Result<Option<(Option<Reference>, Found)>> {
    let Some(storage) = storage(root)? else {
        return Ok(None);
    };
    let directory = root.join(place.path());
    let Some(opened) = beneath(&storage, &place.path(), &directory, OFlags::DIRECTORY)? else {
        return Ok(None);
    };
    let part = |name: &'static str| {
        let path = directory.join(name);
        match regular(&opened, Path::new(name), &path)? {
            Some(file) => Ok((path, file)),
            None => Err(ProviderError::Incomplete {
                directory: directory.clone(),
                missing: name,
            }),
        }
    };
    let (metadata_path, metadata) = part(METADATA)?;
    let metadata = parse(&metadata_path, metadata)?;
    let (path, file) = part(ROOTFS)?;
    let name = metadata.name(place);
    let name = name.map_err(|found| ProviderError::OtherName {
        path: metadata_path.clone(),
        found,
    })?;
    let found = Found {
        path,
        file,
        metadata_path,
        metadata,
    };
    Ok(Some((name, found)))
}

fn parse(path: &Path, file: File) -> Result<Metadata> {
    let mut bytes = Vec::new();
    let read = file.take(LONGEST_METADATA + 1).read_to_end(&mut bytes);
    let read = read.doing(|| format!("read `{}`", path.display()))?;
    if read as u64 > LONGEST_METADATA {
        return Err(ProviderError::LongMetadata(path.to_owned()));
    }
    serde_json::from_slice(&bytes).map_err(|source| ProviderError::Metadata {
        path: path.to_owned(),
        source,
    })
}

/// A kernel's file.
pub(super) fn kernel(root: &Path, id: &KernelId) -> Result<Option<PathBuf>> {
    let Some(storage) = storage(root)? else {
        return Ok(None);
    };
    let path = root.join(id.as_str());
    Ok(regular(&storage, Path::new(id.as_str()), &path)?.map(|_| path))
}

/// All images, in the order of their names.
pub(super) fn list(root: &Path) -> Result<Vec<Result<Listed>>> {
    let mut listed = Vec::new();
    for org in directories(root)? {
        for image in directories(&root.join(&org))? {
            for version in directories(&root.join(&org).join(&image))? {
                let place = Place {
                    org: org.clone(),
                    image: image.clone(),
                    version,
                };
                listed.extend(entry(root, &place).transpose());
            }
        }
    }
    listed.sort_by_key(|entry| entry.as_ref().ok().map(|listed| listed.name.clone()));
    Ok(listed)
}

fn entry(root: &Path, place: &Place) -> Result<Option<Listed>> {
    let Some((name, found)) = find(root, place)? else {
        return Ok(None);
    };
    let Some(name) = name else {
        return Err(ProviderError::OtherName {
            path: found.metadata_path,
            found: place.to_string(),
        });
    };
    let metadata = found.file.metadata();
    let metadata = metadata.doing(|| format!("read `{}`", found.path.display()))?;
    Ok(Some(Listed {
        name,
        digest: found.metadata.digest(),
        created: Some(time::rfc3339(found.metadata.created())),
        size: std::os::unix::fs::MetadataExt::blocks(&metadata) * 512,
    }))
}

/// The directories in one, without hidden ones and links; none if it is not there.
fn directories(path: &Path) -> Result<Vec<String>> {
    let doing = || format!("read the directory `{}`", path.display());
    let entries = match fs_err::read_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.doing(doing)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.doing(doing)?;
        if entry.file_type().doing(doing)?.is_dir() {
            let name = entry.file_name();
            let name = OsStr::to_str(&name).filter(|name| !name.starts_with('.'));
            names.extend(name.map(str::to_owned));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// A root; none if it is not there.
pub(super) fn storage(root: &Path) -> Result<Option<File>> {
    match fs_err::File::open(root) {
        Ok(file) => Ok(Some(file.into_parts().0)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).doing(|| format!("open the storage `{}`", root.display())),
    }
}

/// Opens what is below a directory; none if it is not there. `shown` is its whole path.
fn beneath(directory: impl AsFd, path: &Path, shown: &Path, flags: OFlags) -> Result<Option<File>> {
    let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(directory, path, flags, Mode::empty(), resolve) {
        Ok(file) => Ok(Some(file.into())),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(Errno::XDEV | Errno::LOOP) => Err(ProviderError::Outside(shown.to_owned())),
        // A socket.
        Err(Errno::NXIO) => Err(ProviderError::NotAFile(shown.to_owned())),
        Err(error) => Err(error).doing(|| format!("open `{}`", shown.display())),
    }
}

/// The same, which must be a regular file.
fn regular(directory: impl AsFd, path: &Path, shown: &Path) -> Result<Option<File>> {
    let Some(file) = beneath(directory, path, shown, OFlags::empty())? else {
        return Ok(None);
    };
    let metadata = file.metadata();
    match metadata
        .doing(|| format!("open `{}`", shown.display()))?
        .is_file()
    {
        true => Ok(Some(file)),
        false => Err(ProviderError::NotAFile(shown.to_owned())),
    }
}
