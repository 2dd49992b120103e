//! What microVMs are called: ids that firebuild gives, names that people give.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The id of a microVM: twenty characters of `a-z0-9`, the first of them a letter.
///
/// It is short enough that every socket path made from it fits the 107 bytes of a Unix socket's
/// address, and fit for a host name, a namespace's name and the jailer's `--id`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MachineId(String);

/// A name that a person gave to a microVM: 1 to 63 characters of letters, digits, `.`, `_`, `-`,
/// the first of them a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MachineName(String);

/// A text that can be no id or name of a microVM.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseIdError {
    /// Not of the form of [`MachineId`].
    #[error("`{0}` is not the id of a VM: ids are twenty characters of a-z and 0-9")]
    Id(String),
    /// Not of the form of [`MachineName`].
    #[error(
        "`{0}` cannot name a VM: names are 1 to 63 letters, digits, `.`, `_` or `-`, the first a letter or digit"
    )]
    Name(String),
}

const LETTERS: &[u8; 26] = b"abcdefghijklmnopqrstuvwxyz";
const LETTERS_AND_DIGITS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

impl MachineId {
    /// Makes an id from twenty random bytes.
    #[must_use]
    pub fn from_random(random: [u8; 20]) -> Self {
        let mut text = String::with_capacity(20);
        for (index, byte) in random.into_iter().enumerate() {
            let alphabet: &[u8] = if index == 0 {
                LETTERS
            } else {
                LETTERS_AND_DIGITS
            };
            text.push(char::from(alphabet[usize::from(byte) % alphabet.len()]));
        }
        Self(text)
    }

    /// The twenty characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first eight characters: what names of network devices have room for.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..8]
    }
}

impl MachineName {
    /// The name's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

impl FromStr for MachineId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = text.len() == 20
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseIdError::Id(shown(text)))
        }
    }
}

impl FromStr for MachineName {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let first = text
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric());
        let rest = text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if first && rest && text.len() <= 63 {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseIdError::Name(shown(text)))
        }
    }
}

macro_rules! as_text {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseIdError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0
            }
        }
    )*};
}

as_text!(MachineId, MachineName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_from_any_bytes_parse_again() {
        for byte in 0..=255 {
            let id = MachineId::from_random([byte; 20]);
            assert_eq!(id.as_str().parse::<MachineId>().unwrap(), id);
            assert!(id.as_str().starts_with(|c: char| c.is_ascii_lowercase()));
        }
    }

    #[test]
    fn names() {
        for name in ["a", "web-1", "Db_2.x", &"a".repeat(63)] {
            assert!(name.parse::<MachineName>().is_ok(), "{name}");
        }
        for name in ["", "-a", ".", "a b", "ä", "a/b", &"a".repeat(64)] {
            assert!(name.parse::<MachineName>().is_err(), "{name}");
        }
    }
}
