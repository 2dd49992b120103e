//! Tests and lints.

use std::path::Path;

use crate::{packages, shell};

/// Every test. Those that start microVMs run one at a time, because each wants a processor.
pub(crate) fn test(root: &Path) -> anyhow::Result<()> {
    packages::install(&packages::DEMO)?;
    packages::install(&packages::TEST)?;
    packages::receiver(&shell::target(root))?;
    shell::cargo(&[
        "run",
        "--quiet",
        "--package",
        "xtask",
        "--features",
        "generate",
        "--",
        "generate",
        "--check",
    ])?;
    // One run tells all that fails.
    let all = ["test", "--no-fail-fast"];
    let parts = shell::cargo(&[&all[..], &["--workspace", "--exclude", "firebuild"]].concat());
    let one = ["--package", "firebuild", "--", "--test-threads=1"];
    let whole = shell::cargo(&[&all[..], &one].concat());
    parts.and(whole)
}

/// What a change has to pass before its tests are run.
pub(crate) fn lint() -> anyhow::Result<()> {
    shell::cargo(&["fmt", "--all", "--check"])?;
    shell::cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ])
}
