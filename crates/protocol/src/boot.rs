//! The kernel command line's part in the conversation: what a guest needs to reach its metadata, and
//! what it has to know before it trusts anything else.
//!
//! * `firebuild.ip=10.88.0.7/16`, and `firebuild.mac=02:00:00:00:00:01` where there are several devices
//! * `firebuild.verity=ROOTHASH:SALT:BLOCKS`, see [`RootVerity`].
//!
//! Everything else is in the metadata.

use std::fmt;
use std::net::Ipv4Addr;

use firebuild_core::Digest;
use serde::{Deserialize, Serialize};

const ADDRESS: &str = "firebuild.ip=";

const MAC: &str = "firebuild.mac=";

const VERITY: &str = "firebuild.verity=";

/// The word that makes the agent tell on the console what it does, and when.
pub const DEBUG: &str = "firebuild.debug";

/// The guest's own address and the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootArguments {
    /// The address of the guest's first network device.
    pub address: Ipv4Addr,
    /// 0 to 32.
    pub prefix: u8,
    /// The hardware address of the device that has the address; the only device if none.
    pub mac: Option<[u8; 6]>,
}

/// A command line that does not tell the guest its address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the kernel command line has no `firebuild.ip=ADDRESS/PREFIX`")]
pub struct BootArgumentsError;

impl BootArguments {
    /// Reads them from a kernel command line.
    ///
    /// # Errors
    /// [`BootArgumentsError`] if they are missing or malformed.
    pub fn parse(command_line: &str) -> Result<Self, BootArgumentsError> {
        let value = command_line
            .split_ascii_whitespace()
            .find_map(|word| word.strip_prefix(ADDRESS));
        let (address, prefix) = value
            .and_then(|value| value.split_once('/'))
            .ok_or(BootArgumentsError)?;
        let address = address.parse().map_err(|_| BootArgumentsError)?;
        let prefix = prefix
            .parse()
            .ok()
            .filter(|prefix| *prefix <= 32)
            .ok_or(BootArgumentsError)?;
        let mac = command_line
            .split_ascii_whitespace()
            .find_map(|word| word.strip_prefix(MAC))
            .map(|mac| parse_mac(mac).ok_or(BootArgumentsError))
            .transpose()?;
        Ok(Self {
            address,
            prefix,
            mac,
        })
    }
}

/// Six octets as `02:00:00:00:00:01`.
fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let octet = |part: &str| {
        let digits = part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
        u8::from_str_radix(part, 16).ok().filter(|_| digits)
    };
    let octets: Option<Vec<u8>> = text.split(':').map(octet).collect();
    octets?.try_into().ok()
}

impl fmt::Display for BootArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ADDRESS}{}/{}", self.address, self.prefix)?;
        match self.mac {
            Some([a, b, c, d, e, g]) => {
                write!(f, " {MAC}{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
            }
            None => Ok(()),
        }
    }
}

/// The root file system that a guest has to have: it uses no other.
///
/// It stands on the command line and not in the metadata, because that is fixed before the guest's first
/// instruction, is what a measured boot measures, and comes over no network. Together with a drive it is
/// all that dm-verity needs: the guest believes nothing that the drive says before it is verified, the
/// tree's superblock included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct RootVerity {
    /// Stands for all bytes of the file system.
    pub root_hash: Digest,
    /// What every digest of the tree begins with.
    pub salt: Digest,
    /// Blocks of 4096 bytes that the file system has, 1 to 2^48. Behind them lie the superblock, and
    /// then the tree.
    pub data_blocks: u64,
}

/// A command line whose word about the root file system cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the kernel command line has not one `firebuild.verity=ROOTHASH:SALT:BLOCKS`")]
pub struct RootVerityError;

impl RootVerity {
    const MOST_BLOCKS: u64 = 1 << 48;

    /// Reads it from a kernel command line; none if there is no word about it.
    ///
    /// # Errors
    /// [`RootVerityError`] if it is malformed or there are several: it is for refusing, so nothing is
    /// guessed.
    pub fn parse(command_line: &str) -> Result<Option<Self>, RootVerityError> {
        let mut words = command_line
            .split_ascii_whitespace()
            .filter_map(|word| word.strip_prefix(VERITY));
        match (words.next(), words.next()) {
            (None, _) => Ok(None),
            (Some(word), None) => Self::of_word(word).map(Some).ok_or(RootVerityError),
            (Some(_), Some(_)) => Err(RootVerityError),
        }
    }

    fn of_word(word: &str) -> Option<Self> {
        let digest = |hex: &str| format!("sha256:{hex}").parse().ok();
        let (root_hash, rest) = word.split_once(':')?;
        let (salt, blocks) = rest.split_once(':')?;
        let is_number = blocks.bytes().all(|byte| byte.is_ascii_digit());
        let blocks = blocks.parse().ok().filter(|_| is_number)?;
        Some(Self {
            root_hash: digest(root_hash)?,
            salt: digest(salt)?,
            data_blocks: Some(blocks).filter(|blocks| (1..=Self::MOST_BLOCKS).contains(blocks))?,
        })
    }
}

impl fmt::Display for RootVerity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            root_hash,
            salt,
            data_blocks,
        } = self;
        let (root_hash, salt) = (root_hash.hex(), salt.hex());
        write!(f, "{VERITY}{root_hash}:{salt}:{data_blocks}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for mac in [None, Some([2, 0, 0xff, 0, 0, 0x1a])] {
            let arguments = BootArguments {
                address: Ipv4Addr::new(10, 88, 0, 7),
                prefix: 16,
                mac,
            };
            let line = format!("console=ttyS0 {arguments} quiet\n");
            assert_eq!(BootArguments::parse(&line), Ok(arguments));
        }
        for line in [
            "",
            "firebuild.ip=",
            "firebuild.ip=1.2.3.4",
            "firebuild.ip=1.2.3.4/33",
            "xfirebuild.ip=1.2.3.4/8",
            "firebuild.ip=1.2.3.4/8 firebuild.mac=",
            "firebuild.ip=1.2.3.4/8 firebuild.mac=02:00:00:00:00",
            "firebuild.ip=1.2.3.4/8 firebuild.mac=02:00:00:00:00:+1",
        ] {
            assert_eq!(
                BootArguments::parse(line),
                Err(BootArgumentsError),
                "{line}"
            );
        }
    }

    #[test]
    fn a_root_is_told_once_and_whole_or_not_at_all() {
        let told = RootVerity {
            root_hash: Digest::of(b"root"),
            salt: Digest::of(b"salt"),
            data_blocks: 300,
        };
        let word = told.to_string();
        let line = format!("quiet {word} firebuild.ip=1.2.3.4/8\n");
        assert_eq!(RootVerity::parse(&line), Ok(Some(told.clone())));
        assert_eq!(RootVerity::parse("quiet firebuild.ip=1.2.3.4/8"), Ok(None));
        let short = word.replace(":300", "");
        for line in [
            format!("{word} {word}"),
            "firebuild.verity=".to_owned(),
            format!("{short}:0"),
            format!("{short}:+1"),
            format!("{short}:"),
            format!("{short}:18446744073709551616"),
            format!("{short}:281474976710657"),
            short.clone(),
            format!("{word}:1"),
            word.replacen('=', "=0", 1),
            word.replacen('=', "=sha256:", 1),
        ] {
            let read = RootVerity::parse(&line);
            assert_eq!(read, Err(RootVerityError), "{line}");
        }
    }
}
