//! The text of an egress rule, and back: `allow|deny[=DESTINATION[,DESTINATION]...]`, where a destination is
//! `*`, an address, a network, or a domain name (after `*.`: all names below it), and then perhaps
//! `:PORT[-PORT][/tcp|udp]`. An address of IPv6 stands in brackets if a port follows.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::str::FromStr;

use super::{Destination, EgressTerm, NamePattern, Place, Ports, Prefix, Verdict};
use crate::Protocol;

/// A text that is no egress rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a rule for egress: {reason}")]
pub struct ParseEgressError {
    text: String,
    reason: String,
}

const FORM: &str = "the form is allow|deny[=DESTINATION[:PORT[-PORT][/tcp|udp]][,...]], as in allow=10.0.0.0/8:5432 or allow=example.org:443";
const PORTS: &str =
    "ports are numbers from 1 to 65535, or ranges such as 8000-8010, then perhaps /tcp or /udp";
const BRACKETS: &str =
    "an address of IPv6 stands in brackets where a port follows, as in [2001:db8::/32]:443";
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;
/// How long a term may be, in bytes: far more than all rules that a VM may have.
const LONGEST: usize = 1 << 17;

impl FromStr for EgressTerm {
    type Err = ParseEgressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = |reason| ParseEgressError {
            text: text.chars().take(100).collect(),
            reason,
        };
        if text.len() > LONGEST {
            return Err(refused("it is too long".to_owned()));
        }
        term(text).map_err(refused)
    }
}

fn term(text: &str) -> Result<EgressTerm, String> {
    let (verdict, destinations) = match text.split_once('=') {
        Some((verdict, destinations)) => (verdict, Some(destinations)),
        None => (text, None),
    };
    let verdict = match verdict {
        "allow" => Verdict::Allow,
        "deny" => Verdict::Deny,
        _ => return Err(FORM.to_owned()),
    };
    let destinations = destinations
        .iter()
        .flat_map(|destinations| destinations.split(','))
        .map(destination)
        .collect::<Result<Vec<_>, _>>()?;
    let names = |it: &&Destination| matches!(it.place, Place::Name(_)) && it.ports.is_some();
    match destinations.iter().find(names) {
        Some(named) if verdict == Verdict::Deny => Err(format!(
            "a name is denied as a whole, by not answering for it: write deny={}",
            named.place
        )),
        _ => Ok(EgressTerm {
            verdict,
            destinations,
        }),
    }
}

fn destination(text: &str) -> Result<Destination, String> {
    let (place, ports) = split(text)?;
    Ok(Destination {
        place: parse_place(place)?,
        ports: ports.map(parse_ports).transpose()?,
    })
}

/// The place without brackets, and the ports.
fn split(text: &str) -> Result<(&str, Option<&str>), String> {
    if let Some(rest) = text.strip_prefix('[') {
        let (place, rest) = rest.split_once(']').ok_or_else(|| BRACKETS.to_owned())?;
        if !place.contains(':') {
            return Err(format!("`{place}` is not an address of IPv6"));
        }
        return match rest.strip_prefix(':') {
            None if rest.is_empty() => Ok((place, None)),
            None => Err(BRACKETS.to_owned()),
            ports => Ok((place, ports)),
        };
    }
    match text.split_once(':') {
        Some((_, rest)) if rest.contains(':') => Ok((text, None)),
        Some((place, ports)) => Ok((place, Some(ports))),
        None => Ok((text, None)),
    }
}

fn parse_place(text: &str) -> Result<Place, String> {
    if text.is_empty() {
        return Err(FORM.to_owned());
    }
    if text == "*" {
        return Ok(Place::Everywhere);
    }
    let is_v4 = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    if text.contains(':') || text.contains('/') || text.bytes().all(is_v4) {
        return parse_prefix(text).map(Place::Addresses);
    }
    parse_name(text).map(Place::Name)
}

fn parse_prefix(text: &str) -> Result<Prefix, String> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let no_address = || match text.matches(':').count() {
        0 => format!("`{text}` is neither an address nor a network, as 10.0.0.0/8 is"),
        _ => format!("`{text}` is neither an address nor a network; {BRACKETS}"),
    };
    let address: IpAddr = address.parse().map_err(|_| no_address())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        None => most,
        Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
            let parsed = bits.parse().ok().filter(|bits| *bits <= most);
            parsed.ok_or_else(|| format!("the length of a prefix is 0 to {most}, not `{bits}`"))?
        }
        Some(_) => return Err(no_address()),
    };
    if let IpAddr::V6(v6) = address
        && let Some(v4) = v6.to_ipv4_mapped()
    {
        return Err(format!("`{text}` is an address of IPv4: write {v4}"));
    }
    let prefix = Prefix::of(address, bits);
    if prefix.address == address {
        Ok(prefix)
    } else {
        Err(format!(
            "`{text}` is inside of the network {prefix}: write that"
        ))
    }
}

