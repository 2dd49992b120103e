//! Where a root's mounts go, and the places for them that the image lacks.
//!
//! What is missing is made in a directory of ours, the stubs, which lies between the image and the
//! directory that is written. So a mount leaves nothing in the step's change. Above the image,
//! because a layer that removed a name hides it in all directories below that layer. A stub's
//! parents get the attributes of the directories that they stand before.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, lstat};

use super::inside::path;
use crate::attributes;

/// As in the kernel.
const MOST_LINKS: usize = 40;

/// What a mount point is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// For a directory.
    Directory,
    /// For a directory in memory. One that is made is everyone's, as `/tmp` is.
    Memory,
    /// For anything else.
    File,
}

/// Supplies places.
pub(super) struct Places<'a> {
    /// The root without the stubs.
    seen: &'a Path,
    stubs: &'a Path,
    /// Where something will be mounted that hides what is seen.
    covered: Vec<PathBuf>,
    /// Directories of the root that have a stub.
    parents: BTreeSet<PathBuf>,
}

impl<'a> Places<'a> {
    /// Places in the root `seen`; what it lacks is made in `stubs`, which is empty.
    pub(super) fn new(seen: &'a Path, stubs: &'a Path) -> Self {
        Self {
            seen,
            stubs,
            covered: Vec::new(),
            parents: BTreeSet::new(),
        }
    }

    /// Makes the place of a mount if it is missing. A place below that of an earlier mount is that
    /// mount's matter: nothing is made for it, and none is returned.
    pub(super) fn supply(&mut self, target: &Path, kind: Kind) -> io::Result<Option<PathBuf>> {
        let Some(at) = resolve(self.seen, target, &self.covered)? else {
            return Ok(None);
        };
        if lstat(self.seen.join(&at)).is_err() {
            self.make(&at, kind)?;
        }
        self.covered.push(at.clone());
        Ok(Some(at))
    }

    /// The same for a directory that stays in the root: nothing is made now. Returns where it is to
    /// be made, if it is missing.
    pub(super) fn keep(&mut self, target: &Path) -> io::Result<Option<PathBuf>> {
        let Some(at) = resolve(self.seen, target, &self.covered)? else {
            return Ok(None);
        };
        self.covered.push(at.clone());
        Ok(lstat(self.seen.join(&at)).is_err().then_some(at))
    }

    fn make(&mut self, at: &Path, kind: Kind) -> io::Result<()> {
        let mut parents: Vec<&Path> = at.ancestors().skip(1).collect();
        // The root itself.
        parents.pop();
        for parent in parents.into_iter().rev() {
            match lstat(self.seen.join(parent)) {
                Ok(stat) if is_directory(&stat) => {
                    self.parents.insert(parent.to_owned());
                }
                Ok(_) => {
                    let what = format!("`/{}` is not a directory", parent.display());
                    return Err(io::Error::new(io::ErrorKind::NotADirectory, what));
                }
                Err(_) => {}
            }
            make(&self.stubs.join(parent), Kind::Directory)?;
        }
        make(&self.stubs.join(at), kind)
    }

    /// Makes the stubs' directories look like those of the root.
    pub(super) fn finish(self) -> io::Result<()> {
        for parent in &self.parents {
            let (from, to) = (self.seen.join(parent), self.stubs.join(parent));
            match attributes::copy(&from, &to) {
                // Of a kernel whose memory file system keeps no attributes of users.
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
                other => other?,
            }
        }
        Ok(())
    }
}

pub(super) fn is_directory(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Makes an empty directory or file, unless there is something already.
pub(super) fn make(at: &Path, kind: Kind) -> io::Result<()> {
    if lstat(at).is_ok() {
        return Ok(());
    }
    match kind {
        Kind::Directory => fs_err::create_dir(at),
        Kind::Memory => {
            fs_err::create_dir(at)?;
            fs_err::set_permissions(at, std::fs::Permissions::from_mode(0o1777))
        }
        Kind::File => fs_err::write(at, ""),
    }
}

/// The directory that `target` leads to for a process whose root is `root`, if there is one.
pub(crate) fn find_in(root: &Path, target: &str) -> io::Result<Option<PathBuf>> {
    let at = resolve(root, Path::new(target), &[])?;
    let at = at.map(|at| root.join(at));
    Ok(at.filter(|at| lstat(at).is_ok_and(|stat| is_directory(&stat))))
}

/// Where a path leads for a process whose root is `root`; the end of it need not exist. None if it
/// leads through one of the `covered` places.
pub(super) fn resolve(
    root: &Path,
    wanted: &Path,
    covered: &[PathBuf],
) -> io::Result<Option<PathBuf>> {
    let mut todo: Vec<Vec<u8>> = parts(wanted.as_os_str().as_bytes());
    let mut at = PathBuf::new();
    let mut links = 0;
    while let Some(part) = todo.pop() {
        if part == b".." {
            at.pop();
            continue;
        }
        let next = at.join(path(&part));
        if covered.contains(&next) {
            return Ok(None);
        }
        match fs_err::read_link(root.join(&next)) {
            Ok(target) => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(io::Error::other(format!(
                        "`{}` leads through too many links",
                        wanted.display()
                    )));
                }
                if target.is_absolute() {
                    at.clear();
                }
                todo.extend(parts(target.as_os_str().as_bytes()));
            }
            // Not a link, or not there.
            Err(_) => at = next,
        }
    }
    Ok(Some(at))
}

