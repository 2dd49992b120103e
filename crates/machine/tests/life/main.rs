//! The lives of VMs, under supervisors and in the hands of builds. Needs root; [`real`] needs QEMU
//! and a mirror of packages, too.
//!
//! The program of these tests is several programs: the tests, and in children of theirs each
//! supervisor, each simulated guest, commands and builders that get killed. Which one it is, the
//! environment says to the "test" [`role`].

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and a guest's console is its standard output"
)]

mod again;
mod floods;
mod guest;
mod host;
#[path = "../boot/image.rs"]
mod image;
mod kept;
mod owner;
mod perform;
mod real;
mod shared;
mod supervised;
mod tasks;
mod told;
mod verified;

/// Not a test: what this program does in its other roles.
#[test]
fn role() {
    match std::env::var(host::ROLE).as_deref() {
        Ok("supervisor") => host::be_supervisor(false),
        Ok("real-supervisor") => host::be_supervisor(true),
        Ok("guest") => guest::live_and_die(),
        Ok("command") => supervised::be_command(),
        Ok("builder") => owner::be_builder(),
        _ => {}
    }
}
