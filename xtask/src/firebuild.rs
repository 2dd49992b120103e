//! The built `firebuild`, as a person calls it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell;

const BASE: &str = "debian:bookworm-slim";

/// The release build.
#[derive(Debug)]
pub(crate) struct Firebuild {
    binary: PathBuf,
}

impl Firebuild {
    /// Builds it.
    pub(crate) fn built(root: &Path) -> anyhow::Result<Self> {
        shell::cargo(&["build", "--release", "--package", "firebuild"])?;
        Ok(Self {
            binary: root.join("target/release/firebuild"),
        })
    }

    /// Sees to it that there are a kernel and the base that the examples start from.
    pub(crate) fn prepare(&self) -> anyhow::Result<()> {
        if !self.has("kernel", "debian-bookworm")? {
            self.run(&["kernel", "pull", "debian:bookworm"])?;
        }
        if !self.has("image", BASE)? {
            self.run(&["baseos", "--bootstrap", "debian:bookworm", "--tag", BASE])?;
        }
        Ok(())
    }

    /// Calls it; what it writes is shown.
    pub(crate) fn run(&self, arguments: &[&str]) -> anyhow::Result<()> {
        shell::run(Command::new(&self.binary).args(arguments))
    }

    /// Whether `firebuild THING ls` has an entry that names `wanted`.
    fn has(&self, thing: &str, wanted: &str) -> anyhow::Result<bool> {
        let listed =
            shell::output(Command::new(&self.binary).args([thing, "ls", "--format", "json"]))?;
        let listed: serde_json::Value = serde_json::from_str(&listed)?;
        Ok(listed.to_string().contains(wanted))
    }
}
