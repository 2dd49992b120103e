//! What a guest knows of names beyond its networks: lines of `/etc/hosts`, and how it asks for others.

use std::net::IpAddr;

use firebuild_core::printable;
use firebuild_protocol::HOST_ADDRESS;
use firebuild_protocol::metadata::{HostEntry, Network};
use serde::{Deserialize, Serialize};

use crate::Error;

/// The most of each that there can be: it is all in the metadata, which are bounded.
const MOST: usize = 64;

/// Names that a VM is given.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct Names {
    /// More lines of `/etc/hosts`: a name, and its address, or none for that of the host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<(String, Option<IpAddr>)>,
    /// Name servers to ask for names that no VM has, in place of the host's or of those that its network
    /// by CNI names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<IpAddr>,
    /// Domains in which short names are looked up.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Options of `resolv.conf(5)`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl Names {
    /// Checks what types alone do not say.
    ///
    /// # Errors
    /// [`Error::Spec`].
    pub fn check(&self) -> Result<(), Error> {
        let no = |text: String| Err(Error::Spec(text));
        for count in [
            self.hosts.len(),
            self.servers.len(),
            self.search.len(),
            self.options.len(),
        ] {
            if count > MOST {
                return no(format!(
                    "a VM has at most {MOST} names, name servers, domains or options"
                ));
            }
        }
        let hosts = self.hosts.iter().map(|(name, _)| name);
        // A dot alone means that nothing is searched.
        let domains = self.search.iter().filter(|domain| *domain != ".");
        for name in hosts.chain(domains) {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            if name.is_empty() || name.len() > 253 || !name.bytes().all(fits) {
                return no(format!(
                    "`{}` cannot be the name of a host",
                    printable(name, 100)
                ));
            }
        }
        for option in &self.options {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_:".contains(&byte);
            if option.is_empty() || option.len() > 64 || !option.bytes().all(fits) {
                let shown = printable(option, 100);
                return no(format!(
                    "`{shown}` is no option of a resolver, such as `ndots:2`"
                ));
            }
        }
        Ok(())
    }

    /// Adds them to what a guest is told of its network.
    ///
    /// # Errors
    /// [`Error::Spec`] if the host is to have a name, and no network of the VM leads to it.
    pub(crate) fn add_to(&self, network: &mut Network) -> Result<(), Error> {
        for (name, address) in &self.hosts {
            let gateway = network.gateway.map(IpAddr::V4);
            let Some(address) = address.or(gateway) else {
                return Err(Error::Spec(format!(
                    "`{name}` cannot be this host's name: no network of the VM has a gateway"
                )));
            };
            let names = vec![name.clone()];
            network.hosts.push(HostEntry { address, names });
        }
        // Where the VM has a name server of its own, these are behind that one.
        let has_own = network.nameservers == [IpAddr::V4(HOST_ADDRESS)];
        if !self.servers.is_empty() && !has_own {
            network.nameservers.clone_from(&self.servers);
        }
        network
            .search
            .extend(self.search.iter().filter(|it| *it != ".").cloned());
        network.resolver_options.clone_from(&self.options);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(name: &str, address: Option<&str>) -> Names {
        Names {
            hosts: vec![(name.to_owned(), address.map(|it| it.parse().unwrap()))],
            ..Names::default()
        }
    }

    #[test]
    fn names_are_checked() {
        assert!(hosts("db.internal", Some("10.0.0.1")).check().is_ok());
        for bad in ["", "a b", "a\nb", "a\tb", &"x".repeat(254), "ä"] {
            assert!(hosts(bad, None).check().is_err(), "{bad:?}");
        }
        let options = |text: &str| Names {
            options: vec![text.to_owned()],
            ..Names::default()
        };
        assert!(options("ndots:2").check().is_ok());
        assert!(options("a\nnameserver 1.1.1.1").check().is_err());
    }

    #[test]
    fn the_host_is_the_gateway() {
        let mut network = Network::of([10, 0, 0, 2].into(), 24);
        assert!(hosts("host", None).add_to(&mut network).is_err());
        network.gateway = Some([10, 0, 0, 1].into());
        network.nameservers = vec![[10, 0, 0, 1].into()];
        let mut names = hosts("host", None);
        names.servers = vec!["fd00::1".parse().unwrap()];
        names.search = vec![".".to_owned(), "example".to_owned()];
        names.add_to(&mut network).unwrap();
        assert_eq!(network.hosts[0].address, IpAddr::from([10, 0, 0, 1]));
        assert_eq!(network.nameservers, names.servers);
        assert_eq!(network.search, ["example"]);
    }
}
