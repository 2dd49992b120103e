//! Thirty of the deaths that `cargo xtask faults` dies, spread over all commands, and what looks at
//! them. Needs root.

use std::process::Command;
use std::sync::Mutex;

/// Both build programs; one can wait for the other.
static TURN: Mutex<()> = Mutex::new(());

fn faults(arguments: &[&str]) -> String {
    let _turn = TURN.lock();
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let mut faults = Command::new(env!("CARGO_BIN_EXE_xtask"));
    faults.arg("faults").args(arguments).current_dir(root);
    let Ok(output) = faults.output() else {
        unreachable!("cargo has built xtask")
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complained}");
    said
}

#[test]
fn thirty_deaths_leave_nothing() {
    let said = faults(&["--sample", "30"]);
    assert!(said.contains("\n30 deaths in "), "{said}");
    assert!(said.contains(" 0 of them left something"), "{said}");
}

/// A look that finds nothing is worth nothing if it would find nothing anyway.
#[test]
fn what_is_left_is_found_where_it_is_left_and_not_blamed_on_others() {
    let said = faults(&["--check"]);
    assert!(said.contains("what is left is found"), "{said}");
}
