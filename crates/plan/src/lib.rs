//! The plan: one graph of a few operations, to which everything that people write is lowered.
//!
//! A plan can be printed and read before anything is done; every operation says where it comes
//! from. Front ends know nothing of VMs, and what executes a plan knows nothing of Dockerfiles.
//!
//! * [`operation`]: the graph: stages, their bases, their operations.
//! * [`change`]: what an operation changes of an image's configuration.
//! * [`key`]: what an operation's result depends on, as one digest: the build cache's key.
//! * [`mount`]: what is mounted while one process runs.
//! * [`platform`]: what people call a platform.
//! * [`lower`]: from a Dockerfile to a plan.
//! * [`check`]: what is legal in a Dockerfile and probably not meant.
//!
//! Everything here is pure: what lowering must know of base images is asked through a trait.

pub mod change;
pub mod check;
pub mod key;
pub mod lower;
pub mod mount;
pub mod operation;
pub mod platform;

pub use change::Change;
pub use mount::Mount;
pub use operation::{
    Base, Configure, Copy, Directory, Item, Operation, Origin, Plan, Run, RunFile, Source, Stage,
    Step, Unpack,
};

/// Matching of a copy's patterns: Go's `filepath.Match`, on bytes.
pub use firebuild_dockerfile::glob as pattern;

/// The known word that is nearest to an unknown one.
pub use firebuild_dockerfile::suggest;

/// Which files of a context a build does not see.
pub use firebuild_dockerfile::dockerignore as ignore;

/// What a step may reach and do, how caches are shared, how modes change, what a repository's
/// address says: words that a Dockerfile and a plan have in common.
pub use firebuild_dockerfile::{
    Network, Security, chmod::ModeChange, mount::Sharing, source::GitSource,
};

/// What an address says: a file to download, a repository, or a path.
pub use firebuild_dockerfile::source::{ParseSourceError, SourceKind, classify};