/// A name of the domain name system (RFC 1035, 2.3.4; RFC 2181, 11, says what else goes: underscores do).
fn parse_name(text: &str) -> Result<NamePattern, String> {
    let refused = |why: &str| Err(format!("`{text}` is not a domain name: {why}"));
    let (name, below) = match text.strip_prefix("*.") {
        Some(name) => (name, true),
        None => (text, false),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        return Err(FORM.to_owned());
    }
    if !name.is_ascii() {
        return refused("write it in its form of ASCII, which begins with xn--");
    }
    if name.contains('*') {
        return refused("`*` stands alone, or once at its beginning, as in *.example.org");
    }
    if name.len() > LONGEST_NAME {
        return refused("it has more than 253 bytes");
    }
    for label in name.split('.') {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if label.is_empty() || label.len() > LONGEST_LABEL {
            return refused("there are 1 to 63 bytes between two dots");
        }
        if !label.bytes().all(fits) || label.starts_with('-') || label.ends_with('-') {
            return refused("it has letters, digits, and hyphens between them");
        }
    }
    let last = name.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return refused("it ends in a number");
    }
    Ok(NamePattern {
        name: name.to_ascii_lowercase(),
        below,
    })
}

fn parse_ports(text: &str) -> Result<Ports, String> {
    let refused = || PORTS.to_owned();
    let (range, protocol) = match text.split_once('/') {
        None => (text, None),
        Some((range, "tcp")) => (range, Some(Protocol::Tcp)),
        Some((range, "udp")) => (range, Some(Protocol::Udp)),
        Some(_) => return Err(refused()),
    };
    let port = |text: &str| -> Result<NonZeroU16, String> {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let parsed = text.parse().ok().filter(|_| digits);
        parsed.ok_or_else(refused)
    };
    let (first, last) = match range.split_once('-') {
        None => (port(range)?, port(range)?),
        Some((first, last)) => (port(first)?, port(last)?),
    };
    if first > last {
        return Err(refused());
    }
    Ok(Ports {
        first,
        last,
        protocol,
    })
}

impl Prefix {
    /// The network of `bits` bits that an address lies in.
    fn of(address: IpAddr, bits: u8) -> Self {
        let address = match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
        };
        Self { address, bits }
    }

    fn is_single(self) -> bool {
        self.bits == if self.address.is_ipv4() { 32 } else { 128 }
    }
}

