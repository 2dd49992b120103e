//! What holds for any input, one function for each fuzz target; it panics where it does not hold.
//!
//! The same functions are driven by libFuzzer (`cargo xtask fuzz`) and, for some seconds and
//! without it, by the tests of `crates/dockerfile`, which include this file.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "a finding is a panic; and a test includes this as a module of its own"
)]

mod expander;
mod glob;
mod ignore;
mod parser;
mod values;

pub use expander::expander;
pub use glob::glob;
pub use ignore::ignore;
pub use parser::parser;
pub use values::values;

/// The parts of an input, which a zero byte separates.
fn parts(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.split(|byte| *byte == 0)
}
