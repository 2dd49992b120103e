//! Egress rules on real namespaces: what passes, what is refused, and that it is counted.
//!
//! * [`addresses`]: rules by address, protocol and port.
//! * [`names`]: rules by name.
//! * [`pieces`]: packets that are not whole, or oddly made.

mod addresses;
mod names;
mod pieces;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use firebuild_network::{Attachment, Egress, EgressReport, Realm, Request};

use crate::rig::{Host, Net, OUTSIDE, ip, request};

/// Another address outside.
pub(super) const OTHER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 3);

pub(super) fn egress(terms: &[&str]) -> Egress {
    Egress::of(terms.iter().map(|term| term.parse().unwrap())).unwrap()
}

/// A VM with these rules.
pub(super) fn ruled(number: u8, terms: &[&str], ports: &[&str]) -> Request {
    Request {
        egress: egress(terms),
        ..request(number, ports)
    }
}

pub(super) fn reports(attachment: &Attachment, terms: &[&str]) -> Vec<EgressReport> {
    let wires = attachment.interfaces.len();
    let namespace = &attachment.namespace;
    let reports = egress(terms).reports(&Realm::default(), namespace, wires);
    reports.unwrap().into_iter().map(Option::unwrap).collect()
}

pub(super) fn report(attachment: &Attachment, terms: &[&str]) -> EgressReport {
    reports(attachment, terms).swap_remove(0)
}

pub(super) fn matched(report: &EgressReport) -> Vec<bool> {
    report.rules.iter().map(|rule| rule.matched > 0).collect()
}

/// Whether a TCP connection is refused, and not just left without an answer.
pub(super) fn is_refused_at_once(net: &Net, address: impl Into<IpAddr>, port: u16) -> bool {
    let address = SocketAddr::new(address.into(), port);
    net.run(|| {
        let error = TcpStream::connect_timeout(&address, Duration::from_secs(20)).unwrap_err();
        error.kind() != std::io::ErrorKind::TimedOut
    })
}

pub(super) fn answers_ping(net: &Net, address: impl Into<IpAddr>) -> bool {
    let address = address.into().to_string();
    net.run(|| {
        let mut ping = std::process::Command::new("ping");
        let output = ping.args(["-c1", "-W2", &address]).output();
        output.expect("the program ping").status.success()
    })
}

/// The outside, with a second address and some services on both.
pub(super) fn services(host: &Host) {
    let outside = &host.outside;
    outside.run(|| ip(&format!("address add {OTHER}/32 dev wan1")));
    for address in [OUTSIDE, OTHER] {
        for port in [80, 81] {
            outside.serve_tcp(address, port);
            outside.serve_udp(address, port);
        }
    }
}
