//! Where the original tool's layout has an image: `ORG/IMAGE/VERSION`.
//!
//! `org/app:1.0` is in `org/app/1.0`, and what has no organisation in `_`. All of a name but its last
//! part is the organisation, with `_` for every slash, so that two names may have one place; who looks
//! there finds out whose it is by the metadata.

use std::fmt;
use std::path::PathBuf;

use firebuild_core::Reference;

/// What stands for no organisation.
const NONE: &str = "_";

/// Three names of directories.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) org: String,
    pub(super) image: String,
    pub(super) version: String,
}

impl Place {
    /// The place of a name; none for one without a tag.
    pub(super) fn of(name: &Reference) -> Option<Self> {
        let version = name.tag().filter(|_| name.digest().is_none())?;
        let familiar = name.familiar();
        let path = familiar.strip_suffix(version)?.strip_suffix(':')?;
        let (org, image) = path.rsplit_once('/').unwrap_or((NONE, path));
        Some(Self {
            org: org.replace('/', NONE),
            image: image.to_owned(),
            version: version.to_owned(),
        })
    }

    /// The place of three names, if an image could have it.
    pub(super) fn at(org: &str, image: &str, version: &str) -> Option<Self> {
        let place = Self {
            org: org.replace('/', NONE),
            image: image.to_owned(),
            version: version.to_owned(),
        };
        (Self::of(&place.name()?)? == place).then_some(place)
    }

    /// The simplest name with this place.
    pub(super) fn name(&self) -> Option<Reference> {
        self.to_string().parse().ok()
    }

    /// The path below the storage's root.
    pub(super) fn path(&self) -> PathBuf {
        [&self.org, &self.image, &self.version].iter().collect()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.org != NONE {
            write!(f, "{}/", self.org)?;
        }
        write!(f, "{}:{}", self.image, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_places() {
        for (name, path) in [
            ("alpine:3.13", "_/alpine/3.13"),
            ("org/app:1.0", "org/app/1.0"),
            ("org/app", "org/app/latest"),
            ("a/b/c:1", "a_b/c/1"),
            ("a_b/c:1", "a_b/c/1"),
            ("localhost:5000/x:2", "localhost:5000/x/2"),
            ("registry.example/a/b:2", "registry.example_a/b/2"),
        ] {
            let name: Reference = name.parse().unwrap();
            assert_eq!(Place::of(&name).unwrap().path().to_str(), Some(path));
        }
        let pinned = format!("app@sha256:{}", "0".repeat(64));
        assert_eq!(Place::of(&pinned.parse().unwrap()), None);
        let pinned = format!("app:1@sha256:{}", "0".repeat(64));
        assert_eq!(Place::of(&pinned.parse().unwrap()), None);
    }

    #[test]
    fn only_names_places_are_places() {
        let at = |org, image, version| Place::at(org, image, version);
        assert_eq!(
            at("org", "app", "1.0").and_then(|place| place.name()),
            "org/app:1.0".parse().ok()
        );
        assert_eq!(
            at("_", "alpine", "3.13").and_then(|place| place.name()),
            "alpine:3.13".parse().ok()
        );
        for (org, image, version) in [
            ("..", "app", "1"),
            ("org", "..", "1"),
            ("org", "app", ".."),
            ("org", "a/b", "1"),
            ("org", "app", "1/../.."),
            ("", "app", "1"),
            ("org", "", "1"),
            ("org", "app", ""),
            ("org", "App", "1"),
            ("org", "app@x", "1"),
            ("org", "app:2", "1"),
        ] {
            assert_eq!(at(org, image, version), None, "{org} {image} {version}");
        }
    }
}
