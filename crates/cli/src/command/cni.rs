//! What commands take about networks by CNI.

use std::path::PathBuf;

use clap::Args;
use firebuild_machine::spec::CniNetwork;
use firebuild_network::cni::Directories;

/// The network by CNI that a VM is attached to.
#[derive(Debug, Clone, Args)]
pub(crate) struct CniArguments {
    /// Attach it to this CNI network in place of a network of firebuild's own
    #[arg(long, value_name = "NAME", value_parser = network_name, help_heading = "CNI")]
    cni_network_name: Option<String>,
    #[command(flatten)]
    directories: CniDirectories,
}

/// Where everything of CNI is.
#[derive(Debug, Clone, Args)]
pub(crate) struct CniDirectories {
    /// Where CNI's plugins are (may be repeated) [default: /opt/cni/bin, /usr/lib/cni]
    #[arg(long, value_name = "DIR", help_heading = "CNI")]
    cni_bin_dir: Vec<PathBuf>,
    /// Where CNI's networks are configured (may be repeated) [default: /etc/cni/conf.d, /etc/cni/net.d]
    #[arg(long, value_name = "DIR", help_heading = "CNI")]
    cni_conf_dir: Vec<PathBuf>,
    /// Where the results of CNI's plugins are kept [default: /var/lib/cni]
    #[arg(long, value_name = "DIR", help_heading = "CNI")]
    cni_cache_dir: Option<PathBuf>,
}

/// A network's name, as the specification has it.
pub(crate) fn network_name(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let begins = text.starts_with(|letter: char| letter.is_ascii_alphanumeric());
    if begins && text.len() <= 255 && text.bytes().all(fits) {
        return Ok(text.to_owned());
    }
    Err("names of CNI's networks are letters, digits, `.`, `_` and `-`, the first a letter or digit".to_owned())
}

impl CniArguments {
    /// The network, if there is to be one.
    pub(crate) fn network(&self) -> anyhow::Result<Option<CniNetwork>> {
        let Some(network) = self.cni_network_name.clone() else {
            return Ok(None);
        };
        Ok(Some(CniNetwork {
            network,
            directories: self.directories.directories()?,
        }))
    }
}

impl CniDirectories {
    /// The directories, as paths that mean the same to a supervisor.
    pub(crate) fn directories(&self) -> anyhow::Result<Directories> {
        let usual = Directories::default();
        let given = |paths: &[PathBuf], usual: Vec<PathBuf>| -> std::io::Result<Vec<PathBuf>> {
            match paths {
                [] => Ok(usual),
                paths => paths.iter().map(std::path::absolute).collect(),
            }
        };
        let cache = self.cni_cache_dir.as_ref().map(std::path::absolute);
        Ok(Directories {
            programs: given(&self.cni_bin_dir, usual.programs)?,
            configurations: given(&self.cni_conf_dir, usual.configurations)?,
            cache: cache.transpose()?.unwrap_or(usual.cache),
        })
    }
}
