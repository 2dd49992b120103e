//! The ways out of a guest, by the routes of a result.

use std::net::{IpAddr, Ipv4Addr};

use super::result::{Address, Outcome};
use crate::{Ipv6Interface, Route, Subnet};

/// The ways out of a guest.
pub(super) struct Ways {
    pub(super) gateway: Option<Ipv4Addr>,
    pub(super) others: Vec<Route>,
}

impl Ways {
    /// By the routes of a result. One without any means the gateway of the address, as the
    /// original took it. A router that is not in the guest's own network is on the link itself.
    pub(super) fn of(outcome: &Outcome, address: Ipv4Addr, subnet: Subnet) -> Self {
        let of_address = outcome.ips.iter().find(|ip| ip.address.address == address);
        let own = of_address.and_then(|ip| v4(ip.gateway?));
        let mut gateway = None;
        let mut others = Vec::new();
        for route in &outcome.routes {
            let Some(to) = v4(route.dst.address) else {
                continue;
            };
            let by = route.gw.and_then(v4).or(own);
            match Subnet::new(to, route.dst.prefix) {
                Some(_) if route.dst.prefix == 0 => gateway = gateway.or(by),
                Some(to) => others.push(Route { to, by }),
                None => {}
            }
        }
        if outcome.routes.is_empty() {
            gateway = own;
        }
        let routers = others.iter().filter_map(|route| route.by).chain(gateway);
        let mut on_link: Vec<Route> = routers
            .filter(|router| !subnet.contains(*router))
            .map(|router| Route {
                to: Subnet::host(router),
                by: None,
            })
            .collect();
        on_link.sort();
        on_link.dedup();
        on_link.extend(others);
        Self {
            gateway,
            others: on_link,
        }
    }
}

/// What a VM has of IPv6 by one of its addresses, if that is of IPv6: its router is the one of the default
/// route, or else the one beside the address.
pub(super) fn v6(outcome: &Outcome, of: &Address) -> Option<Ipv6Interface> {
    let six = |address| match address {
        IpAddr::V6(address) => Some(address),
        IpAddr::V4(_) => None,
    };
    let beside = of.gateway.and_then(six);
    let ways = outcome.routes.iter();
    let mut ways = ways
        .filter(|route| six(route.dst.address).is_some())
        .peekable();
    // As with IPv4: no route at all means the router beside the address.
    let gateway = match ways.peek() {
        None => beside,
        Some(_) => ways
            .find(|route| route.dst.prefix == 0)
            .and_then(|route| route.gw.and_then(six).or(beside)),
    };
    Some(Ipv6Interface {
        address: six(of.address.address)?,
        prefix: of.address.prefix,
        gateway,
    })
}

fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn ways(ips: &Value, routes: &Value) -> (Option<String>, Vec<String>) {
        let value = json!({"cniVersion": "1.0.0", "ips": [ips], "routes": routes});
        let outcome = Outcome::read(value, super::super::version::Version::UNNAMED).unwrap();
        let IpAddr::V4(address) = outcome.ips[0].address.address else {
            unreachable!("it is one of IPv4");
        };
        let subnet = Subnet::new(address, outcome.ips[0].address.prefix).unwrap();
        let ways = Ways::of(&outcome, address, subnet);
        let others = ways.others.iter().map(|Route { to, by }| match by {
            Some(by) => format!("{to} by {by}"),
            None => to.to_string(),
        });
        (ways.gateway.map(|by| by.to_string()), others.collect())
    }

    #[test]
    fn the_router_of_ipv6() {
        let four = json!({"dst": "0.0.0.0/0", "gw": "10.0.0.1"});
        for (routes, gateway) in [
            (json!([]), Some("fd00::1")),
            (json!([four]), Some("fd00::1")),
            (json!([four, {"dst": "::/0"}]), Some("fd00::1")),
            (json!([{"dst": "::/0", "gw": "fe80::9"}]), Some("fe80::9")),
            (json!([{"dst": "fd01::/64"}]), None),
        ] {
            let ips = json!([
                {"address": "10.0.0.2/24", "gateway": "10.0.0.1"},
                {"address": "fd00::2/64", "gateway": "fd00::1"},
            ]);
            let value = json!({"cniVersion": "1.0.0", "ips": ips, "routes": routes});
            let outcome = Outcome::read(value, super::super::version::Version::UNNAMED).unwrap();
            assert_eq!(v6(&outcome, &outcome.ips[0]), None);
            let six = v6(&outcome, &outcome.ips[1]).unwrap();
            assert_eq!(
                (six.address.to_string(), six.prefix),
                ("fd00::2".to_owned(), 64)
            );
            let shown = six.gateway.map(|gateway| gateway.to_string());
            assert_eq!(shown.as_deref(), gateway, "{routes}");
        }
    }

    #[test]
    fn routes_of_a_result() {
        let ip = json!({"address": "10.0.0.2/24", "gateway": "10.0.0.1"});
        let alone = json!({"address": "10.0.0.2/24"});
        let host = json!({"address": "10.0.0.2/32", "gateway": "10.9.9.9"});
        for (ip, routes, gateway, others) in [
            // As the original took it.
            (&ip, json!([]), Some("10.0.0.1"), &[][..]),
            (&alone, json!([]), None, &[]),
            (&ip, json!([{"dst": "0.0.0.0/0"}]), Some("10.0.0.1"), &[]),
            (
                &ip,
                json!([{"dst": "0.0.0.0/0", "gw": "10.0.0.7"}, {"dst": "0.0.0.0/0"}]),
                Some("10.0.0.7"),
                &[],
            ),
            (
                &ip,
                json!([{"dst": "::/0", "gw": "fd00::1"}, {"dst": "10.1.0.0/16"}]),
                None,
                &["10.1.0.0/16 by 10.0.0.1"],
            ),
            (
                &alone,
                json!([{"dst": "10.1.2.3/16"}]),
                None,
                &["10.1.0.0/16"],
            ),
            (
                &host,
                json!([{"dst": "0.0.0.0/0"}]),
                Some("10.9.9.9"),
                &["10.9.9.9/32"],
            ),
            (
                &alone,
                json!([{"dst": "10.1.0.0/16", "gw": "10.9.9.9"}, {"dst": "10.2.0.0/16", "gw": "10.9.9.9"}]),
                None,
                &[
                    "10.9.9.9/32",
                    "10.1.0.0/16 by 10.9.9.9",
                    "10.2.0.0/16 by 10.9.9.9",
                ],
            ),
        ] {
            let expected = (
                gateway.map(str::to_owned),
                others.iter().map(|&other| other.to_owned()).collect(),
            );
            assert_eq!(ways(ip, &routes), expected, "{ip} {routes}");
        }
    }
}
