//! The fuzz target `ext4` for some seconds: see `fuzz/README.md`.

#[path = "../../../fuzz/harness.rs"]
mod harness;
#[path = "../../../fuzz/images/ext4.rs"]
mod invariants;

#[test]
fn trees() {
    harness::hold("ext4", invariants::ext4, 300);
}
