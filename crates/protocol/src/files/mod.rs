//! Files on their way between host and guest, which are read and written by the same code on both sides:
//! an archive in the form of a layer, but with plain names.
//!
//! * [`pack()`]: what is below a path, as an archive.
//! * [`unpack()`]: an archive to where a person wants it, by the rules that `cp` has.
//! * [`Condenser`] and [`Expander`]: what goes between the two, in which zeros cost nothing.
//! * [`walk`]: everything below a directory, in an order that is always the same.
//! * [`attributes`]: mode, owner, time and extended attributes of a file.

pub mod attributes;
mod condensed;
mod pack;
mod unpack;
pub mod walk;

pub use condensed::{Condenser, Expander};
pub use pack::pack;
pub use unpack::{Destination, unpack};

#[cfg(test)]
mod tests;
