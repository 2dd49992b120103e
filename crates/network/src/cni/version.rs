//! Versions of the CNI specification: what a configuration may say, and what plugins then know.

use std::fmt;
use std::str::FromStr;

/// A version of the CNI specification, in the order in which they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Version {
    V0_1_0,
    V0_2_0,
    V0_3_0,
    V0_3_1,
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

const ALL: [(Version, &str); 7] = [
    (Version::V0_1_0, "0.1.0"),
    (Version::V0_2_0, "0.2.0"),
    (Version::V0_3_0, "0.3.0"),
    (Version::V0_3_1, "0.3.1"),
    (Version::V0_4_0, "0.4.0"),
    (Version::V1_0_0, "1.0.0"),
    (Version::V1_1_0, "1.1.0"),
];

/// A version that is not among those known here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnknownVersion(String);

impl Version {
    /// What a configuration is that names none.
    pub(crate) const UNNAMED: Self = Self::V0_1_0;

    /// Whether plugins know CHECK, and get the result of ADD with DEL.
    pub(crate) fn has_check(self) -> bool {
        self >= Self::V0_4_0
    }

    /// Whether plugins know STATUS and GC.
    pub(crate) fn has_status(self) -> bool {
        self >= Self::V1_1_0
    }

    /// Whether results tell of interfaces; before that of one address of each family only.
    pub(crate) fn has_interfaces(self) -> bool {
        self >= Self::V0_3_0
    }

    /// Whether addresses in results say which family they are of.
    pub(crate) fn names_families(self) -> bool {
        self.has_interfaces() && self < Self::V1_0_0
    }

    /// Whether interfaces and routes may have more than what has been there from the beginning.
    pub(crate) fn has_details(self) -> bool {
        self >= Self::V1_1_0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = ALL.iter().find(|(version, _)| version == self);
        f.write_str(named.map_or("", |(_, name)| name))
    }
}

impl FromStr for Version {
    type Err = UnknownVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = ALL.iter().find(|(_, name)| *name == text);
        known
            .map(|(version, _)| *version)
            .ok_or_else(|| UnknownVersion(text.chars().take(40).collect()))
    }
}

impl fmt::Display for UnknownVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "version `{}` of CNI is not among those known here, 0.1.0 to 1.1.0",
            self.0
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_version_knows() {
        for (text, check, status, interfaces, families) in [
            ("0.1.0", false, false, false, false),
            ("0.2.0", false, false, false, false),
            ("0.3.0", false, false, true, true),
            ("0.3.1", false, false, true, true),
            ("0.4.0", true, false, true, true),
            ("1.0.0", true, false, true, false),
            ("1.1.0", true, true, true, false),
        ] {
            let version: Version = text.parse().unwrap();
            assert_eq!(version.to_string(), text);
            assert_eq!(version.has_check(), check, "{text}");
            assert_eq!(version.has_status(), status, "{text}");
            assert_eq!(version.has_interfaces(), interfaces, "{text}");
            assert_eq!(version.names_families(), families, "{text}");
        }
        for text in ["", "1", "1.0", "1.2.0", "v1.0.0", "1.0.0 "] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }
}
