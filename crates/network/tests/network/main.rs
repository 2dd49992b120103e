//! The built-in network on real namespaces. Every test has a host of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "clippy takes only functions marked as tests for tests"
)]

mod frame;
mod rig;
mod tap;

mod attachment;
mod isolation;
