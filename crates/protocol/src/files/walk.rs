//! Everything below a directory, always in the same order.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use firebuild_core::layer::Entry;
use firebuild_core::tree::Device;
use rustix::fs::{FileType, Stat, major, minor};

/// Calls `visit` with the path of everything below `top`, relative to it: parents before children, the
/// children of a directory in the order of their names' bytes. Links are not followed. `visit` says
/// whether what is there is a directory, and so whether to go into it.
///
/// # Errors
/// The first of `visit`, and of reading a directory.
pub fn below(top: &Path, mut visit: impl FnMut(&[u8]) -> io::Result<bool>) -> io::Result<()> {
    // Without recursion: paths may be deep.
    let mut stack = vec![names(top, Vec::new())?];
    while let Some((parent, names_left)) = stack.last_mut() {
        let Some(name) = names_left.pop() else {
            stack.pop();
            continue;
        };
        let path = if parent.is_empty() {
            name
        } else {
            [parent.as_slice(), b"/", &name].concat()
        };
        if visit(&path)? {
            stack.push(names(top, path)?);
        }
    }
    Ok(())
}

/// Where a path that [`below`] gave is.
#[must_use]
pub fn at(top: &Path, path: &[u8]) -> PathBuf {
    if path.is_empty() {
        return top.to_owned();
    }
    top.join(OsStr::from_bytes(path))
}

/// The numbers of a device.
#[must_use]
pub fn device(stat: &Stat) -> Device {
    Device {
        major: major(stat.st_rdev),
        minor: minor(stat.st_rdev),
    }
}

/// The entry of a file that is nothing but its metadata: a device or a named pipe. None for others,
/// and for sockets, whose names are of no use without the process that listens.
#[must_use]
pub fn node(stat: &Stat) -> Option<Entry<'static>> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => Some(Entry::CharacterDevice(device(stat))),
        FileType::BlockDevice => Some(Entry::BlockDevice(device(stat))),
        FileType::Fifo => Some(Entry::Fifo),
        _ => None,
    }
}

/// The names in a directory, the first last.
fn names(top: &Path, directory: Vec<u8>) -> io::Result<(Vec<u8>, Vec<Vec<u8>>)> {
    let mut names = Vec::new();
    for entry in fs_err::read_dir(at(top, &directory))? {
        names.push(entry?.file_name().into_vec());
    }
    names.sort_unstable_by(|one, two| two.cmp(one));
    Ok((directory, names))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_first_and_names_in_order() {
        let top = tempfile::tempdir().unwrap();
        for directory in ["b/c", "a b", "b.d", "z"] {
            fs_err::create_dir_all(top.path().join(directory)).unwrap();
        }
        fs_err::write(top.path().join("b/a"), "").unwrap();
        fs_err::os::unix::fs::symlink("/", top.path().join("z/root")).unwrap();
        let mut seen = Vec::new();
        below(top.path(), |path| {
            seen.push(String::from_utf8(path.to_vec()).unwrap());
            Ok(at(top.path(), path).symlink_metadata()?.is_dir())
        })
        .unwrap();
        assert_eq!(seen, ["a b", "b", "b/a", "b/c", "b.d", "z", "z/root"]);
    }

    #[test]
    fn the_first_mistake_ends_it() {
        let top = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            fs_err::write(top.path().join(name), "").unwrap();
        }
        let mut count = 0;
        let result = below(top.path(), |_| {
            count += 1;
            Err(io::Error::other("no"))
        });
        assert_eq!(
            (result.unwrap_err().to_string(), count),
            ("no".to_owned(), 1)
        );
    }
}
