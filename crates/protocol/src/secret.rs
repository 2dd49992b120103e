//! Files that only a VM's memory holds, and who may come in by SSH: parts of
//! [`Workload`](crate::workload::Workload).

use std::fmt;

use serde::{Deserialize, Serialize};

/// A file that is in memory only.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Secret {
    /// Where the workload finds it: an absolute path.
    pub target: String,
    /// Its permission bits: 0 to 0o7777.
    pub mode: u16,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// What is in it.
    pub content: Vec<u8>,
}

impl fmt::Debug for Secret {
    /// Without the content, so that no log can hold it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

/// The image's own SSH server, started beside the workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Ssh {
    /// Who comes in, by the image's passwd.
    pub user: String,
    /// Their public keys, a line each.
    pub keys: Vec<String>,
}

/// Where the host key is that a VM makes for itself; its public half has `.pub` behind it.
pub const HOST_KEY: &str = "/etc/ssh/firebuild_host_ed25519_key";

/// The image's own, where its init starts the server; made only if the image has none.
pub const IMAGES_HOST_KEY: &str = "/etc/ssh/ssh_host_ed25519_key";
