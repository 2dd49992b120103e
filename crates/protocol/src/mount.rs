//! What a VM's workload finds mounted in its root, beyond the root itself: part of
//! [`Workload`](crate::workload::Workload).

use serde::{Deserialize, Serialize};

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Mount {
    /// Where: an absolute path in the root, which is made if it is missing.
    pub target: String,
    /// What.
    pub source: Source,
    /// Whether the workload cannot write there.
    #[serde(default)]
    pub read_only: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A directory of one of the VM's further drives.
    Drive {
        /// Which of those: 0 is the first. Its serial is [`drive_serial`].
        number: u8,
        /// The directory's name: no path. If it is missing, and the drive can be written to, it is made
        /// with the content of what it is mounted over.
        directory: String,
    },
    /// Memory that is empty at first.
    Memory(Memory),
    /// A directory of the host, by virtio-fs.
    Shared {
        /// The device's tag.
        tag: String,
    },
}

/// A file system in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Memory {
    /// The most bytes that it holds; half of the VM's memory if none.
    #[serde(default)]
    pub size: Option<u64>,
    /// The permission bits of its root; those of the directory below it if none, or of `/tmp` if it is
    /// missing.
    #[serde(default)]
    pub mode: Option<u16>,
    /// Whether programs on it can be executed.
    #[serde(default)]
    pub executable: bool,
}

/// What a guest knows the drives of volumes and snapshots by; 0 is the first.
#[must_use]
pub fn drive_serial(number: u8) -> String {
    format!("volume{number}")
}
