//! What can go wrong with networks by CNI, by what the caller can do about it.

use std::fmt::Write as _;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// As much of what a plugin said as an error shows.
const MOST_SAID: usize = 1_000;

/// Why a network by CNI could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CniError {
    /// No configuration has this name.
    #[error("no CNI network is called `{name}` in {directories}{}", listed(broken))]
    NoNetwork {
        /// The name asked for.
        name: String,
        /// Where it was looked for.
        directories: String,
        /// The names that there are.
        known: Vec<String>,
        /// The files that could not be understood, each with why.
        broken: Vec<String>,
    },
    /// A plugin's program is not there.
    #[error("CNI network `{network}` needs the plugin `{plugin}`, which is not in {directories}")]
    PluginMissing {
        /// The network.
        network: String,
        /// The plugin.
        plugin: String,
        /// Where it was looked for.
        directories: String,
    },
    /// A plugin answered with an error.
    #[error(
        "CNI plugin `{plugin}` of network `{network}` could not {command}: {message} (code {code})"
    )]
    Refused {
        /// The network.
        network: String,
        /// The plugin.
        plugin: String,
        /// What it was asked for.
        command: &'static str,
        /// The specification's number for what went wrong; from 100 on, the plugin's own.
        code: u64,
        /// The plugin's words, with its details.
        message: String,
    },
    /// A plugin failed without saying why in the way that the specification has for it.
    #[error("CNI plugin `{plugin}` of network `{network}` failed to {command}: {said}")]
    Failed {
        /// The network.
        network: String,
        /// The plugin.
        plugin: String,
        /// What it was asked for.
        command: &'static str,
        /// How it ended, and what it wrote.
        said: String,
    },
    /// A plugin did not end, and was killed.
    #[error("CNI plugin `{plugin}` of network `{network}` took more than {} s to {command} and was killed", after.as_secs())]
    TimedOut {
        /// The network.
        network: String,
        /// The plugin.
        plugin: String,
        /// What it was asked for.
        command: &'static str,
        /// How long it was waited for.
        after: Duration,
    },
    /// A plugin answered something that is no result.
    #[error("CNI plugin `{plugin}` of network `{network}` answered what is no result: {reason}")]
    NoResult {
        /// The network.
        network: String,
        /// The plugin.
        plugin: String,
        /// Why.
        reason: String,
    },
    /// The network leaves a VM without what it needs.
    #[error("CNI network `{network}` {lacks}")]
    Unusable {
        /// The network.
        network: String,
        /// What it does not do, as the end of a sentence.
        lacks: String,
    },
    /// Ports are to be published, and no plugin of the network does that.
    #[error(
        "CNI network `{0}` publishes no ports: none of its plugins has the capability `portMappings`"
    )]
    NoPorts(String),
    /// Rules about names cannot be held in the network.
    #[error(
        "CNI network `{0}` has name servers of its own, so no egress rule can be about a name there"
    )]
    NoNames(String),
    /// The network gave another address than the one that was asked for.
    #[error("CNI network `{network}` gave address `{given}` in place of `{wanted}`")]
    OtherAddress {
        /// The network.
        network: String,
        /// The address asked for.
        wanted: Ipv4Addr,
        /// The address given.
        given: Ipv4Addr,
    },
    /// An entry of the cache of results cannot be understood.
    #[error("the cached result `{}` is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file or directory cannot be read or written.
    #[error("cannot {doing}")]
    File {
        /// What was being done, and to what.
        doing: String,
        /// The reason.
        source: io::Error,
    },
}

impl CniError {
    /// What a person can do about it, if that is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoNetwork { known, .. } if !known.is_empty() => {
                Some(format!("those that there are: {}", known.join(", ")))
            }
            Self::NoNetwork { .. } => Some(
                "write a list of plugins into a file NAME.conflist there; docs/cni.md has one, or leave `--cni-network-name` out to use the built-in network".into(),
            ),
            Self::PluginMissing { .. } => Some(
                "install it (`apt-get install containernetworking-plugins` for the usual ones) or name its directory with `--cni-bin-dir`".into(),
            ),
            Self::Refused { code: 1, .. } => Some(
                "set `cniVersion` of the network to one that all its plugins know, such as 1.0.0".into(),
            ),
            Self::NoPorts(_) => Some(
                r#"add {"type": "portmap", "capabilities": {"portMappings": true}} to its plugins"#.into(),
            ),
            Self::NoNames(_) => Some(
                "name addresses in `--egress`, or put the VM into a network of firebuild's own: `--network`".into(),
            ),
            Self::OtherAddress { .. } => Some(
                "leave the address out, or use an address plugin that can be asked for one: `host-local`, or `static` with the capability `ips`".into(),
            ),
            Self::Damaged { path, .. } => Some(format!(
                "remove `{}` and what its VM left on the network, then run `firebuild purge`",
                path.display()
            )),
            _ => None,
        }
    }

    pub(crate) fn reading(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let doing = format!("read `{}`", path.display());
        move |source| Self::File { doing, source }
    }

    pub(crate) fn writing(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let doing = format!("write `{}`", path.display());
        move |source| Self::File { doing, source }
    }
}

fn listed(broken: &[String]) -> String {
    let mut text = String::new();
    for file in broken {
        let _ = write!(text, "; {file}");
    }
    text
}

/// A plugin's words as an error shows them: printable, on one line, not too many.
pub(crate) fn words(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    line.chars()
        .filter(|c| !c.is_control())
        .take(MOST_SAID)
        .collect()
}
