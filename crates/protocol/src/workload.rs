//! What a VM runs: the JSON of `Machine.Session`'s Start.

use serde::{Deserialize, Serialize};

/// The process that a VM exists for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Workload {
    /// Program and arguments; at least the program. A program without a slash is looked up in the
    /// environment's `PATH`, in the image.
    pub arguments: Vec<String>,
    /// Names and values, each name once. `HOME` is added from the image's passwd if it is missing.
    pub environment: Vec<(String, String)>,
    /// Those of `environment` that the person who started the VM gave: they are also written to
    /// `/etc/profile.d/run-env.sh`.
    #[serde(default)]
    pub run_environment: Vec<(String, String)>,
    /// An absolute path in the image; made if it is missing.
    pub workdir: String,
    /// `user`, `uid`, `user:group`, `uid:gid`; empty means root.
    pub user: String,
    /// Directories that the image declares as volumes: made if they are missing.
    #[serde(default)]
    pub volumes: Vec<String>,
}

impl Workload {
    /// A program with its arguments, run by root in `/` with nothing in its environment.
    #[must_use]
    pub fn new(arguments: Vec<String>) -> Self {
        Self {
            arguments,
            environment: Vec::new(),
            run_environment: Vec::new(),
            workdir: "/".to_owned(),
            user: String::new(),
            volumes: Vec::new(),
        }
    }
}
