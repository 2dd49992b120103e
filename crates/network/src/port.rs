//! Published ports: what `-p` takes, and where on the host each one listens.
//!
//! `[interface:][host:]guest[/tcp|udp]`, where both ports may be ranges of the same length.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The transport of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Transmission control protocol.
    Tcp,
    /// User datagram protocol.
    Udp,
}

/// Where on the host a port is published.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostInterface {
    /// On every address that the host has or comes to have.
    All,
    /// On one of the host's addresses.
    Address(IpAddr),
    /// On the addresses that a network device has when the VM starts.
    Device(String),
}

/// A guest's port that is reachable on the host: `[interface:][host:]guest[/tcp|udp]`.
///
/// The interface is an address (of IPv6 in brackets) or a network device's name. Without a host port,
/// or with 0, it is one that is free when the VM starts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublishedPort {
    /// Where on the host.
    pub interface: HostInterface,
    /// The port on the host; a free one if none.
    pub host: Option<NonZeroU16>,
    /// The port in the guest.
    pub guest: NonZeroU16,
    /// The transport.
    pub protocol: Protocol,
}

/// What one `-p` publishes: a port, or a range of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedPorts(pub Vec<PublishedPort>);

/// The most ports that one `-p` publishes: each is a socket and a rule.
const MOST: u16 = 1024;

/// A text that is no published port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a port to publish: {reason}")]
pub struct ParsePortError {
    text: String,
    reason: &'static str,
}

const FORM: &str = "the form is [interface:][host:]guest[/tcp|udp], as in 8080:80";
const NUMBERS: &str = "ports are numbers from 1 to 65535, or ranges such as 8000-8010";
const LENGTHS: &str = "the ranges on the host and in the guest have to be of the same length";
const TOO_MANY: &str = "a range has 1024 ports at most";
const SINGLE: &str = "a range stands for several ports";

impl FromStr for PublishedPorts {
    type Err = ParsePortError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = |reason| ParsePortError {
            text: text.chars().take(100).collect(),
            reason,
        };
        parse(text).map(Self).map_err(refused)
    }
}

impl FromStr for PublishedPort {
    type Err = ParsePortError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let PublishedPorts(mut ports) = text.parse()?;
        match (ports.pop(), ports.is_empty()) {
            (Some(port), true) => Ok(port),
            _ => Err(ParsePortError {
                text: text.chars().take(100).collect(),
                reason: SINGLE,
            }),
        }
    }
}

fn parse(text: &str) -> Result<Vec<PublishedPort>, &'static str> {
    let (addresses, protocol) = match text.split_once('/') {
        None => (text, Protocol::Tcp),
        Some((addresses, "tcp")) => (addresses, Protocol::Tcp),
        Some((addresses, "udp")) => (addresses, Protocol::Udp),
        Some(_) => return Err("the protocol has to be tcp or udp"),
    };
    let (interface, ports) = split_interface(addresses)?;
    let (host, guest) = match ports.split_once(':') {
        None => ("", ports),
        Some((host, guest)) => (host, guest),
    };
    let (first, last) = parse_range(guest)?;
    let host = match host {
        // Written so that an interface can stand before it.
        "" if ports.starts_with(':') && interface == HostInterface::All => return Err(FORM),
        "" | "0" => None,
        range => Some(parse_range(range)?),
    };
    if host.is_some_and(|(from, to)| to - from != last - first) {
        return Err(LENGTHS);
    }
    if last - first >= MOST {
        return Err(TOO_MANY);
    }
    let number = |number: u16| NonZeroU16::new(number).ok_or(NUMBERS);
    let port = |step: u16| {
        Ok(PublishedPort {
            interface: interface.clone(),
            host: host.map(|(from, _)| number(from + step)).transpose()?,
            guest: number(first + step)?,
            protocol,
        })
    };
    (0..=last - first).map(port).collect()
}

/// The interface, if one is named, and the ports.
fn split_interface(text: &str) -> Result<(HostInterface, &str), &'static str> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or(FORM)?;
        let address: std::net::Ipv6Addr = address.parse().map_err(|_| FORM)?;
        let ports = rest.strip_prefix(':').ok_or(FORM)?;
        return Ok((HostInterface::Address(IpAddr::V6(address)), ports));
    }
    match text.split_once(':') {
        // A number is a port before it is a device's name.
        Some((first, rest)) if !first.is_empty() && !is_ports(first) => {
            Ok((parse_interface(first)?, rest))
        }
        _ => Ok((HostInterface::All, text)),
    }
}

fn is_ports(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || b == b'-')
}

/// The first and the last port of a range, or the same port twice.
fn parse_range(text: &str) -> Result<(u16, u16), &'static str> {
    if text.is_empty() {
        return Err(FORM);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>().ok().filter(|port| digits && *port != 0)
    };
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        _ => Err(NUMBERS),
    }
}

fn parse_interface(text: &str) -> Result<HostInterface, &'static str> {
    // What Linux lets a device be called (dev_valid_name), as far as it cannot be meant for an
    // address or a range of ports.
    let is_device = text.len() <= 15
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_graphic() && !b"/:[]".contains(&b));
    match text.parse() {
        Ok(Ipv4Addr::UNSPECIFIED) => Ok(HostInterface::All),
        Ok(address) => Ok(HostInterface::Address(IpAddr::V4(address))),
        Err(_) if is_device => Ok(HostInterface::Device(text.to_owned())),
        Err(_) => Err(FORM),
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl fmt::Display for HostInterface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => Ok(()),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Device(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for PublishedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.interface != HostInterface::All {
            write!(f, "{}:", self.interface)?;
        }
        if let Some(host) = self.host {
            write!(f, "{host}:")?;
        }
        write!(f, "{}/{}", self.guest, self.protocol)
    }
}

