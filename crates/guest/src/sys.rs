//! The system calls that cannot be made in safe Rust.
#![allow(
    unsafe_code,
    reason = "the library cannot rule out flags and signals that would be unsound"
)]

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;

use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// Gives the calling thread namespaces of its own.
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    let allowed = UnshareFlags::NEWNS
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWNET;
    if !allowed.contains(flags) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: needed because namespaces can be had in no other way. It is sound because CLONE_FILES,
    // the flag that could invalidate descriptors that others hold, was refused above.
    unsafe { unshare_unsafe(flags) }.map_err(io::Error::from)
}

/// Calls `spawn`, whose child becomes the first process of a new PID namespace. `own` is the
/// calling process's `/proc/self/ns/pid`, to which later children go again.
pub(crate) fn in_new_pid_namespace<T>(
    own: &File,
    spawn: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    unshare(UnshareFlags::NEWPID)?;
    let result = spawn();
    move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::ProcessID))?;
    result
}

/// A signal by its number, real-time signals included.
pub(crate) fn signal(number: u32) -> Option<Signal> {
    let number = i32::try_from(number)
        .ok()
        .filter(|number| (1..=64).contains(number))?;
    // SAFETY: needed because real-time signals have no names in the library. It is sound because
    // the number is one of the kernel's, and signals are only ever sent here, never handled: the
    // danger is in handlers for those that the C library keeps for itself.
    Some(unsafe { Signal::from_raw_unchecked(number) })
}
