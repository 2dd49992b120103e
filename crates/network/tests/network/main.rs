//! The networks on real namespaces. Every test has a host of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "clippy takes only functions marked as tests for tests"
)]

mod frame;
mod rig;
mod tap;

mod addresses;
mod attachment;
mod cni;
mod dns;
mod egress;
mod inside;
mod ipv6;
mod isolation;
mod leftovers;
mod networks;
mod ports;
