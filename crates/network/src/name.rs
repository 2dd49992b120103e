//! What the parts of networks on the host are called, and what people call networks. Every name of the
//! host's is made here, so that clean-up finds what set-up made.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use firebuild_core::{Digest, MachineId};
use serde::{Deserialize, Serialize};

use crate::Namespace;

/// A name for everything that firebuild's networks put on one host: 1 to 12 characters of a-z and 0-9,
/// the first a letter. Two installations with different realms never touch each other's parts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Realm(String);

/// A text that cannot name a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` cannot name a network: names are 1 to 12 characters of a-z and 0-9, the first a letter"
)]
pub struct ParseRealmError(String);

impl Realm {
    /// The nftables tables: `inet` on the host, `netdev` in each namespace.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.0
    }

    /// The bridge of the network `default`, which all state roots of a host share.
    #[must_use]
    pub fn bridge(&self) -> String {
        format!("{}0", self.0)
    }

    /// The bridge of a network of state root `owner`.
    pub(crate) fn bridge_of(&self, owner: &Path, network: &NetworkName) -> String {
        if network.is_default() {
            return self.bridge();
        }
        let whole = format!("{}\0{}\0{network}", self.0, owner.display());
        // A device's name holds 15 bytes.
        format!("fb-{}", &Digest::of(whole.as_bytes()).hex()[..12])
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

    /// What marks a rule or a device that serves all VMs.
    pub(crate) fn mark(&self) -> String {
        format!("firebuild network {}", self.0)
    }

    /// What marks a rule or a device that serves the network of `bridge`.
    pub(crate) fn mark_of(&self, bridge: &str) -> String {
        if bridge == self.bridge() {
            self.mark()
        } else {
            format!("{} {bridge}", self.mark())
        }
    }

    /// Whether something marked so serves VMs of this realm.
    pub(crate) fn marks(&self, mark: &str) -> bool {
        let rest = mark.strip_prefix(&self.mark());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    }
}

impl Default for Realm {
    fn default() -> Self {
        Self("firebuild".to_owned())
    }
}

impl FromStr for Realm {
    type Err = ParseRealmError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = (1..=12).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseRealmError(text.chars().take(50).collect()))
        }
    }
}

impl fmt::Display for Realm {
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

/// How many networks a VM can be in: what one character of a device's name tells apart.
pub(crate) const MOST_LINKS: usize = 8;

/// The bridge's port of one VM in its network of number `index`: a device's name holds 15 bytes, which
/// is 13 characters of the id.
pub(crate) fn host_device(id: &MachineId, index: usize) -> String {
    let id = &id.as_str()[..13];
    match index {
        0 => format!("fb{id}"),
        index => format!("f{index}{id}"),
    }
}

/// What people call a network: 1 to 32 characters of a-z, 0-9, `.`, `_` and `-`, the first a letter or
/// a digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NetworkName(String);

/// A text that cannot name a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` cannot name a network: names are 1 to 32 of a-z, 0-9, `.`, `_` or `-`, the first a letter or digit"
)]
pub struct ParseNetworkNameError(String);

impl NetworkName {
    const DEFAULT: &str = "default";

    /// Whether it is the network that needs no definition.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.0 == Self::DEFAULT
    }

    /// The name's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for NetworkName {
    /// `default`.
    fn default() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
}

impl FromStr for NetworkName {
    type Err = ParseNetworkNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let first = text.bytes().next().is_some_and(plain);
        let rest = text.bytes().all(|b| plain(b) || b"._-".contains(&b));
        if first && rest && text.len() <= 32 {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseNetworkNameError(text.chars().take(50).collect()))
        }
    }
}

impl fmt::Display for NetworkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for NetworkName {
    type Error = ParseNetworkNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<NetworkName> for String {
    fn from(name: NetworkName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_the_machine() {
        let id = MachineId::from_random([7; 20]);
        let name: Realm = "fbtest1".parse().unwrap();
        let namespace = name.namespace(Path::new("/run/netns"), &id);
        let file = namespace.path().file_name().unwrap().to_str().unwrap();
        assert_eq!(name.machine_of(file), Some(id.clone()));
        assert_eq!(Realm::default().machine_of(file), None);
        assert_eq!(marked_machine(&machine_mark(&id)), Some(id.clone()));
        assert_eq!(host_device(&id, 0).len(), 15);
        assert_eq!(host_device(&id, MOST_LINKS - 1).len(), 15);
    }

    #[test]
    fn bridges_and_marks_tell_networks_and_realms_apart() {
        let (name, realm) = ("backend".parse().unwrap(), Realm::default());
        let other: Realm = "firebuild2".parse().unwrap();
        let owner = Path::new("/var/lib/a");
        let bridge = realm.bridge_of(owner, &name);
        assert_eq!(bridge.len(), 15);
        assert_ne!(bridge, other.bridge_of(owner, &name));
        assert_ne!(bridge, realm.bridge_of(Path::new("/var/lib/b"), &name));
        assert_eq!(
            realm.bridge_of(owner, &NetworkName::default()),
            "firebuild0"
        );
        for bridge in [bridge.as_str(), "firebuild0"] {
            assert!(realm.marks(&realm.mark_of(bridge)));
            assert!(!other.marks(&realm.mark_of(bridge)));
            assert!(!realm.marks(&other.mark_of(bridge)));
        }
    }

    #[test]
    fn names_of_people_are_checked() {
        for text in ["a", "0", "back-end_2.x", "default"] {
            assert!(text.parse::<NetworkName>().is_ok(), "{text}");
        }
        let long = "a".repeat(33);
        for text in ["", "-a", ".", "A", "a/b", "a b", "a:b", "ä", long.as_str()] {
            assert!(text.parse::<NetworkName>().is_err(), "{text}");
        }
    }

    #[test]
    fn refuses_what_no_device_or_table_can_be_called() {
        for text in ["", "1a", "A", "a-b", "thirteenchars", "a b", "ä"] {
            assert!(text.parse::<Realm>().is_err(), "{text}");
        }
        assert!("twelve012345".parse::<Realm>().is_ok());
    }
}
