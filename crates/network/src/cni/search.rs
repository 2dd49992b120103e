//! Finding things by name: a network's configuration among the files of its directories, a plugin's
//! program among those of others.

use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use fs_err::os::unix::fs::OpenOptionsExt as _;

use super::configuration::NetworkList;
use super::error::CniError;

/// As long as a configuration may be.
const LONGEST: u64 = 1 << 20;

/// As many files as a directory is read for.
const MOST_FILES: usize = 4096;

/// The configuration of the network `name`: the first in the order of the directories, lists before
/// single plugins, and then of the files' names. A file that cannot be understood is only in the way
/// if no other has the network.
pub(crate) fn network(directories: &[PathBuf], name: &str) -> Result<NetworkList, CniError> {
    let mut known = Vec::new();
    let mut broken = Vec::new();
    for path in files(directories)? {
        match read(&path) {
            Ok(list) if list.name == name => return Ok(list),
            Ok(list) => known.push(list.name),
            Err(reason) => broken.push(format!("`{}` cannot be used: {reason}", path.display())),
        }
    }
    known.sort();
    known.dedup();
    Err(CniError::NoNetwork {
        name: name.to_owned(),
        directories: shown(directories),
        known,
        broken,
    })
}

/// A file of a directory of configurations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configured {
    /// The file.
    pub file: PathBuf,
    /// The name of its network, or why it has none.
    pub network: Result<String, String>,
}

/// All configurations.
pub(crate) fn networks(directories: &[PathBuf]) -> Result<Vec<Configured>, CniError> {
    let files = files(directories)?.into_iter();
    Ok(files
        .map(|file| Configured {
            network: read(&file).map(|list| list.name),
            file,
        })
        .collect())
}

/// The program of a plugin.
pub(crate) fn program(directories: &[PathBuf], kind: &str) -> Option<PathBuf> {
    let candidates = directories.iter().map(|directory| directory.join(kind));
    candidates.into_iter().find(|path| {
        fs_err::metadata(path)
            .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    })
}

pub(crate) fn shown(directories: &[PathBuf]) -> String {
    let shown: Vec<String> = directories
        .iter()
        .map(|path| format!("`{}`", path.display()))
        .collect();
    shown.join(", ")
}

fn files(directories: &[PathBuf]) -> Result<Vec<PathBuf>, CniError> {
    let mut found = Vec::new();
    for directory in directories {
        let entries = match fs_err::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(CniError::reading(directory))?,
        };
        let mut lists = Vec::new();
        let mut single = Vec::new();
        for entry in entries.take(MOST_FILES) {
            let path = entry.map_err(CniError::reading(directory))?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("conflist") => lists.push(path),
                Some("conf" | "json") => single.push(path),
                _ => {}
            }
        }
        lists.sort();
        single.sort();
        found.push((lists, single));
    }
    let (lists, single): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    Ok(lists.into_iter().chain(single).flatten().collect())
}

/// Reads one file. A pipe or a device of that name is none, and holds nobody up.
fn read(path: &Path) -> Result<NetworkList, String> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits();
    let text = fs_err::OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking.cast_signed())
        .open(path)
        .and_then(|file| {
            if !file.metadata()?.is_file() {
                return Err(io::Error::other("it is no file"));
            }
            let mut text = Vec::new();
            file.take(LONGEST + 1).read_to_end(&mut text)?;
            Ok(text)
        })
        .map_err(|error| error.to_string())?;
    if text.len() as u64 > LONGEST {
        return Err(format!("it is longer than {LONGEST} bytes"));
    }
    NetworkList::read(&text)
}
