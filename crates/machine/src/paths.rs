//! Where a VM's files and sockets are.
//!
//! What outlives the VM is in its directory in the store; sockets are under a short directory of
//! their own, because a Unix socket's path holds 107 bytes.

use std::path::{Path, PathBuf};

use firebuild_core::MachineId;
use firebuild_store::Store;
use serde::{Deserialize, Serialize};

use crate::Error;

/// The most bytes that a Unix socket's path may have (`unix(7)`, `sun_path` and its final zero).
pub const SOCKET_PATH_LIMIT: usize = 107;

/// Where sockets are if nobody says otherwise.
pub const RUN: &str = "/run/firebuild";

/// The places of one VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Directories {
    /// What outlives the VM: record, logs, and its disk while it runs.
    pub state: PathBuf,
    /// Sockets; there while the VM runs.
    pub runtime: PathBuf,
    /// The VM's own disk.
    pub disk: PathBuf,
    /// The beginning of the guest's console.
    pub console: PathBuf,
    /// What the supervisor says, if it says anything.
    pub supervisor_log: PathBuf,
}

impl Directories {
    /// The places of VM `id`, with sockets under `run`.
    ///
    /// # Errors
    /// [`Error::SocketPath`] if a socket's path would be too long.
    pub fn of(store: &Store, run: &Path, id: &MachineId) -> Result<Self, Error> {
        let state = store.machines().path(id);
        let directories = Self {
            runtime: run.join(id.as_str()),
            disk: state.join("disk.img"),
            console: state.join("console.log"),
            supervisor_log: state.join("supervisor.log"),
            state,
        };
        let path = directories.control();
        if path.as_os_str().len() > SOCKET_PATH_LIMIT {
            let root = run.to_owned();
            return Err(Error::SocketPath { path, root });
        }
        Ok(directories)
    }

    /// The supervisor's control socket.
    #[must_use]
    pub fn control(&self) -> PathBuf {
        self.runtime.join("control.sock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_path_has_to_fit() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let id = MachineId::from_random([3; 20]);
        // A slash, twenty characters, a slash, `control.sock`.
        let fits = SOCKET_PATH_LIMIT - 1 - 20 - 1 - 12;
        let run = |length: usize| PathBuf::from(format!("/{}", "r".repeat(length - 1)));
        assert!(Directories::of(&store, &run(fits), &id).is_ok());
        let error = Directories::of(&store, &run(fits + 1), &id).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("has 108 bytes; it can have 107")
        );
        assert!(error.hint().is_some());
    }
}
