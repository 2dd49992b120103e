//! What host and guest say to each other.
//!
//! * [`metadata`]: what a VM reads from its metadata service when it starts.
//! * [`command`]: what a build VM is told to do.
//! * [`workload`]: what a VM runs. [`mount`]: what that finds mounted.
//!   [`limits`]: what its kernel is told about it. [`secret`]: what only its memory holds.
//! * [`task`]: what it does beside that, at a command's wish.
//! * `files`: files on their way between the two (feature `files`).
//! * [`v1`]: the gRPC services and messages, generated from `proto/firebuild.proto`
//!   (`cargo xtask generate`; a test compares).
//! * [`identity`]: the one-time TLS identities of both sides (feature `identity`; hosts only).
//! * [`boot`]: the kernel command line's part in it.
//! * [`chunk`]: cutting bytes into checked pieces, and putting them together again.

pub mod boot;
pub mod chunk;
pub mod command;
#[cfg(feature = "files")]
pub mod files;
#[cfg(feature = "identity")]
pub mod identity;
pub mod limits;
pub mod metadata;
pub mod mount;
pub mod secret;
pub mod task;
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::too_many_lines,
    clippy::allow_attributes_without_reason,
    reason = "generated code; the documentation is in the proto file"
)]
#[rustfmt::skip]
pub mod v1 {
    include!("generated/firebuild.v1.rs");
}
pub mod workload;

/// The address of the metadata service, as every cloud has it.
pub const METADATA_ADDRESS: std::net::Ipv4Addr = std::net::Ipv4Addr::new(169, 254, 169, 254);

/// The host's address towards the agent, in the VM's own network namespace. It differs from
/// [`METADATA_ADDRESS`], all traffic to which Firecracker answers itself.
pub const HOST_ADDRESS: std::net::Ipv4Addr = std::net::Ipv4Addr::new(169, 254, 169, 253);

/// The largest gRPC message either side accepts, in bytes: gRPC's own default.
pub const MESSAGE_LIMIT: usize = 4 << 20;
