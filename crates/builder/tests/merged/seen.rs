//! Everything that can be seen of a directory, by path.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use firebuild_core::Digest;
use rustix::fs::{major, minor};

const DIRECTORY: &str = "directory";

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The first path of the same file.
    pub(crate) same_as: Vec<u8>,
    /// Type, and what is inside.
    what: String,
    /// Mode, owner.
    metadata: Option<String>,
    mtime: Option<(i64, i64)>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Seen {
    /// Nothing that is forgotten is compared.
    pub(crate) fn forget_metadata(&mut self) {
        (self.metadata, self.mtime) = (None, None);
        self.xattrs.clear();
    }

    /// Forgets the time of a directory.
    pub(crate) fn forget_time(&mut self) {
        if self.what == DIRECTORY {
            self.mtime = None;
        }
    }

    fn shown(&self) -> String {
        let metadata = self.metadata.as_deref().unwrap_or_default();
        let mut text = format!("{} {metadata}", self.what);
        if let Some((seconds, nanoseconds)) = self.mtime {
            write!(text, " {seconds}.{nanoseconds:09}").unwrap();
        }
        for (name, value) in &self.xattrs {
            write!(text, " {}={}", name.escape_ascii(), value.escape_ascii()).unwrap();
        }
        write!(text, ", the same as `{}`", self.same_as.escape_ascii()).unwrap();
        text
    }
}

pub(crate) type Listing = BTreeMap<Vec<u8>, Seen>;

pub(crate) fn listing(root: &Path) -> Listing {
    let mut listing = Listing::new();
    let mut names = HashMap::new();
    visit(root, b"", &mut names, &mut listing);
    listing
}

fn visit(
    path: &Path,
    relative: &[u8],
    names: &mut HashMap<(u64, u64), Vec<u8>>,
    listing: &mut Listing,
) {
    let metadata = fs_err::symlink_metadata(path).unwrap();
    let key = (metadata.dev(), metadata.ino());
    let same_as = names
        .entry(key)
        .or_insert_with(|| relative.to_vec())
        .clone();
    let owner = format!("{}:{}", metadata.uid(), metadata.gid());
    let mode = metadata.mode() & 0o7777;
    let seen = Seen {
        same_as,
        what: what(path, &metadata),
        metadata: Some(format!("{mode:o} {owner}")),
        mtime: Some((metadata.mtime(), metadata.mtime_nsec())),
        xattrs: xattrs(path),
    };
    listing.insert(relative.to_vec(), seen);
    if !metadata.is_dir() {
        return;
    }
    let mut children: Vec<_> = fs_err::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    children.sort();
    for name in children {
        let mut below = relative.to_vec();
        if !below.is_empty() {
            below.push(b'/');
        }
        below.extend(name.as_bytes());
        visit(
            &path.join(OsStr::from_bytes(name.as_bytes())),
            &below,
            names,
            listing,
        );
    }
}

fn what(path: &Path, metadata: &std::fs::Metadata) -> String {
    let device = metadata.rdev();
    match metadata.mode() & 0o170_000 {
        0o040_000 => DIRECTORY.to_owned(),
        0o100_000 => {
            let bytes = fs_err::read(path).unwrap();
            format!("file of {}, {}", bytes.len(), Digest::of(&bytes))
        }
        0o120_000 => {
            let target = fs_err::read_link(path).unwrap();
            format!("link to `{}`", target.as_os_str().as_bytes().escape_ascii())
        }
        0o020_000 => format!("character device {}:{}", major(device), minor(device)),
        0o060_000 => format!("block device {}:{}", major(device), minor(device)),
        0o010_000 => "fifo".to_owned(),
        other => format!("type {other:o}"),
    }
}

pub(crate) fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let names = xattr::list(path).unwrap();
    let pair = |name: std::ffi::OsString| {
        let value = xattr::get(path, &name).unwrap().unwrap_or_default();
        (name.as_bytes().to_vec(), value)
    };
    names.map(pair).collect()
}

/// What only one of two has, or has otherwise; empty if they are the same.
pub(crate) fn difference(ours: &Listing, theirs: &Listing, name: &str) -> String {
    let mut text = String::new();
    let paths: std::collections::BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
    for path in paths {
        let (our, their) = (ours.get(path), theirs.get(path));
        if our == their {
            continue;
        }
        let shown = |seen: Option<&Seen>| seen.map_or("nothing".to_owned(), Seen::shown);
        let path = path.escape_ascii();
        writeln!(
            text,
            "`{path}`\n  ours: {}\n  {name}: {}",
            shown(our),
            shown(their)
        )
        .unwrap();
    }
    text
}
