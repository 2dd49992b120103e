//! Why a kernel cannot be had or cannot be booted.

use std::io;
use std::path::PathBuf;

/// Why a kernel cannot be had or cannot be booted.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// A file could not be read or written; the source names it.
    #[error("cannot {action}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// Why it failed, with the file's path.
        #[source]
        source: io::Error,
    },
    /// The file is neither an ELF kernel nor a bzImage nor a package.
    #[error("`{path}` is no kernel: expected an ELF vmlinux, a bzImage or a Debian package")]
    NotAKernel {
        /// The file.
        path: PathBuf,
    },
    /// The file looks like a kernel and cannot be booted by firebuild.
    #[error("`{path}` cannot be used as a kernel: {reason}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The package holds no kernel, or more than one.
    #[error("`{path}` holds {count} kernels, where exactly one was expected")]
    KernelCount {
        /// The package or directory.
        path: PathBuf,
        /// How many were found.
        count: usize,
    },
    /// Drivers without which no VM would come up.
    #[error("kernel `{release}` has no driver for {}", .missing.join(", "))]
    MissingDrivers {
        /// The kernel's release.
        release: String,
        /// The drivers, as the kernel's configuration names them.
        missing: Vec<String>,
    },
    /// A kernel module that cannot be used.
    #[error("kernel module `{name}` cannot be used: {reason}")]
    Module {
        /// The module's name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A tool is not installed.
    #[error("`{tool}` is not installed")]
    MissingTool {
        /// The tool's name.
        tool: &'static str,
    },
    /// A tool failed.
    #[error("`{tool}` failed: {}", telling_lines(.output))]
    Tool {
        /// The tool's name.
        tool: &'static str,
        /// What it wrote to its standard error.
        output: String,
    },
    /// A text that can name no suite of a distribution.
    #[error("`{0}` is not the name of a Debian suite, such as `bookworm`")]
    Suite(String),
    /// A mirror that the tools would take for something else.
    #[error("`{0}` is not the address of a mirror; write a URL such as `http://HOST/debian`")]
    Mirror(String),
    /// A stored kernel's facts cannot be understood.
    #[error("the facts of the kernel in `{path}` are damaged")]
    Facts {
        /// The kernel's directory.
        path: PathBuf,
        /// What is wrong with them.
        #[source]
        source: serde_json::Error,
    },
    /// This machine's processor is not the kernel's.
    #[error("kernels are fetched for amd64 only")]
    Architecture,
}

impl BootError {
    /// What a person can do about it, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::MissingTool { tool } => Some(format!("install it: `apt-get install {tool}`")),
            Self::Tool { output, .. } if is_unverified(output) => Some(
                "the archive's key is unknown here: `apt-get install debian-archive-keyring`, \
                 in the newest version that your release offers"
                    .to_owned(),
            ),
            Self::Tool { output, .. } if is_unreachable(output) => {
                Some("check the network, or name another mirror".to_owned())
            }
            Self::MissingDrivers { .. } | Self::Unusable { .. } => {
                Some("`firebuild kernel pull debian:bookworm` fetches one that works".to_owned())
            }
            _ => None,
        }
    }
}

/// For `map_err`: names what was being done.
pub(super) fn doing(action: &'static str) -> impl FnOnce(io::Error) -> BootError {
    move |source| BootError::Io { action, source }
}

fn is_unverified(output: &str) -> bool {
    ["NO_PUBKEY", "is not signed", "not verified", "EXPKEYSIG"]
        .iter()
        .any(|sign| output.contains(sign))
}

fn is_unreachable(output: &str) -> bool {
    [
        "Could not resolve",
        "Temporary failure",
        "Could not connect",
        "Connection failed",
    ]
    .iter()
    .any(|sign| output.contains(sign))
}

/// The lines that say what went wrong, in one: the tool's first errors, from which the others
/// follow, or else its last words.
fn telling_lines(output: &str) -> String {
    let lines = output
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let mut telling: Vec<&str> = lines
        .clone()
        .filter(|line| line.starts_with("E: "))
        .collect();
    telling.truncate(2);
    if telling.is_empty() {
        let lines: Vec<&str> = lines.collect();
        telling = lines[lines.len().saturating_sub(3)..].to_vec();
    }
    let text = telling
        .into_iter()
        .map(|line| line.strip_prefix("E: ").unwrap_or(line));
    text.collect::<Vec<&str>>()
        .join("; ")
        .chars()
        .take(600)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tools_failure_is_told_by_its_first_errors() {
        let output = "I: running\nErr:1 http://m x\nE: Failed to fetch http://m Could not resolve 'm'\nE: one\nE: two\n";
        let error = BootError::Tool {
            tool: "mmdebstrap",
            output: output.to_owned(),
        };
        assert_eq!(
            error.to_string(),
            "`mmdebstrap` failed: Failed to fetch http://m Could not resolve 'm'; one"
        );
        assert!(error.hint().unwrap().contains("network"));
    }
}
