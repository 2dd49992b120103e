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

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;

use firebuild_machine::testing::{guest, inherited};
use firebuild_protocol::METADATA_ADDRESS;

fn main() {
    if let Some(control) = std::env::var("FIREBUILD_CONTROL")
        .ok()
        .and_then(|it| it.parse().ok())
    {
        let control = UnixStream::from(inherited(control).unwrap());
        std::thread::spawn(move || obey(control));
    }
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

/// Answers what QEMU is asked, until nobody asks any more. Whoever is killed hears no answer.
fn obey(mut control: UnixStream) {
    let Ok(asked) = control.try_clone() else {
        return;
    };
    let mut said = writeln!(control, r#"{{"QMP": {{}}}}"#);
    for _ in BufReader::new(asked).lines().map_while(Result::ok) {
        said = said.and_then(|()| writeln!(control, r#"{{"return": {{}}}}"#));
    }
}
