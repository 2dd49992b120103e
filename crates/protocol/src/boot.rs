//! The kernel command line's part in the conversation: what a guest needs to reach its metadata.
//!
//! `firebuild.ip=10.88.0.7/16`: everything else is in the metadata.

use std::fmt;
use std::net::Ipv4Addr;

const ADDRESS: &str = "firebuild.ip=";

/// The word that makes the agent tell on the console what it does, and when.
pub const DEBUG: &str = "firebuild.debug";

/// The guest's own address and the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootArguments {
    /// The address of the guest's first network device.
    pub address: Ipv4Addr,
    /// 0 to 32.
    pub prefix: u8,
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
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for BootArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ADDRESS}{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let arguments = BootArguments {
            address: Ipv4Addr::new(10, 88, 0, 7),
            prefix: 16,
        };
        let line = format!("console=ttyS0 {arguments} quiet\n");
        assert_eq!(BootArguments::parse(&line), Ok(arguments));
        for line in [
            "",
            "firebuild.ip=",
            "firebuild.ip=1.2.3.4",
            "firebuild.ip=1.2.3.4/33",
            "xfirebuild.ip=1.2.3.4/8",
        ] {
            assert_eq!(
                BootArguments::parse(line),
                Err(BootArgumentsError),
                "{line}"
            );
        }
    }
}
