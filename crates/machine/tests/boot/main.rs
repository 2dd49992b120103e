//! Real VMs: a distribution's kernel, the initramfs that firebuild makes for it, the agent in it,
//! against servers that the tests play. QEMU is started by hand, with nothing of the machine
//! crate's own driver, so that a failure here is one of the boot.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "the lints' exception for tests does not reach the helpers of integration tests"
)]

mod build;
mod image;
mod kernels;
mod session;
mod vm;
