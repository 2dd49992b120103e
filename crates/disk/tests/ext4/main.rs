//! Every file system written is shown to `e2fsck`, and to Linux or another reader.
//!
//! Needs root for loop mounts, and e2fsprogs; without them the tests fail.

#[cfg(test)]
mod attributes;
#[cfg(test)]
mod collisions;
#[cfg(test)]
mod determinism;
#[cfg(test)]
mod disks;
#[cfg(test)]
mod extremes;
#[cfg(test)]
mod judge;
#[cfg(test)]
mod kernel;
#[cfg(test)]
mod placed;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod read;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod trees;
