//! The ways out of a guest, by the routes of a result.

use std::net::{IpAddr, Ipv4Addr};

use super::result::Outcome;
use crate::{Route, Subnet};

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
