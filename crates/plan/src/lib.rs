//! The plan: one graph of a few operations, to which everything that people write is lowered.
//!
//! A plan can be printed and read before anything is done; every operation says where it comes
//! from. Front ends know nothing of VMs, and what executes a plan knows nothing of Dockerfiles.
//!
//! * [`operation`]: the graph: stages, their bases, their operations.
//! * [`change`]: what an operation changes of an image's configuration.
//! * [`key`]: what an operation's result depends on, as one digest: the build cache's key.
//! * [`lower`]: from a Dockerfile to a plan.
//!
//! Everything here is pure: what lowering must know of base images is asked through a trait.

pub mod change;
pub mod key;
pub mod lower;
pub mod operation;

pub use change::Change;
pub use operation::{
    Base, Configure, Copy, CopySource, Directory, Item, Operation, Origin, Plan, Run, RunFile,
    Stage, Step,
};

/// Matching of a copy's patterns: Go's `filepath.Match`, on bytes.
pub use firebuild_dockerfile::glob as pattern;

/// Which files of a context a build does not see.
pub use firebuild_dockerfile::dockerignore as ignore;
