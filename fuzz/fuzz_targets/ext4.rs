//! Any tree is refused, or becomes a file system in which `e2fsck` finds nothing.
#![no_main]

#[path = "../images/ext4.rs"]
mod invariants;

libfuzzer_sys::fuzz_target!(|data: &[u8]| invariants::ext4(data));
