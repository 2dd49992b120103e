//! Any bytes are refused as a layer, or read as one that stays inside and within bounds.
#![no_main]

#[path = "../images/layer.rs"]
mod invariants;

libfuzzer_sys::fuzz_target!(|data: &[u8]| invariants::layer(data));
