//! A directory of the root file system, copied as it is: owners, modes, times, attributes, links.

use std::collections::HashMap;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, Stat, lstat, mknodat, symlink};

use crate::attributes;
use crate::error::{Doing as _, Result};
use crate::launch;

/// Makes the directory `to` as `target` is in a root made of `layers`, the highest first; empty, if that
/// is no directory there.
pub(super) fn fill(layers: &[PathBuf], target: &str, to: &Path) -> Result<()> {
    fs_err::create_dir(to).doing(|| format!("make `{}`", to.display()))?;
    if layers.is_empty() {
        return Ok(());
    }
    launch::look_into(layers, |seen| {
        let Some(from) = launch::find_in(seen, target)? else {
            return Ok(());
        };
        Copying::default().directory(&from, to)
    })?
    .doing(|| format!("copy what the image has in `{target}`"))
}

#[derive(Default)]
struct Copying {
    /// Files with several names, by device and inode.
    links: HashMap<(u64, u64), PathBuf>,
}

impl Copying {
    /// Copies what the directory holds, and then its attributes.
    fn directory(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        for entry in fs_err::read_dir(from)? {
            let name = entry?.file_name();
            self.entry(&from.join(&name), &to.join(&name))?;
        }
        attributes::copy(from, to)
    }

    fn entry(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let stat = lstat(from)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            fs_err::create_dir(to)?;
            return self.directory(from, to);
        }
        let who = (stat.st_dev, stat.st_ino);
        if let Some(first) = self.links.get(&who) {
            return fs_err::hard_link(first, to);
        }
        if stat.st_nlink > 1 {
            self.links.insert(who, to.to_owned());
        }
        make(kind, &stat, from, to)?;
        let metadata = attributes::read(from, &stat)?;
        attributes::apply(to, &metadata, kind == FileType::Symlink)?;
        attributes::set_time(to, metadata.mtime)
    }
}

fn make(kind: FileType, stat: &Stat, from: &Path, to: &Path) -> io::Result<()> {
    match kind {
        FileType::RegularFile => fs_err::copy(from, to).map(drop),
        FileType::Symlink => {
            let target = fs_err::read_link(from)?;
            Ok(symlink(target.as_os_str().as_bytes(), to)?)
        }
        kind => Ok(mknodat(
            CWD,
            to,
            kind,
            Mode::from_raw_mode(0o600),
            stat.st_rdev,
        )?),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};

    use super::*;

    #[test]
    fn a_directory_is_copied_as_it_is() {
        let scratch = tempfile::tempdir().unwrap();
        let layer = scratch.path().join("layer");
        let from = layer.join("var/lib/db");
        fs_err::create_dir_all(from.join("sub")).unwrap();
        fs_err::write(from.join("sub/file"), "content").unwrap();
        fs_err::hard_link(from.join("sub/file"), from.join("again")).unwrap();
        std::os::unix::fs::symlink("/etc/shadow", from.join("link")).unwrap();
        std::os::unix::fs::symlink("lib", layer.join("var/other")).unwrap();
        mknodat(CWD, from.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        chown(from.join("sub/file"), Some(999), Some(998)).unwrap();
        let mode = |mode| std::fs::Permissions::from_mode(mode);
        fs_err::set_permissions(from.join("sub/file"), mode(0o4750)).unwrap();
        chown(&from, Some(999), Some(999)).unwrap();
        fs_err::set_permissions(&from, mode(0o700)).unwrap();
        let to = scratch.path().join("to");
        // Through a link of the image's.
        fill(&[layer], "/var/other/db", &to).unwrap();
        let of = |name: &str| fs_err::symlink_metadata(to.join(name)).unwrap();
        assert_eq!((of("").uid(), of("").mode() & 0o7777), (999, 0o700));
        let file = of("sub/file");
        assert_eq!((file.uid(), file.gid()), (999, 998));
        assert_eq!((file.mode() & 0o7777, file.nlink()), (0o4750, 2));
        assert_eq!(file.ino(), of("again").ino());
        assert_eq!(
            fs_err::read_link(to.join("link")).unwrap(),
            Path::new("/etc/shadow")
        );
        assert_eq!(FileType::from_raw_mode(of("fifo").mode()), FileType::Fifo);
        let before = fs_err::metadata(from.join("sub")).unwrap();
        assert_eq!(before.mtime_nsec(), of("sub").mtime_nsec());
    }
}
