//! Thirty of the deaths that `cargo xtask faults` dies, spread over all commands. Needs root.

use std::process::Command;

#[test]
fn thirty_deaths_leave_nothing() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let mut faults = Command::new(env!("CARGO_BIN_EXE_xtask"));
    faults.args(["faults", "--sample", "30"]).current_dir(root);
    let output = faults.output().expect("xtask starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complained}");
    assert!(said.contains("30 deaths in "), "{said}");
    assert!(said.contains(" 0 of them left something"), "{said}");
}
