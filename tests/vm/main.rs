//! Real microVMs, from the command line to the guest and back. As root; each wants a processor, so
//! these run one at a time.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helpers may fail it"
)]

#[path = "../session.rs"]
mod session;

mod change;
mod commands;
mod dated;
mod examples;
mod foreground;
mod interrupted;
mod live;
mod mounts;
mod service;
mod stages;
mod traces;
mod violence;

use std::path::Path;
use std::sync::OnceLock;

use session::Session;

/// What the tests' images are built from.
const BASE: &str = "debian:bookworm-slim";

/// A session with a kernel and a base. Fetching them takes half a minute, so all tests share one
/// state directory, which stays for the next time.
fn session() -> Session {
    static READY: OnceLock<()> = OnceLock::new();
    let session = Session::at(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("vm"));
    READY.get_or_init(|| {
        if session.json(&["kernel", "ls", "--format", "json"]) == serde_json::json!([]) {
            session.ok(&["kernel", "pull", "debian:bookworm"]);
        }
        if session.run(&["image", "inspect", BASE]).status != 0 {
            session.ok(&["baseos", "--bootstrap", "debian:bookworm", "--tag", BASE]);
        }
        session.ok(&["purge"]);
    });
    session
}
