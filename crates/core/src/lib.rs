//! The nouns that three or more firebuild crates share.
//!
//! Everything here is pure: no files, no network, no clock, no environment, no async. Bytes,
//! readers and writers come in; values and bytes go out.
//!
//! * [`digest`]: content addresses.
//! * [`reference`]: names of images, normalised as Docker does.
//! * [`platform`], [`size`], [`mod@duration`], [`id`]: small parsed values.
//! * [`config`]: what an image says about the process that runs from it.
//! * [`user`]: users and groups as an image has them.
//! * [`tree`]: a file tree with all its metadata, the common form of layers and file systems.
//! * [`layer`]: the one canonical way in which firebuild writes a layer's bytes.

pub mod config;
pub mod digest;
pub mod duration;
pub mod id;
pub mod layer;
pub mod platform;
mod printable;
mod program;
pub mod reference;
pub mod size;
pub mod tree;
pub mod user;

pub use config::ImageConfig;
pub use digest::{Digest, Hasher};
pub use id::{MachineId, MachineName};
pub use platform::Platform;
pub use printable::{is_obeyed, printable, shortened};
pub use program::words;
pub use reference::Reference;
pub use size::ByteSize;
