//! What the parts of one network on the host are called. Every name is made here, so that clean-up
//! finds what set-up made.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use firebuild_core::MachineId;

use crate::Namespace;

/// A name for everything that one network puts on the host: 1 to 12 characters of a-z and 0-9, the
/// first a letter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NetworkName(String);

/// A text that cannot name a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` cannot name a network: names are 1 to 12 characters of a-z and 0-9, the first a letter"
)]
pub struct ParseNameError(String);

impl NetworkName {
    /// The nftables tables of the network: `inet` on the host, `netdev` in each namespace.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.0
    }

    /// The bridge's device.
    #[must_use]
    pub fn bridge(&self) -> String {
        format!("{}0", self.0)
    }

    /// The namespace of one VM.
    #[must_use]
    pub fn namespace(&self, directory: &Path, id: &MachineId) -> Namespace {
        Namespace::at(directory.join(format!("{}-{id}", self.0)))
    }

    /// The VM whose namespace is called `file`.
    pub(crate) fn machine_of(&self, file: &str) -> Option<MachineId> {
        file.strip_prefix(&self.0)?.strip_prefix('-')?.parse().ok()
    }

    /// What marks a rule that serves the whole network.
    pub(crate) fn mark(&self) -> String {
        format!("firebuild network {}", self.0)
    }
}

impl Default for NetworkName {
    fn default() -> Self {
        Self("firebuild".to_owned())
    }
}

impl FromStr for NetworkName {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = (1..=12).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseNameError(text.chars().take(50).collect()))
        }
    }
}

impl fmt::Display for NetworkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const MACHINE_MARK: &str = "firebuild VM ";

/// What marks a device or a rule that serves one VM.
pub(crate) fn machine_mark(id: &MachineId) -> String {
    format!("{MACHINE_MARK}{id}")
}

/// The VM that a mark names.
pub(crate) fn marked_machine(mark: &str) -> Option<MachineId> {
    mark.strip_prefix(MACHINE_MARK)?.parse().ok()
}

/// The bridge's port of one VM: a device's name holds 15 bytes, which is 13 characters of the id.
pub(crate) fn host_device(id: &MachineId) -> String {
    format!("fb{}", &id.as_str()[..13])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_the_machine() {
        let id = MachineId::from_random([7; 20]);
        let name: NetworkName = "fbtest1".parse().unwrap();
        let namespace = name.namespace(Path::new("/run/netns"), &id);
        let file = namespace.path().file_name().unwrap().to_str().unwrap();
        assert_eq!(name.machine_of(file), Some(id.clone()));
        assert_eq!(NetworkName::default().machine_of(file), None);
        assert_eq!(marked_machine(&machine_mark(&id)), Some(id.clone()));
        assert_eq!(host_device(&id).len(), 15);
    }

    #[test]
    fn refuses_what_no_device_or_table_can_be_called() {
        for text in ["", "1a", "A", "a-b", "thirteenchars", "a b", "ä"] {
            assert!(text.parse::<NetworkName>().is_err(), "{text}");
        }
        assert!("twelve012345".parse::<NetworkName>().is_ok());
    }
}
