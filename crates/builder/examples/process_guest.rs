//! A guest that is a process: what `cargo xtask faults` starts where a VMM would start a VM. It runs
//! in the VM's network namespace, gets the kernel's command line in `FIREBUILD_COMMAND_LINE`, and does
//! what the simulated guests of the tests do, for builds and for workloads.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    dead_code,
    reason = "the guests are those of tests, and a guest's console is its standard output"
)]

#[path = "../tests/build/guest/mod.rs"]
mod build;
#[path = "../../machine/tests/life/guest.rs"]
mod life;
#[path = "../../machine/tests/life/perform.rs"]
mod perform;

use firebuild_machine::testing::guest;
use firebuild_protocol::METADATA_ADDRESS;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let metadata = guest::metadata((METADATA_ADDRESS, 80).into());
    match runtime.block_on(metadata) {
        Ok(metadata) if metadata.bootstrap.is_some() => build::live_and_die("obedient"),
        Ok(_) => life::live_and_die(),
        Err(error) => println!("vminit: fatal: {error}"),
    }
}
