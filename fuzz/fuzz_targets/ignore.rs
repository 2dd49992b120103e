//! A `.dockerignore` of any bytes is refused, or says of every path the same however it is asked;
//! and a walker that skips what is left out misses nothing.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| invariants::ignore(data));
