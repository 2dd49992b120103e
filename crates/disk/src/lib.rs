//! File systems and disks made in user space: ext4, and trees of hashes over them ([`verity`]).
//!
//! A writer takes a [`firebuild_core::tree::Tree`], which holds names and metadata, and a
//! [`ContentSource`], which holds the bytes of its files. It knows nothing of where either came
//! from, needs no rights, mounts nothing and runs nothing. The same input gives the same bytes:
//! no clock, no random numbers. [`ext4::read`] goes the other way, for file systems of any make.

mod content;
mod error;
pub mod ext4;
pub mod verity;

pub use content::{ContentSource, NoContent};
pub use error::{Error, XattrProblem};
