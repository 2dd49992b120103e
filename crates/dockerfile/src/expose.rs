//! Ports as `EXPOSE` has them: `80`, `90-92/udp`, `127.0.0.1:8080:80/tcp`.

use std::fmt;
use std::net::IpAddr;

use serde::{Serialize, Serializer};

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// `tcp`, the default.
    Tcp,
    /// `udp`
    Udp,
    /// `sctp`
    Sctp,
}

/// A port that a workload listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// Its number.
    pub number: u16,
    /// Its protocol.
    pub protocol: Protocol,
}

/// A text that is no port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParsePortError {
    /// Nothing stands where the port should.
    #[error("no port in `{0}`")]
    Missing(String),
    /// Neither tcp nor udp nor sctp.
    #[error("invalid protocol `{0}`")]
    Protocol(String),
    /// Not a number from 0 to 65535, or a range that runs backwards.
    #[error("invalid port `{0}`")]
    Port(String),
    /// Not an address where one should be.
    #[error("invalid address `{0}`")]
    Address(String),
    /// A range of host ports that is not as long as that of the workload's.
    #[error("ranges `{host}` and `{port}` have different lengths")]
    Lengths {
        /// The host's.
        host: String,
        /// The workload's.
        port: String,
    },
}

/// Reads one expanded word. A range gives several ports; a host's address and port are checked and
/// dropped, as in BuildKit.
///
/// # Errors
/// [`ParsePortError`].
pub fn parse(text: &str) -> Result<Vec<Port>, ParsePortError> {
    let (host, specification) = match text.rsplit_once(':') {
        Some((host, specification)) => (Some(host), specification),
        None => (None, text),
    };
    let (port, protocol) = specification.split_once('/').unwrap_or((specification, ""));
    if port.is_empty() {
        return Err(ParsePortError::Missing(shown(text)));
    }
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "" | "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => return Err(ParsePortError::Protocol(shown(protocol))),
    };
    let (first, last) = range(port)?;
    if let Some(host) = host {
        check_host(host, port, first, last)?;
    }
    Ok((first..=last)
        .map(|number| Port { number, protocol })
        .collect())
}

/// Whether the word names a host's address or port, which means nothing here.
#[must_use]
pub fn names_host(text: &str) -> bool {
    text.contains(':')
}

fn check_host(host: &str, port: &str, first: u16, last: u16) -> Result<(), ParsePortError> {
    let (address, host_port) = match host.rsplit_once(':') {
        Some((address, host_port)) => (address, host_port),
        None => ("", host),
    };
    let bare = address
        .strip_prefix('[')
        .and_then(|address| address.strip_suffix(']'))
        .unwrap_or(address);
    if !bare.is_empty() && bare.parse::<IpAddr>().is_err() {
        return Err(ParsePortError::Address(shown(address)));
    }
    if host_port.is_empty() {
        return Ok(());
    }
    let (host_first, host_last) = range(host_port)?;
    if first != last && last - first != host_last - host_first {
        return Err(ParsePortError::Lengths {
            host: shown(host_port),
            port: shown(port),
        });
    }
    Ok(())
}

fn range(text: &str) -> Result<(u16, u16), ParsePortError> {
    let wrong = || ParsePortError::Port(shown(text));
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse::<u16>().map_err(|_| wrong()),
        false => Err(wrong()),
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(wrong());
    }
    Ok((first, last))
}

fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol)
    }
}

impl Serialize for Port {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ports() {
        for (text, ports) in [
            ("80", "80/tcp"),
            ("53/udp", "53/udp"),
            ("53/UDP", "53/udp"),
            ("9/sctp", "9/sctp"),
            ("80/", "80/tcp"),
            ("90-92/udp", "90/udp 91/udp 92/udp"),
            ("8080:80", "80/tcp"),
            ("127.0.0.1:8080:80", "80/tcp"),
            ("127.0.0.1::80", "80/tcp"),
            ("[::1]:8080:80", "80/tcp"),
            ("::1:8080:80", "80/tcp"),
            ("8000-8010:80", "80/tcp"),
            ("8000-8001:80-81", "80/tcp 81/tcp"),
            ("65535", "65535/tcp"),
        ] {
            let read: Vec<_> = parse(text).unwrap().iter().map(Port::to_string).collect();
            assert_eq!(read.join(" "), ports, "{text}");
        }
        assert_eq!(parse("0-65535").unwrap().len(), 65_536);
    }

    #[test]
    fn refuses_the_rest() {
        let text = String::from;
        for (port, error) in [
            ("", ParsePortError::Missing(text(""))),
            ("/tcp", ParsePortError::Missing(text("/tcp"))),
            ("80/ip", ParsePortError::Protocol(text("ip"))),
            ("65536", ParsePortError::Port(text("65536"))),
            ("http", ParsePortError::Port(text("http"))),
            ("+80", ParsePortError::Port(text("+80"))),
            ("92-90", ParsePortError::Port(text("92-90"))),
            ("1-2-3", ParsePortError::Port(text("1-2-3"))),
            ("x:80", ParsePortError::Port(text("x"))),
            ("host:1:80", ParsePortError::Address(text("host"))),
            (
                "1-2:80-82",
                ParsePortError::Lengths {
                    host: text("1-2"),
                    port: text("80-82"),
                },
            ),
        ] {
            assert_eq!(parse(port), Err(error), "{port}");
        }
    }
}
