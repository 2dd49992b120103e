//! Flags, JSON forms and the values of single instructions, whatever they hold, are read as their
//! formats say or refused.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| invariants::values(data));
