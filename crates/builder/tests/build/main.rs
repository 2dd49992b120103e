//! Whole builds, with processes in place of VMs: everything but the VMM, the kernel and the agent
//! is real. Needs root.
//!
//! The program of these tests is two programs: the tests, and each guest. Which one it is, the
//! environment says to the "test" `role`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and a guest's console is its standard output"
)]

mod debug;
mod files;
mod flags;
mod given;
mod guest;
mod hostile;
mod place;
mod stages;
mod steps;
mod trust;

/// Not a test: what this program does as a guest.
#[test]
fn role() {
    if let Ok(kind) = std::env::var(place::GUEST) {
        guest::live_and_die(&kind);
    }
}
