//! What can be wrong with a profile.

use std::path::PathBuf;

use super::{ProfileName, Schema};

/// A profile that cannot be used, made or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProfileError {
    /// It is not TOML.
    #[error("cannot read the profile `{name}`")]
    Toml {
        /// The profile.
        name: ProfileName,
        /// Where, and what is expected there.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A key that is no flag.
    #[error("{place} is not a flag of {of}{}", did_you_mean(.suggestion.as_deref()))]
    Unknown {
        /// The key, and where it stands.
        place: String,
        /// What has no such flag.
        of: String,
        /// The flag that it looks like.
        suggestion: Option<String>,
    },
    /// A value of another kind.
    #[error("{place} has to be {wanted}")]
    Type {
        /// The key, and where it stands.
        place: String,
        /// What would be right.
        wanted: &'static str,
    },
    /// A value that the flag cannot have.
    #[error("{place}: {said}")]
    Value {
        /// The key, and where it stands.
        place: String,
        /// What the command says about it.
        said: String,
    },
    /// A flag by two of its names.
    #[error("{place} is given twice, by two names of one flag")]
    Twice {
        /// The key, and where it stands.
        place: String,
    },
    /// There is none of this name.
    #[error("there is no profile `{name}` in `{}`", .directory.display())]
    Missing {
        /// The name.
        name: ProfileName,
        /// Where it was looked for.
        directory: PathBuf,
    },
    /// There is one of this name.
    #[error("there is a profile `{name}` already")]
    Exists {
        /// The name.
        name: ProfileName,
    },
    /// The file has no end.
    #[error("the profile `{name}` is larger than {most} bytes")]
    Large {
        /// The profile.
        name: ProfileName,
        /// The most that is read.
        most: u64,
    },
    /// The file or its directory.
    #[error("cannot {doing} the profile `{name}`")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The profile.
        name: ProfileName,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

impl ProfileError {
    /// A key that is no flag, with the one that may be meant.
    pub(super) fn unknown(at: (&ProfileName, &[String]), key: &str, schema: &Schema) -> Self {
        let (_, path) = at;
        let known = schema.known(path);
        let suggestion = firebuild_dockerfile::nearest(key, known.iter().map(String::as_str));
        Self::Unknown {
            place: place(at, key),
            of: match path {
                [] => "any command".to_owned(),
                path => format!("`firebuild {}`", path.join(" ")),
            },
            suggestion: suggestion.map(str::to_owned),
        }
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { .. } => Some(
                "keys are flags without their dashes, at the top for all commands or in the section \
                 of one, such as `[run]`; see docs/profiles.md"
                    .to_owned(),
            ),
            Self::Missing { .. } => Some(
                "see `firebuild profile ls`, or make it with `firebuild profile create`".to_owned(),
            ),
            Self::Exists { .. } => Some("`--overwrite` replaces it".to_owned()),
            _ => None,
        }
    }
}

/// A key as it is told.
pub(super) fn place((name, path): (&ProfileName, &[String]), key: &str) -> String {
    let key = firebuild_core::printable(key, 100);
    match path {
        [] => format!("`{key}` in the profile `{name}`"),
        path => format!("`{key}` in `[{}]` of the profile `{name}`", path.join(".")),
    }
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(String::new, |word| format!("; did you mean `{word}`?"))
}
