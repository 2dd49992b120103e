//! Which name servers a guest is told: those of the host's resolver, as far as a guest can reach
//! them.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use crate::Subnet;

/// Where systemd-resolved keeps the servers behind its stub at 127.0.0.53.
const BEHIND_RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// At most as many as the resolver of the C library asks (`resolv.conf(5)`).
const MOST: usize = 3;

/// The name servers for guests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resolver {
    /// These can be reached from a guest as they are.
    Direct(Vec<Ipv4Addr>),
    /// The host asks a server that only the host can reach: on its own loopback, or on its link, as
    /// the clouds have it at 169.254.169.253 and .254. Guests ask the gateway, and the host's rules
    /// send that on to this address. A server that minds where a question comes from, or a firewall
    /// that drops what comes to the host, has to let the guests' network in.
    ByGateway(Ipv4Addr),
    /// The host has none that a guest could use.
    None,
}

impl Resolver {
    /// Reads the host's configuration; one that cannot be read names no server.
    pub(crate) fn of_host(resolv_conf: &Path) -> Self {
        let read = |path: &Path| servers(&fs_err::read_to_string(path).unwrap_or_default());
        let told = read(resolv_conf);
        if told == [Ipv4Addr::new(127, 0, 0, 53)] {
            let behind = Self::chosen(read(Path::new(BEHIND_RESOLVED)));
            if matches!(behind, Self::Direct(_)) {
                return behind;
            }
        }
        Self::chosen(told)
    }

    fn chosen(told: Vec<Ipv4Addr>) -> Self {
        let first = told.first().copied();
        let direct: Vec<Ipv4Addr> = told
            .into_iter()
            .filter(|server| !is_of_host_only(*server))
            .take(MOST)
            .collect();
        match first {
            _ if !direct.is_empty() => Self::Direct(direct),
            // What the C library takes it for.
            Some(Ipv4Addr::UNSPECIFIED) => Self::ByGateway(Ipv4Addr::LOCALHOST),
            Some(server) => Self::ByGateway(server),
            None => Self::None,
        }
    }

    /// Whether one of the servers has an address of `subnet`, which would lead to the bridge.
    pub(crate) fn within(&self, subnet: Subnet) -> bool {
        matches!(self, Self::Direct(servers) if servers.iter().any(|s| subnet.contains(*s)))
    }

    /// The servers that any network with a way out leads to.
    pub(crate) fn direct(self) -> Vec<Ipv4Addr> {
        match self {
            Self::Direct(servers) => servers,
            Self::ByGateway(_) | Self::None => Vec::new(),
        }
    }
}

/// The name servers of the host, as its own programs ask them, most wanted first.
pub(crate) fn servers_of(resolv_conf: &Path) -> Vec<IpAddr> {
    let text = fs_err::read_to_string(resolv_conf).unwrap_or_default();
    let mut servers = all_servers(&text);
    servers.truncate(MOST);
    for server in &mut servers {
        // What the C library takes it for.
        if *server == IpAddr::V4(Ipv4Addr::UNSPECIFIED) {
            *server = Ipv4Addr::LOCALHOST.into();
        }
    }
    servers
}

fn is_of_host_only(server: Ipv4Addr) -> bool {
    server.is_loopback() || server.is_unspecified() || server.is_link_local()
}

/// The IPv4 name servers of a `resolv.conf(5)`: what guests of CNI's networks are told.
fn servers(text: &str) -> Vec<Ipv4Addr> {
    let all = all_servers(text).into_iter();
    all.filter_map(|server| match server {
        IpAddr::V4(server) => Some(server),
        IpAddr::V6(_) => None,
    })
    .collect()
}

/// The name servers of a `resolv.conf(5)`.
fn all_servers(text: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            (words.next() == Some("nameserver")).then(|| words.next())?
        })
        .filter_map(|server| server.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chooses_what_a_guest_can_reach() {
        let direct = |servers: &[[u8; 4]]| {
            Resolver::Direct(servers.iter().map(|s| Ipv4Addr::from(*s)).collect())
        };
        let by_gateway = |server: [u8; 4]| Resolver::ByGateway(server.into());
        for (text, expected) in [
            ("", Resolver::None),
            (
                "# nameserver 10.0.0.1\nsearch example.org\n",
                Resolver::None,
            ),
            ("nameserver fd00::1\n", Resolver::None),
            ("nameserver 10.0.0.1\n", direct(&[[10, 0, 0, 1]])),
            (
                "nameserver 127.0.0.1\nnameserver\t10.0.0.1 # b\nnameserver fe80::1%eth0\n",
                direct(&[[10, 0, 0, 1]]),
            ),
            (
                "nameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\nnameserver 10.0.0.4\n",
                direct(&[[10, 0, 0, 1], [10, 0, 0, 2], [10, 0, 0, 3]]),
            ),
            ("nameserver 127.0.0.5", by_gateway([127, 0, 0, 5])),
            (
                "nameserver 169.254.169.254",
                by_gateway([169, 254, 169, 254]),
            ),
            ("nameserver 0.0.0.0", by_gateway([127, 0, 0, 1])),
            ("nameserver\nnameserver x", Resolver::None),
        ] {
            assert_eq!(Resolver::chosen(servers(text)), expected, "{text}");
        }
    }
}
