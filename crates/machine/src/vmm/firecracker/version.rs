//! Firecracker's versions, and what of its interface each of them knows.
//!
//! Firecracker refuses fields that it does not know, so what a version does not know is not sent.
//! What somebody asked for is another matter: that is refused before anything starts, with the
//! version that it takes.

use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::config::Call;
use crate::Error;

/// The oldest version that this driver was written for.
pub const OLDEST: Version = Version::new(1, 10);

/// The newest version that this driver was written for. Newer ones are used as if they were this:
/// within a major version Firecracker keeps what there is.
pub const NEWEST: Version = Version::new(1, 17);

/// The most that a program prints about its version.
const PRINTED: usize = 4096;

/// A version of Firecracker. Patch releases change nothing that matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    major: u32,
    minor: u32,
}

/// Something of the interface that was not always there.
#[derive(Debug, Clone, Copy)]
struct Addition {
    /// The path, or its beginning if it ends with a slash.
    path: &'static str,
    /// The field of the body; the path itself if none.
    field: Option<&'static str>,
    /// The value of the field; all values if none.
    value: Option<&'static str>,
    since: Version,
}

const fn path(path: &'static str, since: Version) -> Addition {
    Addition {
        path,
        field: None,
        value: None,
        since,
    }
}

const fn field(path: &'static str, field: &'static str, since: Version) -> Addition {
    Addition {
        path,
        field: Some(field),
        value: None,
        since,
    }
}

const fn value(
    path: &'static str,
    field: &'static str,
    value: &'static str,
    since: Version,
) -> Addition {
    Addition {
        path,
        field: Some(field),
        value: Some(value),
        since,
    }
}

/// What came after 1.10, in the order of versions.
const ADDITIONS: [Addition; 11] = [
    field("/mmds/config", "imds_compat", Version::new(1, 13)),
    path("/serial", Version::new(1, 14)),
    path("/pmem/", Version::new(1, 14)),
    path("/hotplug/memory", Version::new(1, 14)),
    field("/balloon", "free_page_hinting", Version::new(1, 14)),
    field("/balloon", "free_page_reporting", Version::new(1, 14)),
    field("/serial", "rate_limiter", Version::new(1, 16)),
    field("/network-interfaces/", "mtu", Version::new(1, 16)),
    value(
        "/machine-config",
        "huge_pages",
        "Transparent",
        Version::new(1, 17),
    ),
    field("/metrics", "emit_id", Version::new(1, 17)),
    field("/metrics", "properties", Version::new(1, 17)),
];

impl Version {
    /// The version `major.minor`.
    #[must_use]
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// Asks a program of Firecracker's for its version.
    ///
    /// # Errors
    /// [`Error::VmmMissing`]; [`Error::VmmVersion`] if it says none that can be used.
    pub fn of(program: &Path) -> Result<Self, Error> {
        let shown = || program.display().to_string();
        let output = Command::new(program)
            .arg("--version")
            .env_clear()
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .map_err(|source| match source.kind() {
                std::io::ErrorKind::NotFound => Error::VmmMissing { program: shown() },
                _ => Error::io(format!("ask `{}` for its version", shown()), source),
            })?;
        let printed = &output.stdout[..output.stdout.len().min(PRINTED)];
        let printed = String::from_utf8_lossy(printed);
        let version = Self::printed(&printed).filter(|version| version.is_usable());
        version.ok_or_else(|| Error::VmmVersion {
            program: program.to_owned(),
            said: printed.lines().next().unwrap_or_default().to_owned(),
        })
    }

    /// The version in what `firecracker --version` and `jailer --version` print:
    /// `Firecracker v1.12.1`, with more lines and perhaps `-dev`.
    fn printed(text: &str) -> Option<Self> {
        let word = text.lines().next()?.split_ascii_whitespace().nth(1)?;
        let mut numbers = word.strip_prefix('v')?.split(['.', '-']);
        let mut number = || numbers.next()?.parse().ok();
        Some(Self {
            major: number()?,
            minor: number()?,
        })
    }

