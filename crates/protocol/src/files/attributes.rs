//! Mode, owner, time and extended attributes of files, read and written as they are.
//!
//! What overlayfs notes about a file in attributes of its own is not the file's and is left out.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use firebuild_core::tree::{Metadata, Timestamp, Xattrs};
use rustix::fs::{
    AtFlags, CWD, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat,
    lgetxattr, llistxattr, lsetxattr, lstat, utimensat,
};
use rustix::io::Errno;

/// Attributes that belong to overlayfs.
const OVERLAY: &[u8] = b"trusted.overlay.";

/// The attributes of the file at `at`, which `stat` is of.
///
/// # Errors
/// They cannot be read.
pub fn read(at: &Path, stat: &Stat) -> io::Result<Metadata> {
    Ok(metadata(stat, xattrs(at)?))
}

/// The attributes of a file, of which only the extended ones are not in `stat`.
#[must_use]
pub fn metadata(stat: &Stat, xattrs: Xattrs) -> Metadata {
    Metadata {
        mode: u16::try_from(stat.st_mode & 0o7777).unwrap_or(0),
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Timestamp {
            seconds: stat.st_mtime,
            nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        },
        xattrs,
    }
}

fn xattrs(at: &Path) -> io::Result<Xattrs> {
    // The kernel lets neither a list nor a value be longer.
    let mut buffer = vec![0; 64 << 10];
    let length = match llistxattr(at, &mut buffer) {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(Xattrs::new()),
        other => other?,
    };
    let names = buffer[..length].to_vec();
    let mut attributes = BTreeMap::new();
    for name in names.split(|byte| *byte == 0) {
        if name.is_empty() || name.starts_with(OVERLAY) {
            continue;
        }
        let length = lgetxattr(at, name, &mut buffer)?;
        attributes.insert(name.into(), buffer[..length].into());
    }
    Ok(attributes)
}

/// Gives the file at `at` all of `metadata` but its time. A symbolic link has no mode.
///
/// # Errors
/// They cannot be set.
pub fn apply(at: &Path, metadata: &Metadata, is_link: bool) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(metadata.uid), Gid::from_raw(metadata.gid));
    chownat(CWD, at, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if !is_link {
        // After the owner, whose change takes set-id bits away.
        chmodat(
            CWD,
            at,
            Mode::from_raw_mode(metadata.mode.into()),
            AtFlags::empty(),
        )?;
    }
    for (name, value) in &metadata.xattrs {
        if !name.starts_with(OVERLAY) {
            lsetxattr(at, &**name, value, XattrFlags::empty())?;
        }
    }
    Ok(())
}

/// Sets when the file at `at` was last changed.
///
/// # Errors
/// It cannot be set.
pub fn set_time(at: &Path, time: Timestamp) -> io::Result<()> {
    let time = Timespec {
        tv_sec: time.seconds,
        tv_nsec: time.nanoseconds.into(),
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    Ok(utimensat(CWD, at, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Marks a directory: nothing of what lies below it is seen through it.
///
/// # Errors
/// It cannot be marked.
pub fn set_opaque(at: &Path) -> io::Result<()> {
    Ok(lsetxattr(
        at,
        "trusted.overlay.opaque",
        b"y",
        XattrFlags::empty(),
    )?)
}

/// Whether a directory has that mark.
///
/// # Errors
/// It cannot be read.
pub fn is_opaque(at: &Path) -> io::Result<bool> {
    let mut value = [0; 2];
    match lgetxattr(at, "trusted.overlay.opaque", &mut value[..]) {
        Ok(length) => Ok(&value[..length] == b"y"),
        // An `x` says that the directory may hold whiteouts of another form.
        Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Gives directory `to` all attributes of `from`.
///
/// # Errors
/// They cannot be read or set.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let metadata = read(from, &lstat(from)?)?;
    apply(to, &metadata, false)?;
    set_time(to, metadata.mtime)
}
