//! A wildcard of any bytes is refused, or matches exactly the paths that a matcher which tries
//! everything matches.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| invariants::glob(data));