impl TryFrom<String> for PublishedPort {
    type Error = ParsePortError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PublishedPort> for String {
    fn from(port: PublishedPort) -> Self {
        port.to_string()
    }
}

/// A published port on one address of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Listener {
    /// The host's address; 0.0.0.0 and :: stand for all it has of their kind.
    pub address: IpAddr,
    /// The port on the host.
    pub host: NonZeroU16,
    /// The port in the guest.
    pub guest: NonZeroU16,
    /// The transport.
    pub protocol: Protocol,
}

impl Listener {
    /// Whether both want the same port of the same address.
    #[must_use]
    pub fn collides(&self, other: &Self) -> bool {
        let shared_address = self.address == other.address
            || (self.address.is_ipv4() == other.address.is_ipv4()
                && (self.address.is_unspecified() || other.address.is_unspecified()));
        self.protocol == other.protocol && self.host == other.host && shared_address
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = SocketAddr::new(self.address, self.host.get());
        write!(f, "{address}/{}", self.protocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_form() {
        for (text, shown) in [
            ("80", "80/tcp"),
            ("0:80", "80/tcp"),
            ("8080:80", "8080:80/tcp"),
            ("53/udp", "53/udp"),
            ("5353:53/udp", "5353:53/udp"),
            ("127.0.0.1:80", "127.0.0.1:80/tcp"),
            ("127.0.0.1::80", "127.0.0.1:80/tcp"),
            ("127.0.0.1:0:80", "127.0.0.1:80/tcp"),
            ("127.0.0.1:8080:80/tcp", "127.0.0.1:8080:80/tcp"),
            ("0.0.0.0:8080:80", "8080:80/tcp"),
            ("eth0:8080:80", "eth0:8080:80/tcp"),
            ("wlp2s0:80/udp", "wlp2s0:80/udp"),
            ("br-1:80", "br-1:80/tcp"),
            ("1:65535", "1:65535/tcp"),
            ("[::1]:80:80", "[::1]:80:80/tcp"),
            ("[fd00::1]:80/udp", "[fd00::1]:80/udp"),
            ("[::]:80:81", "[::]:80:81/tcp"),
            ("7-7:9-9", "7:9/tcp"),
        ] {
            let port: PublishedPort = text.parse().unwrap();
            assert_eq!(port.to_string(), shown, "{text}");
            assert_eq!(shown.parse(), Ok(port), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            "0",
            "65536",
            "80/sctp",
            "80/",
            "a",
            ":80",
            "80:",
            "8080:80:",
            "1:2:3:4",
            "-1",
            "+80",
            "8080-8090:80",
            "80-81",
            "::1:80",
            "::80",
            "[::1]80",
            "[::1:80",
            "[1.2.3.4]:80",
            "127.0.0:80:80",
            "a/b:80:80",
            "sixteen-letters0:80:80",
            "80:0",
            "8 0",
            "80/tcp/udp",
            "..:80:80",
        ] {
            assert!(text.parse::<PublishedPort>().is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_read_is_written_so_that_it_is_read_again(text in "[a-z0-9.:/\\[\\]]{0,24}") {
            if let Ok(port) = text.parse::<PublishedPort>() {
                proptest::prop_assert_eq!(port.to_string().parse(), Ok(port));
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,300}") {
            let _ = text.parse::<PublishedPort>();
        }

        #[test]
        fn every_port_can_be_written(
            device in "[a-z][a-z0-9_-]{0,14}",
            host: Option<NonZeroU16>,
            guest: NonZeroU16,
            protocol in proptest::sample::select(vec![Protocol::Tcp, Protocol::Udp]),
        ) {
            let interface = HostInterface::Device(device);
            let port = PublishedPort { interface, host, guest, protocol };
            proptest::prop_assert_eq!(port.to_string().parse(), Ok(port));
        }
    }

    #[test]
    fn ranges_stand_for_several() {
        let shown = |text: &str| {
            let PublishedPorts(ports) = text.parse().unwrap();
            let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
            ports.join(" ")
        };
        assert_eq!(
            shown("8000-8002:80-82/udp"),
            "8000:80/udp 8001:81/udp 8002:82/udp"
        );
        assert_eq!(shown("80-81"), "80/tcp 81/tcp");
        assert_eq!(shown("lo:1-2:3-4"), "lo:1:3/tcp lo:2:4/tcp");
        for text in [
            "8000-8001:80",
            "1-1025",
            "2-1",
            "1-",
            "-1",
            "0-1",
            "1-2-3",
            "1-65536",
        ] {
            assert!(text.parse::<PublishedPorts>().is_err(), "{text}");
        }
    }

    #[test]
    fn collisions() {
        let on = |address: [u8; 4], protocol| Listener {
            address: IpAddr::from(address),
            host: NonZeroU16::MIN,
            guest: NonZeroU16::MIN,
            protocol,
        };
        let all = on([0; 4], Protocol::Tcp);
        let one = on([127, 0, 0, 1], Protocol::Tcp);
        assert!(all.collides(&one) && one.collides(&all) && one.collides(&one));
        assert!(!one.collides(&on([127, 0, 0, 2], Protocol::Tcp)));
        assert!(!all.collides(&on([0; 4], Protocol::Udp)));
        let other_kind = Listener {
            address: std::net::Ipv6Addr::UNSPECIFIED.into(),
            ..all
        };
        assert!(!all.collides(&other_kind) && other_kind.collides(&other_kind));
    }
}
