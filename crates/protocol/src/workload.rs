//! What a VM runs: the JSON of `Machine.Session`'s Start.

use serde::{Deserialize, Serialize};

use crate::command::Terminal;
use crate::limits::ProcessLimit;
use crate::mount::Mount;
use crate::secret::{Secret, Ssh};

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
    /// What is mounted in its root.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Files that are in memory only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Secret>,
    /// Who may come in by SSH, if anybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<Ssh>,
    /// The limits of its processes, instead of those that every workload has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<ProcessLimit>,
    /// Settings of the VM's kernel, as in `sysctl.d(5)`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<(String, String)>,
    /// The most bytes of `/dev/shm`; half of the VM's memory if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_memory: Option<u64>,
    /// Whether it is the image's own init, for which the VM is a machine: the first of its processes
    /// as it sees them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_init: bool,
    /// Whether it cannot write to its root, and what is not mounted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// The terminal that it has; pipes if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<Terminal>,
    /// Whether it can be typed into: its input is open until somebody ends it. Else there is nothing
    /// to read for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub interactive: bool,
    /// How its health is looked into, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCheck>,
}

/// How the health of a workload is looked into: `HEALTHCHECK` as Docker has it. Times are in
/// milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HealthCheck {
    /// The probe: program and arguments; at least the program. Its status is 0 if all is well.
    pub arguments: Vec<String>,
    /// From the end of one probe to the start of the next; not 0.
    pub interval: u64,
    /// How long a probe may take; not 0.
    pub timeout: u64,
    /// For how long after the workload's start failed probes do not count, until one succeeds.
    pub start_period: u64,
    /// The interval in that time; not 0.
    pub start_interval: u64,
    /// How many probes have to fail in a row until the workload is unhealthy; not 0.
    pub retries: u32,
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
            mounts: Vec::new(),
            secrets: Vec::new(),
            ssh: None,
            limits: Vec::new(),
            settings: Vec::new(),
            shared_memory: None,
            is_init: false,
            read_only: false,
            terminal: None,
            interactive: false,
            health: None,
        }
    }
}
