//! A word of any text in any environment expands to a text within its bound, or is refused at a
//! place in the word; what it says of the variables it asked for is true.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| invariants::expander(data));
