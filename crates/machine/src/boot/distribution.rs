//! Fetching a distribution's kernel with the distribution's own tools, which check signatures.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use super::error::{BootError, doing};
use super::kernel::{KernelFacts, import_root, scratch};

const TOOL: &str = "mmdebstrap";
const PACKAGE: &str = "linux-image-cloud-amd64";

/// Fetches Debian's cloud kernel of `suite` (`bookworm`, `trixie`), from `mirror` or from where
/// the tool finds it, into the directory `into`, which exists and is empty.
///
/// # Errors
/// [`BootError`] if the tool is missing or fails (no network, a signature that cannot be
/// verified), or if the kernel lacks what a VM needs. `into` is then the caller's to throw away.
pub fn pull(suite: &str, mirror: Option<&str>, into: &Path) -> Result<KernelFacts, BootError> {
    if std::env::consts::ARCH != "x86_64" {
        return Err(BootError::Architecture);
    }
    check_words(suite, mirror)?;
    let root = scratch(into)?;
    let mut command = Command::new(TOOL);
    command
        .args([
            "--variant=extract",
            "--architectures=amd64",
            "--format=directory",
        ])
        .arg(format!("--include={PACKAGE}"))
        .arg(suite)
        .arg(root.path())
        .args(mirror)
        .stdin(Stdio::null());
    let output = match command.output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(BootError::MissingTool { tool: TOOL });
        }
        other => other.map_err(doing("start `mmdebstrap`"))?,
    };
    if !output.status.success() {
        let output = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(BootError::Tool { tool: TOOL, output });
    }
    import_root(root.path(), into)
}

/// The id under which a kernel of Debian's is kept: `debian-bookworm-6.1.0-56-cloud-amd64`.
#[must_use]
pub fn id(suite: &str, facts: &KernelFacts) -> String {
    format!("debian-{suite}-{}", facts.release)
}

/// Keeps words out of the tool's command line that it would take for options or files.
fn check_words(suite: &str, mirror: Option<&str>) -> Result<(), BootError> {
    let named = suite.starts_with(|c: char| c.is_ascii_alphanumeric())
        && suite
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
    if !named {
        return Err(BootError::Suite(suite.to_owned()));
    }
    match mirror {
        Some(mirror) if !mirror.contains("://") || mirror.contains(char::is_whitespace) => {
            Err(BootError::Mirror(mirror.to_owned()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_and_addresses_reach_the_tool() {
        assert!(check_words("bookworm", None).is_ok());
        assert!(check_words("trixie", Some("http://mirror/debian")).is_ok());
        for suite in ["", "-x", "../x", "a b"] {
            assert!(
                matches!(check_words(suite, None), Err(BootError::Suite(_))),
                "{suite}"
            );
        }
        for mirror in ["", "-", "/etc/passwd", "deb http://m x main"] {
            let result = check_words("bookworm", Some(mirror));
            assert!(matches!(result, Err(BootError::Mirror(_))), "{mirror}");
        }
    }

    #[test]
    fn a_mirror_that_is_not_there_is_told_and_leaves_nothing() {
        let into = tempfile::tempdir().unwrap();
        let error = pull("bookworm", Some("http://127.0.0.1:9/debian"), into.path()).unwrap_err();
        assert!(matches!(error, BootError::Tool { .. }), "{error}");
        assert!(error.hint().is_some(), "{error}");
        assert_eq!(fs_err::read_dir(into.path()).unwrap().count(), 0);
    }
}
