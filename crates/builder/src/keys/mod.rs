//! Private keys from files, with which a build's RUNs may have something signed.
//!
//! A [`Keyring`] answers what an agent is asked ([`crate::bootstrap`] lets through nothing but
//! listing and signing), so a build with keys needs no agent on the host, no socket and no other
//! process. The keys are in this process's memory only: nothing shows them, and no answer has
//! anything of them but their public halves and signatures.

mod file;
mod key;
#[cfg(test)]
mod tests;
mod wire;

use std::io::Read as _;
use std::path::{Path, PathBuf};

pub use file::Unusable;

use key::Key;
use wire::{Reader, put_string, strings};

/// The most bytes that a key's file may have. OpenSSH's largest have 13 KiB.
const LARGEST_FILE: u64 = 100 << 10;

/// Requests and answers of the agent's protocol (draft-miller-ssh-agent).
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;
const FAILURE: u8 = 5;

/// Keys that are used together, in the order in which they are offered to servers.
#[derive(Debug)]
pub struct Keyring(Vec<Key>);

/// Why keys could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A file that cannot be read.
    #[error("cannot read the key `{path}`", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file that is no key, or not one that can be used.
    #[error("cannot use `{path}` as a private key", path = .path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        why: Unusable,
    },
}

impl Keyring {
    /// Reads the keys of these files.
    ///
    /// # Errors
    /// If one of them cannot be read or used.
    pub fn read<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Result<Self, KeyError> {
        let keys = paths.into_iter().map(|path| {
            let text = content(path).map_err(|source| KeyError::Read {
                path: path.to_owned(),
                source,
            })?;
            file::parse(&text).map_err(|why| KeyError::Unusable {
                path: path.to_owned(),
                why,
            })
        });
        keys.collect::<Result<_, _>>().map(Self)
    }

    /// Answers a request; both are messages without the length before them.
    pub(crate) fn answer(&self, request: &[u8]) -> Vec<u8> {
        let answer = match request.split_first() {
            Some((&REQUEST_IDENTITIES, _)) => Some(self.list()),
            Some((&SIGN_REQUEST, rest)) => self.sign(&mut Reader(rest)),
            _ => None,
        };
        answer.unwrap_or_else(|| vec![FAILURE])
    }

    /// The public halves, with no words about them: those that files have name people and hosts.
    fn list(&self) -> Vec<u8> {
        let count = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        let mut answer = vec![IDENTITIES_ANSWER];
        answer.extend(count.to_be_bytes());
        for key in &self.0 {
            answer.extend(strings(&[key.public(), b""]));
        }
        answer
    }

    fn sign(&self, request: &mut Reader<'_>) -> Option<Vec<u8>> {
        let (public, data, flags) = (request.string()?, request.string()?, request.u32()?);
        let key = self.0.iter().find(|key| key.public() == public)?;
        let mut answer = vec![SIGN_RESPONSE];
        put_string(&mut answer, &key.sign(data, flags)?);
        Some(answer)
    }
}

/// A file's bytes.
fn content(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let file = fs_err::File::open(path)?;
    file.take(LARGEST_FILE + 1).read_to_end(&mut content)?;
    if content.len() as u64 > LARGEST_FILE {
        let what = format!("it has more than {} KiB", LARGEST_FILE >> 10);
        return Err(std::io::Error::other(what));
    }
    Ok(content)
}
