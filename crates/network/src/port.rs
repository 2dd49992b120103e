//! Published ports: what `-p` takes, and where on the host each one listens.

use std::fmt;
use std::net::Ipv4Addr;
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
    Address(Ipv4Addr),
    /// On the addresses that a network device has when the VM starts.
    Device(String),
}

/// A guest's port that is reachable on the host: `[interface:][host:]guest[/tcp|udp]`.
///
/// The interface is an IPv4 address or a network device's name. Without a host port it is the
/// guest's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublishedPort {
    /// Where on the host.
    pub interface: HostInterface,
    /// The port on the host.
    pub host: NonZeroU16,
    /// The port in the guest.
    pub guest: NonZeroU16,
    /// The transport.
    pub protocol: Protocol,
}

/// A text that is no published port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a port to publish: {reason}")]
pub struct ParsePortError {
    text: String,
    reason: &'static str,
}

const FORM: &str = "the form is [interface:][host:]guest[/tcp|udp], as in 8080:80";
const RANGE: &str = "ports are numbers from 1 to 65535";
const IPV6: &str = "the interface has to be an IPv4 address or a network device";

impl FromStr for PublishedPort {
    type Err = ParsePortError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map_err(|reason| ParsePortError {
            text: text.chars().take(100).collect(),
            reason,
        })
    }
}

fn parse(text: &str) -> Result<PublishedPort, &'static str> {
    let (addresses, protocol) = match text.split_once('/') {
        None => (text, Protocol::Tcp),
        Some((addresses, "tcp")) => (addresses, Protocol::Tcp),
        Some((addresses, "udp")) => (addresses, Protocol::Udp),
        Some(_) => return Err("the protocol has to be tcp or udp"),
    };
    if addresses.contains(['[', ']']) {
        return Err(IPV6);
    }
    let parts: Vec<&str> = addresses.split(':').collect();
    let (interface, host, guest) = match parts[..] {
        [guest] => (HostInterface::All, guest, guest),
        // A number is a port before it is a device's name.
        [first, guest] if first.bytes().all(|b| b.is_ascii_digit()) => {
            (HostInterface::All, first, guest)
        }
        [interface, guest] => (parse_interface(interface)?, guest, guest),
        [interface, host, guest] => (parse_interface(interface)?, host, guest),
        _ => return Err(FORM),
    };
    Ok(PublishedPort {
        interface,
        host: parse_number(host)?,
        guest: parse_number(guest)?,
        protocol,
    })
}

fn parse_number(text: &str) -> Result<NonZeroU16, &'static str> {
    if text.is_empty() {
        return Err(FORM);
    }
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(RANGE);
    }
    text.parse().map_err(|_| RANGE)
}

fn parse_interface(text: &str) -> Result<HostInterface, &'static str> {
    // What Linux lets a device be called (dev_valid_name), as far as it cannot be meant for an
    // address or a range of ports.
    let is_device = text.len() <= 15
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_graphic() && !b"/:".contains(&b));
    match text.parse() {
        Ok(Ipv4Addr::UNSPECIFIED) => Ok(HostInterface::All),
        Ok(address) => Ok(HostInterface::Address(address)),
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

impl fmt::Display for PublishedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.interface {
            HostInterface::All => {}
            HostInterface::Address(address) => write!(f, "{address}:")?,
            HostInterface::Device(name) => write!(f, "{name}:")?,
        }
        write!(f, "{}:{}/{}", self.host, self.guest, self.protocol)
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
    /// The host's address; 0.0.0.0 stands for all it has.
    pub address: Ipv4Addr,
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
            || self.address.is_unspecified()
            || other.address.is_unspecified();
        self.protocol == other.protocol && self.host == other.host && shared_address
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.address, self.host, self.protocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_form() {
        for (text, shown) in [
            ("80", "80:80/tcp"),
            ("8080:80", "8080:80/tcp"),
            ("53/udp", "53:53/udp"),
            ("5353:53/udp", "5353:53/udp"),
            ("127.0.0.1:80", "127.0.0.1:80:80/tcp"),
            ("127.0.0.1:8080:80/tcp", "127.0.0.1:8080:80/tcp"),
            ("0.0.0.0:8080:80", "8080:80/tcp"),
            ("eth0:8080:80", "eth0:8080:80/tcp"),
            ("wlp2s0:80/udp", "wlp2s0:80:80/udp"),
            ("1:65535", "1:65535/tcp"),
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
            "[::1]:80:80",
            "::1:80",
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
            host: NonZeroU16,
            guest: NonZeroU16,
            protocol in proptest::sample::select(vec![Protocol::Tcp, Protocol::Udp]),
        ) {
            let interface = HostInterface::Device(device);
            let port = PublishedPort { interface, host, guest, protocol };
            proptest::prop_assert_eq!(port.to_string().parse(), Ok(port));
        }
    }

    #[test]
    fn collisions() {
        let on = |address: [u8; 4], protocol| Listener {
            address: address.into(),
            host: NonZeroU16::MIN,
            guest: NonZeroU16::MIN,
            protocol,
        };
        let all = on([0; 4], Protocol::Tcp);
        let one = on([127, 0, 0, 1], Protocol::Tcp);
        assert!(all.collides(&one) && one.collides(&all) && one.collides(&one));
        assert!(!one.collides(&on([127, 0, 0, 2], Protocol::Tcp)));
        assert!(!all.collides(&on([0; 4], Protocol::Udp)));
    }
}