/// A path's parts, the last first.
fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    firebuild_core::tree::components(path)
        .rev()
        .map(<[u8]>::to_vec)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Rig {
        _directory: tempfile::TempDir,
        seen: PathBuf,
        stubs: PathBuf,
    }

    fn rig() -> Rig {
        let directory = tempfile::tempdir().unwrap();
        let (seen, stubs) = (
            directory.path().join("seen"),
            directory.path().join("stubs"),
        );
        fs_err::create_dir_all(&seen).unwrap();
        fs_err::create_dir_all(&stubs).unwrap();
        Rig {
            _directory: directory,
            seen,
            stubs,
        }
    }

    /// What is below a directory.
    fn made(root: &Path) -> Vec<String> {
        let (mut names, mut todo) = (Vec::new(), vec![root.to_owned()]);
        while let Some(directory) = todo.pop() {
            for entry in fs_err::read_dir(directory).unwrap() {
                let at = entry.unwrap().path();
                names.push(at.strip_prefix(root).unwrap().display().to_string());
                if lstat(&at).is_ok_and(|stat| is_directory(&stat)) {
                    todo.push(at);
                }
            }
        }
        names.sort();
        names
    }

    #[test]
    fn only_what_is_missing_is_made() {
        let rig = rig();
        fs_err::create_dir_all(rig.seen.join("there/dir")).unwrap();
        fs_err::write(rig.seen.join("there/file"), "").unwrap();
        let mut places = Places::new(&rig.seen, &rig.stubs);
        for (target, kind) in [
            ("/there/dir", Kind::Directory),
            ("/there/file", Kind::File),
            ("/there/new", Kind::File),
            ("/a/b/", Kind::Directory),
        ] {
            let at = places.supply(Path::new(target), kind).unwrap();
            let expected = Path::new(target.trim_matches('/'));
            assert_eq!(at.as_deref(), Some(expected));
        }
        places.finish().unwrap();
        assert_eq!(made(&rig.stubs), ["a", "a/b", "there", "there/new"]);
    }

    #[test]
    fn a_dangling_link_is_followed_within_the_image() {
        for target in [
            "/run/systemd/resolve/stub-resolv.conf",
            "../run/systemd/resolve/stub-resolv.conf",
            "../../../../run/./systemd/resolve/stub-resolv.conf",
        ] {
            let rig = rig();
            fs_err::create_dir(rig.seen.join("etc")).unwrap();
            symlink(target, rig.seen.join("etc/resolv.conf")).unwrap();
            let mut places = Places::new(&rig.seen, &rig.stubs);
            let at = places.supply(Path::new("etc/resolv.conf"), Kind::File);
            let expected = "run/systemd/resolve/stub-resolv.conf";
            assert_eq!(at.unwrap().unwrap(), Path::new(expected));
            let made = made(&rig.stubs);
            assert_eq!(made.last().unwrap(), expected, "{made:?}");
            assert_eq!(made.len(), 4, "{made:?}");
        }
    }

    #[test]
    fn what_lies_below_a_mount_is_not_supplied() {
        let rig = rig();
        fs_err::create_dir_all(rig.seen.join("a")).unwrap();
        symlink("/a/b", rig.seen.join("link")).unwrap();
        symlink("/elsewhere", rig.seen.join("a/c")).unwrap();
        let mut places = Places::new(&rig.seen, &rig.stubs);
        let mut supply = |target: &str| places.supply(Path::new(target), Kind::Directory).unwrap();
        assert_eq!(supply("/a"), Some("a".into()));
        for below in ["/a", "/a/b", "/x/../a/b", "/link/d", "/a/c/d"] {
            assert_eq!(supply(below), None, "{below}");
        }
        assert_eq!(supply("/ab"), Some("ab".into()));
        assert_eq!(made(&rig.stubs), ["ab"]);
    }

    #[test]
    fn a_file_is_no_parent() {
        let rig = rig();
        fs_err::write(rig.seen.join("file"), "").unwrap();
        let mut places = Places::new(&rig.seen, &rig.stubs);
        let error = places.supply(Path::new("/file/x/y"), Kind::File);
        assert_eq!(error.unwrap_err().to_string(), "`/file` is not a directory");
        assert_eq!(made(&rig.stubs), [""; 0]);
    }

    #[test]
    fn parents_look_like_those_of_the_image() {
        let rig = rig();
        let private = rig.seen.join("private");
        fs_err::create_dir(&private).unwrap();
        fs_err::set_permissions(&private, std::fs::Permissions::from_mode(0o1750)).unwrap();
        rustix::fs::chown(&private, Some(rustix::fs::Uid::from_raw(7)), None).unwrap();
        let mut places = Places::new(&rig.seen, &rig.stubs);
        { places.supply(Path::new("/private/new/x"), Kind::File) }.unwrap();
        places.finish().unwrap();
        let of = |at: &Path| attributes::read(at, &lstat(at).unwrap()).unwrap();
        assert_eq!(of(&private), of(&rig.stubs.join("private")));
        assert_eq!(of(&rig.stubs.join("private/new")).mode, 0o755);
    }

    #[test]
    fn a_circle_of_links_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        symlink("b", directory.path().join("a")).unwrap();
        symlink("a", directory.path().join("b")).unwrap();
        assert!(resolve(directory.path(), Path::new("a/x"), &[]).is_err());
    }
}