impl fmt::Display for EgressTerm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.verdict)?;
        let mut sign = '=';
        for destination in &self.destinations {
            write!(f, "{sign}{destination}")?;
            sign = ',';
        }
        Ok(())
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.place, &self.ports) {
            (place, None) => write!(f, "{place}"),
            (Place::Addresses(prefix), Some(ports)) if prefix.address.is_ipv6() => {
                write!(f, "[{prefix}]:{ports}")
            }
            (place, Some(ports)) => write!(f, "{place}:{ports}"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everywhere => f.write_str("*"),
            Self::Addresses(prefix) => write!(f, "{prefix}"),
            Self::Name(NamePattern { name, below }) => {
                write!(f, "{}{name}", if *below { "*." } else { "" })
            }
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_single() {
            write!(f, "{}", self.address)
        } else {
            write!(f, "{}/{}", self.address, self.bits)
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        if self.last != self.first {
            write!(f, "-{}", self.last)?;
        }
        match self.protocol {
            Some(protocol) => write!(f, "/{protocol}"),
            None => Ok(()),
        }
    }
}

impl TryFrom<String> for EgressTerm {
    type Error = ParseEgressError;

    fn try_from(text: String) -> Result<Self, ParseEgressError> {
        text.parse()
    }
}

impl From<EgressTerm> for String {
    fn from(term: EgressTerm) -> Self {
        term.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_form() {
        for (text, shown) in [
            ("allow", "allow"),
            ("deny", "deny"),
            ("allow=*", "allow=*"),
            ("deny=*:25/tcp", "deny=*:25/tcp"),
            ("allow=10.0.0.0/8", "allow=10.0.0.0/8"),
            ("allow=10.1.2.3", "allow=10.1.2.3"),
            ("allow=10.1.2.3/32:80", "allow=10.1.2.3:80"),
            ("allow=0.0.0.0/0:443", "allow=0.0.0.0/0:443"),
            (
                "allow=10.0.0.0/8:5432-5440/udp",
                "allow=10.0.0.0/8:5432-5440/udp",
            ),
            ("deny=2001:db8::/32", "deny=2001:db8::/32"),
            ("deny=[2001:db8::/32]", "deny=2001:db8::/32"),
            ("deny=[2001:DB8::/32]:443", "deny=[2001:db8::/32]:443"),
            ("deny=[::1]:443-443", "deny=[::1]:443"),
            ("deny=::/0", "deny=::/0"),
            ("allow=Example.ORG.:443", "allow=example.org:443"),
            ("allow=*.example.org", "allow=*.example.org"),
            ("allow=db:5432,web", "allow=db:5432,web"),
            (
                "deny=_x.a-b.org,xn--bcher-kva.example",
                "deny=_x.a-b.org,xn--bcher-kva.example",
            ),
        ] {
            let term: EgressTerm = text.parse().unwrap();
            assert_eq!(term.to_string(), shown, "{text}");
            assert_eq!(shown.parse(), Ok(term));
        }
    }

    #[test]
    fn refuses_the_rest_and_says_what_would_do() {
        let long = format!("allow={}", vec!["a".repeat(60); 5].join("."));
        let label = format!("allow={}.org", "a".repeat(64));
        for (text, expected) in [
            ("", "the form is"),
            ("reject", "the form is"),
            ("Allow", "the form is"),
            ("allow=", "the form is"),
            ("allow=a.org,", "the form is"),
            ("allow=*.", "the form is"),
            ("10.0.0.0/8", "the form is"),
            (
                "allow=10.1.2.3/8",
                "inside of the network 10.0.0.0/8: write that",
            ),
            ("allow=10.0.0.0/33", "the length of a prefix is 0 to 32"),
            ("allow=10.0.0.0/", "the length of a prefix is 0 to 32"),
            ("allow=10.0.0.0/+8", "neither an address nor a network"),
            ("allow=10.0.0.300", "neither an address nor a network"),
            ("allow=10.0.0", "neither an address nor a network"),
            ("allow=::1/129", "the length of a prefix is 0 to 128"),
            (
                "allow=2001:db8::1/32",
                "inside of the network 2001:db8::/32",
            ),
            ("allow=::ffff:10.0.0.1", "write 10.0.0.1"),
            ("allow=a:b:c", "stands in brackets"),
            ("allow=[2001:db8::1", "stands in brackets"),
            ("allow=[2001:db8::1]443", "stands in brackets"),
            ("allow=[10.0.0.1]:443", "is not an address of IPv6"),
            ("allow=10.0.0.1:0", "ports are numbers"),
            ("allow=10.0.0.1:", "ports are numbers"),
            ("allow=10.0.0.1:65536", "ports are numbers"),
            ("allow=10.0.0.1:+80", "ports are numbers"),
            ("allow=10.0.0.1:9-8", "ports are numbers"),
            ("allow=10.0.0.1:80/sctp", "ports are numbers"),
            ("allow=a.org/24", "neither an address nor a network"),
            ("allow=a..org", "1 to 63 bytes between two dots"),
            (&label, "1 to 63 bytes between two dots"),
            (&long, "more than 253 bytes"),
            ("allow=-a.org", "letters, digits, and hyphens"),
            ("allow=a b.org", "letters, digits, and hyphens"),
            ("allow=a.1", "it ends in a number"),
            ("allow=a.*.org", "once at its beginning"),
            ("allow=**.org", "once at its beginning"),
            ("allow=bücher.example", "begins with xn--"),
            ("deny=a.org:80", "write deny=a.org"),
        ] {
            let error = text.parse::<EgressTerm>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(error.len() < 600, "{error}");
        }
    }

    proptest::proptest! {
        /// Whatever is read is written so that it is read as the same.
        #[test]
        fn what_is_read_is_written_the_same(
            text in "(allow|deny)=(\\*|[0-9.]{1,9}|[0-9]{1,3}\\.0\\.0\\.0/[0-9]{1,2}|\\[?[0-9a-f:]{2,9}(/[0-9]{1,3})?\\]?|(\\*\\.)?[a-z.-]{1,12})(:[0-9]{1,5}(-[0-9]{1,5})?(/tcp|/udp)?)?"
        ) {
            if let Ok(term) = text.parse::<EgressTerm>() {
                proptest::prop_assert_eq!(term.to_string().parse(), Ok(term));
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,60}") {
            let _ = text.parse::<EgressTerm>();
        }
    }
}
