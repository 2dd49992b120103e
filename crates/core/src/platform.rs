//! Operating system and processor architecture, in the words of the OCI image specification.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What an image was built for: the values of Go's `GOOS` and `GOARCH`, as the OCI image
/// specification prescribes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// The processor architecture: `amd64`, `arm64`, …
    pub architecture: String,
    /// The operating system; firebuild makes and runs `linux` only.
    pub os: String,
    /// The variant of the architecture, such as `v8` of `arm64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// The platform that this binary runs on.
    #[must_use]
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self {
            architecture: architecture.to_owned(),
            os: "linux".to_owned(),
            variant: None,
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}
