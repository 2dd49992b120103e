//! The programs that stand in for Firecracker and its jailer, and what they are told to do wrong.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What goes wrong in a stand-in.
pub(crate) type Oops = Box<dyn std::error::Error>;

/// What a stand-in does, from a file beside its program.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Behaviour {
    /// The minor version that it is.
    pub(crate) minor: u32,
    /// Ends with this status before it has a socket.
    pub(crate) ends_early: Option<i32>,
    /// Ends with this status when the VM is to start.
    pub(crate) ends_late: Option<i32>,
    /// How long it takes until it has a socket, in milliseconds.
    pub(crate) hesitates: u64,
    /// Refuses the call of this path.
    pub(crate) refuses: Option<String>,
    /// How many KiB it says on its console, and to its log, when the VM has started.
    pub(crate) floods: usize,
}

impl Behaviour {
    /// What the file beside `program` says.
    pub(crate) fn beside(program: &Path) -> Self {
        let text = fs_err::read(program.with_file_name("behaviour.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    /// Prints what the program says of its version.
    pub(crate) fn print_version(&self) {
        println!("Firecracker v1.{}.2\n\nand more lines", self.minor);
    }
}

/// Programs of this behaviour in a directory.
pub(crate) fn install(directory: &Path, behaviour: &Behaviour) -> [PathBuf; 2] {
    fs_err::create_dir_all(directory).unwrap();
    let text = serde_json::to_vec(behaviour).unwrap();
    fs_err::write(directory.join("behaviour.json"), text).unwrap();
    ["firecracker", "jailer"].map(|name| {
        let program = directory.join(name);
        let this = std::env::current_exe().unwrap();
        // Another name for this program: what it is called by is what it does.
        if fs_err::hard_link(&this, &program).is_err() {
            fs_err::copy(&this, &program).unwrap();
        }
        program
    })
}
