//! What is asked of a host.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use firebuild_machine::vmm::detect::{self, Kvm};

/// The most that is read of a file.
const MOST: usize = 4 << 20;

/// A file system that something is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Volume {
    /// Free bytes.
    pub(crate) free: u64,
    /// Whether a file's blocks can be shared with another.
    pub(crate) reflink: bool,
}

/// A store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Store {
    /// Where it is.
    pub(crate) root: PathBuf,
    /// What it is on, or why that cannot be told.
    pub(crate) volume: Result<Volume, String>,
    /// What is in it, if it is there; or why it cannot be opened.
    pub(crate) content: Result<Option<Content>, String>,
}

/// What is in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Content {
    /// Installed kernels.
    pub(crate) kernels: usize,
    /// Named images.
    pub(crate) images: usize,
    /// Files that others read, and that cannot be read.
    pub(crate) unreadable: usize,
}

/// A host that can be asked.
pub(crate) trait Host {
    /// The text of a file, if it is there and can be read.
    fn read(&self, path: &str) -> Option<String>;

    /// The names in a directory, in order; none if it is not there.
    fn list(&self, path: &str) -> Vec<String>;

    /// Whether something is there.
    fn exists(&self, path: &str) -> bool;

    /// Where a program is.
    fn program(&self, name: &str) -> Option<PathBuf>;

    /// What a program prints, if it succeeds; otherwise what it says, or why it did not start.
    fn output(&self, program: &str, arguments: &[&str], input: &str) -> Result<String, String>;

    /// Hardware virtualisation.
    fn kvm(&self) -> Kvm;

    /// Whether this process may do everything.
    fn is_root(&self) -> bool;

    /// The time, in seconds since 1970.
    fn now(&self) -> u64;

    /// The store.
    fn store(&self) -> Store;
}

/// The host that this is.
#[derive(Debug)]
pub(crate) struct This {
    root: PathBuf,
}

impl This {
    /// This host, with the store under a root.
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    fn content(&self) -> Result<Option<Content>, String> {
        if !self.root.exists() {
            return Ok(None);
        }
        let count = || -> Result<Content, firebuild_store::Error> {
            let store = firebuild_store::Store::open(&self.root)?;
            Ok(Content {
                kernels: store.kernels().list()?.len(),
                images: store.tags().list()?.len(),
                unreadable: store.cache().unreadable()?.len()
                    + store.downloads().unreadable()?.len(),
            })
        };
        count().map(Some).map_err(|error| chain(&error))
    }

    fn volume(&self) -> Result<Volume, String> {
        let there = self.root.ancestors().find(|path| path.is_dir());
        let there = there.unwrap_or(Path::new("/"));
        let facts = rustix::fs::statvfs(there).map_err(|error| error.to_string())?;
        Ok(Volume {
            free: facts.f_bavail.saturating_mul(facts.f_frsize),
            reflink: can_share(there),
        })
    }
}

/// Tries to share a block between two files that have no name.
fn can_share(directory: &Path) -> bool {
    let share = || -> std::io::Result<()> {
        let mut one = tempfile::tempfile_in(directory)?;
        one.write_all(&[1; 4096])?;
        let other = tempfile::tempfile_in(directory)?;
        Ok(rustix::fs::ioctl_ficlone(&other, &one)?)
    };
    share().is_ok()
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let causes: Vec<String> = causes.map(ToString::to_string).collect();
    causes.join(": ")
}

impl Host for This {
    fn read(&self, path: &str) -> Option<String> {
        let mut bytes = fs_err::read(path).ok()?;
        bytes.truncate(MOST);
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn list(&self, path: &str) -> Vec<String> {
        let entries = fs_err::read_dir(path).into_iter().flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    fn exists(&self, path: &str) -> bool {
        Path::new(path).exists()
    }

    fn program(&self, name: &str) -> Option<PathBuf> {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&paths).map(|directory| directory.join(name));
        found.into_iter().find(|program| program.is_file())
    }

    fn output(&self, program: &str, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that does not want it may have ended.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child
            .wait_with_output()
            .map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(text(&output.stderr)),
        }
    }

    fn kvm(&self) -> Kvm {
        detect::probe()
    }

    fn is_root(&self) -> bool {
        rustix::process::geteuid().is_root()
    }

    fn now(&self) -> u64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0, |since| since.as_secs())
    }

    fn store(&self) -> Store {
        Store {
            root: self.root.clone(),
            volume: self.volume(),
            content: self.content(),
        }
    }
}
