//! The same Dockerfiles and contexts built by firebuild and by Debian's buildah, and what is
//! different about the images: files by kind, mode, owner, size, content, link and attributes, and
//! the configuration.
//!
//! Where they may differ, a case says so line by line, and why. Needs root and buildah.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helpers may fail it"
)]

#[path = "../ready.rs"]
mod ready;
#[path = "../session.rs"]
#[allow(dead_code, reason = "other tests use what these do not")]
mod session;

mod copies;
mod ignored;
mod judge;
mod listing;
mod runs;
