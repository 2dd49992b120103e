//! What a profile may be called: it is the name of a file.

use std::fmt;
use std::str::FromStr;

/// The profile that holds where no other is asked for.
pub(crate) const DEFAULT: &str = "default";

/// The most that a name may have.
const LONGEST: usize = 63;

/// 1 to 63 letters, digits, `.`, `_` or `-`, the first a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ProfileName(String);

impl ProfileName {
    /// The profile that holds where no other is asked for.
    pub(crate) fn default_one() -> Self {
        Self(DEFAULT.to_owned())
    }

    /// True for that one.
    pub(crate) fn is_default(&self) -> bool {
        self.0 == DEFAULT
    }

    /// As text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProfileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ProfileName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let first = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        let all = text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        if first && all && text.len() <= LONGEST {
            return Ok(Self(text.to_owned()));
        }
        Err(format!(
            "`{}` cannot name a profile: names are 1 to {LONGEST} letters, digits, `.`, `_` or `-`, \
             the first a letter or digit",
            firebuild_core::printable(text, 100)
        ))
    }
}
