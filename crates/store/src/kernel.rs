//! Kernels: a directory for each, which appears whole.

use std::fmt;
use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error, Result};
use crate::lock::Mode;
use crate::{Store, TemporaryDirectory};

/// The id of a kernel: 1 to 128 letters, digits, `.`, `_`, `-`, `+`, `:`, `~`, the first of them a
/// letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KernelId(String);

/// A text that can be no kernel's id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` cannot be a kernel's id: ids are 1 to 128 letters, digits, `.`, `_`, `-`, `+`, `:` or `~`, the first a letter or digit"
)]
pub struct ParseKernelIdError(String);

impl KernelId {
    /// The id's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KernelId {
    type Err = ParseKernelIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let first = text.bytes().next();
        let fits = first.is_some_and(|byte| byte.is_ascii_alphanumeric())
            && text.len() <= 128
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-+:~".contains(&byte));
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseKernelIdError(text.chars().take(200).collect()))
        }
    }
}

impl fmt::Display for KernelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for KernelId {
    type Error = ParseKernelIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<KernelId> for String {
    fn from(id: KernelId) -> Self {
        id.0
    }
}

/// The kernels. See [`Store::kernels`].
#[derive(Debug)]
pub struct Kernels<'a> {
    store: &'a Store,
}

impl<'a> Kernels<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// All ids, in order.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn list(&self) -> Result<Vec<KernelId>> {
        let directory = self.store.path().join("kernels");
        let doing = || format!("read the directory `{}`", directory.display());
        let mut ids = Vec::new();
        for entry in fs_err::read_dir(&directory).doing(doing)? {
            let name = entry.doing(doing)?.file_name();
            ids.extend(name.to_str().and_then(|name| name.parse::<KernelId>().ok()));
        }
        ids.sort();
        Ok(ids)
    }

    /// A kernel's directory.
    ///
    /// # Errors
    /// [`Error::NoKernel`], [`Error::Io`].
    pub fn get(&self, id: &KernelId) -> Result<PathBuf> {
        let path = self.path(id);
        let there = path
            .try_exists()
            .doing(|| format!("look for `{}`", path.display()))?;
        if there {
            Ok(path)
        } else {
            Err(Error::NoKernel(id.clone()))
        }
    }

    /// Gives a filled directory of [`Store::temporary_directory`] its id. An older kernel of that
    /// id is replaced only if `replace`.
    ///
    /// # Errors
    /// [`Error::KernelExists`], [`Error::Io`], [`Error::NoSpace`].
    pub fn put(&self, id: &KernelId, staged: TemporaryDirectory, replace: bool) -> Result<PathBuf> {
        let _lock = self.store.lock("kernels", Mode::Exclusive)?;
        let path = self.path(id);
        match (self.get(id), replace) {
            (Ok(_), false) => return Err(Error::KernelExists(id.clone())),
            (Ok(_), true) => staged.replace(&path)?,
            (Err(Error::NoKernel(_)), _) => staged.persist(&path)?,
            (Err(error), _) => return Err(error),
        }
        Ok(path)
    }

    /// What was made for a kernel and [kept](Self::keep), if it is there.
    #[must_use]
    pub fn kept(&self, id: &KernelId, kind: &str, key: &str) -> Option<File> {
        let path = self.made(id).join(format!("{kind}-{key}"));
        Some(fs_err::File::open(path).ok()?.into_parts().0)
    }

    /// Keeps what was made for a kernel, beside it, until the kernel goes. One of its kind that was
    /// made by another `key` is removed. Who has the file open may read it, whatever user that is; what is
    /// returned cannot be written by.
    ///
    /// # Errors
    /// [`Error::NoKernel`], [`Error::Io`], [`Error::NoSpace`].
    pub fn keep(&self, id: &KernelId, kind: &str, key: &str, bytes: &[u8]) -> Result<File> {
        let _lock = self.store.lock("kernels", Mode::Exclusive)?;
        self.get(id)?;
        let directory = self.made(id);
        let doing = || format!("write to `{}`", directory.display());
        fs_err::create_dir_all(&directory).writing(&directory, doing)?;
        let temporary = self.store.temporary_file()?;
        let mut file = temporary.file();
        file.write_all(bytes)
            .and_then(|()| file.set_permissions(Permissions::from_mode(0o644)))
            .writing(&directory, doing)?;
        let name = format!("{kind}-{key}");
        let path = directory.join(&name);
        temporary.persist(&path)?;
        for entry in fs_err::read_dir(&directory).doing(doing)? {
            let entry = entry.doing(doing)?;
            let other = entry.file_name();
            let others = other.to_str().and_then(|other| other.rsplit_once('-'));
            if others.is_some_and(|(other, _)| other == kind) && *other != *name {
                fs_err::remove_file(entry.path()).doing(doing)?;
            }
        }
        let file = fs_err::File::open(path).doing(doing)?;
        Ok(file.into_parts().0)
    }

    fn made(&self, id: &KernelId) -> PathBuf {
        self.path(id).join("initramfs")
    }

    /// Removes a kernel.
    ///
    /// # Errors
    /// [`Error::NoKernel`], [`Error::Io`].
    pub fn remove(&self, id: &KernelId) -> Result<()> {
        let _lock = self.store.lock("kernels", Mode::Exclusive)?;
        let path = self.get(id)?;
        self.store.discard(&path)
    }

    fn path(&self, id: &KernelId) -> PathBuf {
        self.store.path().join("kernels").join(id.as_str())
    }
}
