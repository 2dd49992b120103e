//! The ways out of a guest, by the routes of a result.

use std::net::{IpAddr, Ipv4Addr};

use super::result::Outcome;
use crate::Subnet;

/// The ways out of a guest.
pub(super) struct Ways {
    pub(super) gateway: Option<Ipv4Addr>,
    pub(super) others: Vec<(Subnet, Option<Ipv4Addr>)>,
}

impl Ways {
    /// By the routes of a result. One without any means the gateway of the address, as the
    /// original took it.
    pub(super) fn of(outcome: &Outcome, address: Ipv4Addr) -> Self {
        let of_address = outcome.ips.iter().find(|ip| ip.address.address == address);
        let own = of_address.and_then(|ip| v4(ip.gateway?));
        let mut ways = Self {
            gateway: None,
            others: Vec::new(),
        };
        for route in &outcome.routes {
            let Some(to) = v4(route.dst.address) else {
                continue;
            };
            let by = route.gw.and_then(v4);
            match Subnet::new(to, route.dst.prefix) {
                Some(_) if route.dst.prefix == 0 => ways.gateway = ways.gateway.or(by).or(own),
                Some(to) => ways.others.push((to, by.or(own))),
                None => {}
            }
        }
        if outcome.routes.is_empty() {
            ways.gateway = own;
        }
        ways
    }
}

fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}
