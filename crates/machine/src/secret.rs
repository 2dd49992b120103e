//! Files of a workload that are never on a disk: read by who starts the VM, handed to its supervisor as
//! an open file without a name that is in memory, and told the guest in its session.
//!
//! What must hold: the record and all that is written have only where a secret comes from.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use firebuild_core::printable;
use firebuild_protocol::secret::Secret;
use rustix::fs::{MemfdFlags, memfd_create};
use serde::{Deserialize, Serialize};

use crate::Error;

/// The most bytes that all secrets of a VM have together.
pub const MOST_BYTES: usize = 512 << 10;

/// A secret of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct SecretFile {
    /// Where it is read from, whenever the VM is started.
    pub source: Source,
    /// Where the workload finds it: an absolute path.
    pub target: String,
    /// Its permission bits.
    pub mode: u16,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// Where a secret is read from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// A file of this host.
    File(PathBuf),
    /// A variable of the environment of who starts the VM.
    Environment(String),
}

impl Source {
    /// The variable that it is, if it is one.
    pub(crate) fn variable(&self) -> Option<&str> {
        match self {
            Self::Environment(name) => Some(name),
            Self::File(_) => None,
        }
    }
}

/// What is in the secrets of a VM, in their order.
#[derive(Clone, Default)]
pub struct Contents(Vec<Vec<u8>>);

impl fmt::Debug for Contents {
    /// Without what is in them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} secrets", self.0.len())
    }
}

impl Contents {
    /// Reads what is in secrets.
    ///
    /// # Errors
    /// [`Error::Io`] for one that cannot be read; [`Error::Spec`] for too much.
    pub fn read(secrets: &[SecretFile]) -> Result<Self, Error> {
        let mut contents = Vec::new();
        let mut room = MOST_BYTES;
        for secret in secrets {
            let content = read(secret, room)?;
            room -= content.len();
            contents.push(content);
        }
        Ok(Self(contents))
    }

    /// An open file in memory that has them, for a supervisor; none if there are none.
    pub(crate) fn hand_over(&self) -> io::Result<Option<OwnedFd>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let mut file = File::from(memfd_create("secrets", MemfdFlags::CLOEXEC)?);
        for content in &self.0 {
            let length = u64::try_from(content.len()).map_err(io::Error::other)?;
            file.write_all(&length.to_le_bytes())?;
            file.write_all(content)?;
        }
        file.rewind()?;
        Ok(Some(file.into()))
    }

    /// What [`hand_over`](Self::hand_over) has handed over.
    pub(crate) fn take_over(file: OwnedFd) -> io::Result<Self> {
        let mut file = File::from(file);
        let mut contents = Vec::new();
        loop {
            let mut length = [0; 8];
            match file.read_exact(&mut length) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok(Self(contents));
                }
                other => other?,
            }
            let length = usize::try_from(u64::from_le_bytes(length)).map_err(io::Error::other)?;
            if length > MOST_BYTES {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let mut content = vec![0; length];
            file.read_exact(&mut content)?;
            contents.push(content);
        }
    }

    /// As the guest is told.
    pub(crate) fn told(&self, secrets: &[SecretFile]) -> Vec<Secret> {
        let told = |(secret, content): (&SecretFile, &Vec<u8>)| Secret {
            target: secret.target.clone(),
            mode: secret.mode,
            uid: secret.uid,
            gid: secret.gid,
            content: content.clone(),
        };
        secrets.iter().zip(&self.0).map(told).collect()
    }
}

fn read(secret: &SecretFile, room: usize) -> Result<Vec<u8>, Error> {
    let content = match &secret.source {
        Source::Environment(name) => {
            use std::os::unix::ffi::OsStringExt as _;
            let value = std::env::var_os(name);
            let missing = || {
                Error::Spec(format!(
                    "there is no variable `{}` for a secret",
                    printable(name, 100)
                ))
            };
            value.ok_or_else(missing)?.into_vec()
        }
        Source::File(path) => {
            let doing = || format!("read the secret `{}`", path.display());
            let file = fs_err::File::open(path).map_err(|source| Error::io(doing(), source))?;
            let mut content = Vec::new();
            let most = u64::try_from(room).unwrap_or(u64::MAX).saturating_add(1);
            let read = file.take(most).read_to_end(&mut content);
            read.map_err(|source| Error::io(doing(), source))?;
            content
        }
    };
    if content.len() > room {
        return Err(Error::Spec(format!(
            "the secrets of a VM have at most {MOST_BYTES} bytes together"
        )));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(path: PathBuf) -> SecretFile {
        SecretFile {
            source: Source::File(path),
            target: "/run/secrets/x".to_owned(),
            mode: 0o400,
            uid: 0,
            gid: 0,
        }
    }

    #[test]
    fn they_are_handed_over_and_shown_to_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (directory.path().join("one"), directory.path().join("two"));
        fs_err::write(&one, "hush\0\n").unwrap();
        fs_err::write(&two, "").unwrap();
        let secrets = [secret(one), secret(two)];
        let contents = Contents::read(&secrets).unwrap();
        let again = Contents::take_over(contents.hand_over().unwrap().unwrap()).unwrap();
        assert_eq!(again.0, [b"hush\0\n".to_vec(), Vec::new()]);
        let told = again.told(&secrets);
        assert_eq!(told[0].content, b"hush\0\n");
        assert!(!format!("{again:?} {told:?}").contains("hush"));
        let missing = secret(directory.path().join("none"));
        assert!(Contents::read(&[missing]).is_err());
    }

    #[test]
    fn there_is_a_bound_for_all_of_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("half");
        fs_err::write(&path, vec![1; MOST_BYTES / 2]).unwrap();
        let half = secret(path);
        assert!(Contents::read(&[half.clone(), half.clone()]).is_ok());
        assert!(Contents::read(&[half.clone(), half.clone(), half]).is_err());
        assert!(Contents::read(&[secret("/dev/zero".into())]).is_err());
    }
}
