//! A Dockerfile of any bytes is refused at a place in it, or parses to instructions that print to
//! a Dockerfile of the same meaning.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| invariants::parser(data));
