//! A state directory with all that microVMs need, which the tests share.

use std::path::Path;
use std::sync::OnceLock;

use crate::session::Session;

/// What the tests' images are built from.
pub(crate) const BASE: &str = "debian:bookworm-slim";

/// A session with a kernel and [`BASE`]. Fetching them takes half a minute, so they stay for the
/// next time.
pub(crate) fn session() -> Session {
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
