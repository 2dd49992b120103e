//! Executes a plan: cache, host-side copies, build VMs.
//!
//! * [`build`](mod@build): from a plan to an image in the store.
//! * [`contexts`]: where a build's files come from.
//! * [`copy`](mod@copy): what COPY means.
//! * [`archive`]: what ADD unpacks, and contexts that come as one.
//! * [`debug`]: looking into a step that failed.
//! * [`base`]: base images from a distribution's packages.
//! * [`fetch`]: what comes from elsewhere: downloads, repositories.
//! * [`care`]: what nothing needs goes; what is there is counted and checked.
//! * [`rootfs`]: from layers to a bootable root file system, made once.
//! * [`verified`]: the same, for VMs that verify what they read.
//! * [`keys`]: private keys that RUNs may sign with.
//! * [`logins`]: who one is for registries.
//! * [`provider`]: where root file systems and kernels are kept beside the store.
//! * [`progress`]: what a build says while it works.

pub mod archive;
pub mod base;
mod bootstrap;
pub mod build;
mod cache;
pub mod care;
mod context;
pub mod contexts;
mod copied;
pub mod copy;
mod current;
pub mod debug;
mod epoch;
mod error;
mod execute;
pub mod fetch;
mod fingerprint;
mod image;
pub mod keys;
pub mod logins;
mod mounts;
pub mod progress;
pub mod provider;
mod room;
pub mod rootfs;
mod schedule;
mod sources;
mod stage;
mod step;
mod threads;
mod time;
pub mod verified;
mod vm;

pub use build::{Built, NoCache, Request, build};
pub use error::{Error, Exit, StepError};
pub use image::StoreBases;
pub use mounts::carry::{export_cache_mount, import_cache_mount};
pub use mounts::sensitive::{Agent, Agents, SecretSource, Secrets};
pub use vm::{KernelChoice, VmOptions};
