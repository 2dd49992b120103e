//! Layers to trees and back, against the kernel's overlay file system, umoci, skopeo and GNU tar.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a test's own steps fails the test"
)]

#[path = "../../../../tests/docker_registry.rs"]
mod docker_registry;

mod changes;
mod destination;
mod hostile;
mod images;
mod listing;
mod merge;
mod model;
mod notation;
mod overlay;
mod registry;
mod unpacking;
