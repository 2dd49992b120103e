//! Any documents of an image are refused in a line, or are an image that can be read and given on.
#![no_main]

#[path = "../images/manifest.rs"]
mod invariants;

libfuzzer_sys::fuzz_target!(|data: &[u8]| invariants::manifest(data));
