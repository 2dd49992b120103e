//! A device in place of one that has gone before its plugin was asked to delete it.
//!
//! The plugins `bridge` and `ptp` (up to version 1.2 at least) masquerade by the address, and when
//! they delete look at the device for which addresses these were. Where the device has gone, because
//! the namespace has, or a plugin was killed half-way through, their rules would stay for ever. Where
//! the rules have gone as well, these plugins refuse: so this is a second try, whose errors tell
//! nothing.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use serde_json::Value;

use super::cache::Entry;
use super::configuration::Plugin;
use crate::netlink::Netlink;
use crate::{Error, Namespace, namespace, sys};

/// Whether the device of an entry has gone, with plugins that look for its addresses.
pub(crate) fn is_wanted(entry: &Entry) -> bool {
    let there = || {
        Netlink::of_thread()?
            .link(&entry.device)
            .map_err(Error::from)
    };
    let is_there = Namespace::at(&entry.namespace).run(there);
    let masquerades = entry.list.plugins.iter().any(masquerades);
    masquerades && !addresses(entry).is_empty() && !matches!(is_there, Ok(Ok(Some(_))))
}

/// Whether a plugin may be one of those.
pub(crate) fn masquerades(plugin: &Plugin) -> bool {
    plugin.configuration.get("ipMasq") == Some(&Value::Bool(true))
}

/// Makes a namespace, if there is none, and in it a device with the addresses of the result.
pub(crate) fn make(entry: &Entry) -> Result<(), Error> {
    let addresses = addresses(entry);
    let namespace = Namespace::at(&entry.namespace);
    let furnish = || furnish(&entry.device, &addresses);
    if let Ok(furnished) = namespace.run(furnish) {
        return furnished;
    }
    // What is there is no namespace, as after a restart of the host.
    namespace.remove()?;
    if let Some(directory) = namespace.path().parent() {
        namespace::prepare_directory(directory)?;
    }
    namespace.create(furnish)?
}

fn addresses(entry: &Entry) -> Vec<(std::net::Ipv4Addr, u8)> {
    let ips = entry.outcome.iter().flat_map(|outcome| &outcome.ips);
    ips.filter_map(|ip| match ip.address.address {
        IpAddr::V4(address) => Some((address, ip.address.prefix)),
        IpAddr::V6(_) => None,
    })
    .collect()
}

/// In the namespace.
fn furnish(device: &str, addresses: &[(std::net::Ipv4Addr, u8)]) -> Result<(), Error> {
    let mut netlink = Netlink::of_thread()?;
    let doing = || Error::system(format!("make the device `{device}` anew"));
    // A tap, because every host that runs VMs can make one. It stays when it is closed.
    let tun = fs_err::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .map_err(Error::TapMissing)?;
    let tap: OwnedFd = tun.into_parts().0.into();
    sys::make_tap(&tap, device, 0, 0).map_err(doing())?;
    let link = netlink.link(device).map_err(doing())?;
    for (address, prefix) in addresses {
        if let Some(link) = &link {
            netlink
                .add_address(link.index, *address, *prefix)
                .map_err(doing())?;
        }
    }
    Ok(())
}
