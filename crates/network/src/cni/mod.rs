//! Networks by CNI, the Container Network Interface: plugins make everything on the host, and a tap
//! that is built in carries it to the VM.
//!
//! ```text
//!   VM ── tap0 ═(rules of the namespace)═ eth0 ──── whatever the plugins of the network made
//!         └── the VM's own namespace ───────┘
//! ```
//!
//! The specification is that of version 1.1 (<https://www.cni.dev/docs/spec/>), with the
//! configurations and results of all versions before. One order holds: lease, entry of the cache,
//! namespace, plugins, tap; and the other way when it is taken down, from the VM's id alone. Plugins
//! are the host's and are trusted, as far as they can be: they may hang, print anything, or be gone.

mod attachment;
mod cache;
mod capabilities;
mod chain;
mod configuration;
mod driver;
mod error;
mod host_local;
mod lease;
mod orphan;
mod plugin;
mod process;
mod redirect;
mod result;
mod search;
mod stand_in;
mod version;
mod ways;

pub use self::attachment::{Directories, Request, Settings};
pub use self::driver::Cni;
pub use self::error::CniError;
pub use self::result::Cidr;
pub use self::search::Configured;
