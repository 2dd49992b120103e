//! Small JSON files by a key's digest, each of which keeps a blob: the form of the build cache and of
//! what was fetched. A file's modification time is when it was last used.

use std::fs::FileTimes;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use firebuild_core::Digest;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Store;
use crate::collect::{digest_of, files_of};
use crate::error::{Doing, Error, Result};

/// What a key stands for.
pub(crate) trait Record: Serialize + DeserializeOwned {
    /// The store's directory of these records.
    const DIRECTORY: &'static str;

    /// The blob that it keeps.
    fn blob(&self) -> Digest;
}

/// A record with its key, and when it was last used.
type Found<R> = (Digest, R, SystemTime);

/// The record of a key, if there is one and its blob is there; it counts as used. A record that
/// cannot be understood is as good as none.
pub(crate) fn get<R: Record>(store: &Store, key: &Digest) -> Result<Option<R>> {
    let path = path::<R>(store, key);
    let Some(record) = read::<R>(&path)? else {
        return Ok(None);
    };
    if !store.has_blob(&record.blob())? {
        return Ok(None);
    }
    // Only the order in which records are dropped depends on it.
    let _ = fs_err::File::open(&path).and_then(|file| {
        let now = FileTimes::new().set_modified(SystemTime::now());
        file.file().set_times(now)
    });
    Ok(Some(record))
}

/// Writes the record of a key, in place of an older one. Its blob must be in the store.
pub(crate) fn put<R: Record>(store: &Store, key: &Digest, record: &R) -> Result<()> {
    let _lease = store.lease()?;
    if !store.has_blob(&record.blob())? {
        return Err(Error::NoBlob(record.blob()));
    }
    store.write_json(&path::<R>(store, key), record)
}

/// Forgets a key. Returns whether it was known.
pub(crate) fn remove<R: Record>(store: &Store, key: &Digest) -> Result<bool> {
    let path = path::<R>(store, key);
    match fs_err::remove_file(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        other => other
            .map(|()| true)
            .doing(|| format!("remove `{}`", path.display())),
    }
}

/// All records, in no order.
pub(crate) fn list<R: Record>(store: &Store) -> Result<Vec<Found<R>>> {
    let directory = store.path().join(R::DIRECTORY);
    let doing = || format!("read the records in `{}`", directory.display());
    let mut all = Vec::new();
    for entry in fs_err::read_dir(&directory).doing(doing)? {
        let entry = entry.doing(doing)?;
        let name = entry.file_name();
        let key = name.to_str().and_then(|name| name.strip_suffix(".json"));
        let key = key.and_then(|hex| format!("sha256:{hex}").parse().ok());
        let (Some(key), Some(record)) = (key, read::<R>(&entry.path())?) else {
            continue;
        };
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        all.push((key, record, modified.unwrap_or(SystemTime::UNIX_EPOCH)));
    }
    Ok(all)
}

/// The keys of records that cannot be understood.
pub(crate) fn unreadable<R: Record>(store: &Store) -> Result<Vec<Digest>> {
    let mut keys = Vec::new();
    for path in files_of(&store.path().join(R::DIRECTORY))? {
        if let Some(key) = digest_of(&path, ".json")
            && read::<R>(&path)?.is_none()
            && path.exists()
        {
            keys.push(key);
        }
    }
    Ok(keys)
}

fn path<R: Record>(store: &Store, key: &Digest) -> PathBuf {
    let directory = store.path().join(R::DIRECTORY);
    directory.join(format!("{}.json", key.hex()))
}

fn read<R: Record>(path: &Path) -> Result<Option<R>> {
    match fs_err::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).doing(|| format!("read the record `{}`", path.display())),
    }
}