    fn is_usable(self) -> bool {
        self >= OLDEST && self.major == OLDEST.major
    }

    /// Whether this version knows a path, or a field of it, or a value of that.
    #[must_use]
    pub fn knows(self, path: &str, field: Option<&str>, value: Option<&str>) -> bool {
        self >= since(path, field, value)
    }

    /// Refuses what this version does not know, as `what` was asked for.
    pub(super) fn require(
        self,
        (path, field, value): (&str, Option<&str>, Option<&str>),
        what: &str,
    ) -> Result<(), Error> {
        let since = since(path, field, value);
        if self >= since {
            return Ok(());
        }
        Err(Error::Spec(format!(
            "{what} needs Firecracker {since}; this is {self}"
        )))
    }

    /// What of a call this version knows; nothing if that is nothing.
    pub(super) fn known(self, mut call: Call) -> Option<Call> {
        if !self.knows(&call.path, None, None) {
            return None;
        }
        if let Some(Value::Object(fields)) = &mut call.body {
            let path = &call.path;
            fields.retain(|name, value| self.knows(path, Some(name), value.as_str()));
        }
        Some(call)
    }
}

/// The version that something came with.
fn since(path: &str, field: Option<&str>, value: Option<&str>) -> Version {
    let here = |known: &str| path == known || (known.ends_with('/') && path.starts_with(known));
    let found = ADDITIONS.iter().filter(|addition| {
        here(addition.path)
            && (addition.field.is_none() || addition.field == field)
            && (addition.value.is_none() || addition.value == value)
    });
    found.map(|addition| addition.since).max().unwrap_or(OLDEST)
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn versions_as_programs_print_them() {
        for (text, expected) in [
            (
                "Firecracker v1.12.1\n\nSupported snapshot…\n",
                Some((1, 12)),
            ),
            ("Jailer v1.17.0-dev\n", Some((1, 17))),
            ("Firecracker v1.10.0-dirty", Some((1, 10))),
            ("Firecracker v2", None),
            ("firecracker 1.10.1", None),
            ("v1.10.1", None),
            ("", None),
        ] {
            let expected = expected.map(|(major, minor)| Version::new(major, minor));
            assert_eq!(Version::printed(text), expected, "{text}");
        }
        for (version, usable) in [
            (Version::new(1, 9), false),
            (OLDEST, true),
            (NEWEST, true),
            (Version::new(1, 30), true),
            (Version::new(2, 0), false),
        ] {
            assert_eq!(version.is_usable(), usable, "{version}");
        }
    }

    #[test]
    fn programs_are_asked() {
        let missing = Version::of(Path::new("/nowhere/firecracker")).unwrap_err();
        assert!(matches!(missing, Error::VmmMissing { .. }), "{missing}");
        let other = Version::of(Path::new("/bin/echo")).unwrap_err();
        assert!(matches!(other, Error::VmmVersion { .. }), "{other}");
        assert!(other.hint().is_some());
    }

    #[test]
    fn what_a_version_does_not_know_is_left_out() {
        let call = |path: &str, body| Call::put(path, body);
        let nic = json!({"iface_id": "net0", "mtu": 1400});
        let old = Version::new(1, 15).known(call("/network-interfaces/net0", nic.clone()));
        assert_eq!(old.unwrap().body.unwrap(), json!({"iface_id": "net0"}));
        let new = Version::new(1, 16).known(call("/network-interfaces/net0", nic.clone()));
        assert_eq!(new.unwrap().body.unwrap(), nic);
        let serial = json!({"rate_limiter": {}});
        assert!(Version::new(1, 13).known(call("/serial", serial)).is_none());
        let pages = |size: &str| json!({"huge_pages": size});
        for (size, expected) in [("2M", pages("2M")), ("Transparent", json!({}))] {
            let left = Version::new(1, 16).known(call("/machine-config", pages(size)));
            assert_eq!(left.unwrap().body.unwrap(), expected);
        }
    }
}
