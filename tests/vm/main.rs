//! Real microVMs, from the command line to the guest and back. As root; each wants a processor, so
//! these run one at a time.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helpers may fail it"
)]

#[path = "../collector.rs"]
mod collector;
#[path = "../ready.rs"]
mod ready;
#[path = "../session.rs"]
mod session;

mod again;
mod arrived;
mod change;
mod cni;
mod commands;
mod dated;
mod debug;
mod examples;
mod foreground;
mod idle;
mod init;
mod interrupted;
mod limits;
mod live;
mod mounts;
mod networks;
mod secrets;
mod service;
mod shared;
mod stages;
mod storage;
mod traces;
mod tracing;
mod verified;
mod violence;
mod volumes;
mod within;

use ready::{BASE, session};
