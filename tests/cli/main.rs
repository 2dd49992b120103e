//! The `firebuild` command as people meet it, without any VM: what it prints where, how it exits,
//! what it says to do next.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test's helpers may fail it"
)]

#[path = "../collector.rs"]
mod collector;
#[path = "../docker_registry.rs"]
mod docker_registry;
#[path = "../../crates/builder/src/fetch/testing.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod server;
#[path = "../session.rs"]
mod session;

mod archives;
mod arguments;
mod baseos;
mod cache;
mod care;
mod checks;
mod completion;
mod compressed;
mod contexts;
mod copies;
mod damaged;
mod doctor;
mod downloads;
mod from_image;
mod full_disk;
mod hostile;
mod hostile_layers;
mod hostile_values;
mod images;
mod installed;
mod language;
mod lies;
mod logging;
mod metrics;
mod mistakes;
mod networks;
mod original;
mod printed;
mod profiles;
mod progress;
mod receiver;
mod registry;
mod repositories;
mod sources;
mod storage;
mod timeline;
mod tracing;
mod words;

use session::Session;

/// A session with an empty state directory of its own.
fn session() -> (Session, tempfile::TempDir) {
    let root = tempfile::tempdir().unwrap();
    (Session::at(root.path()), root)
}
