//! Subnets and hardware addresses: pure arithmetic.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use firebuild_core::{Digest, MachineId};
use serde::{Deserialize, Serialize};

/// An IPv4 network, written `10.201.0.0/20`. The host part of its address is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    network: Ipv4Addr,
    prefix: u8,
}

/// A text that is no IPv4 network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an IPv4 network of the form 10.201.0.0/20")]
pub struct ParseSubnetError(String);

impl Subnet {
    /// The network of `prefix` bits that `address` lies in; none if `prefix` is above 32.
    #[must_use]
    pub fn new(address: Ipv4Addr, prefix: u8) -> Option<Self> {
        (prefix <= 32).then(|| Self {
            network: Ipv4Addr::from(u32::from(address) & mask(prefix)),
            prefix,
        })
    }

    /// The network of one address.
    #[must_use]
    pub fn host(address: Ipv4Addr) -> Self {
        Self {
            network: address,
            prefix: 32,
        }
    }

    /// The number of bits that all addresses of the network share: 0 to 32.
    #[must_use]
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The first address: what a bridge has in this network.
    #[must_use]
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network).saturating_add(1))
    }

    /// Whether an address lies in the network.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & mask(self.prefix) == u32::from(self.network)
    }

    /// Whether two networks have an address in common.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        if self.prefix <= other.prefix {
            self.contains(other.network)
        } else {
            other.contains(self.network)
        }
    }

    /// The network's own address: the lowest.
    #[must_use]
    pub fn network(self) -> Ipv4Addr {
        self.network
    }

    /// The addresses that somebody can have: all but the network's own and the broadcast address.
    #[must_use]
    pub fn hosts(self) -> std::ops::Range<u32> {
        let guests = self.guests();
        let first = u32::from(self.network).saturating_add(1);
        first.min(guests.end)..guests.end
    }

    /// The addresses that guests can have beside the usual gateway: all but the network's own, the gateway and the
    /// broadcast address. Empty for networks of fewer than four addresses.
    #[must_use]
    pub fn guests(self) -> std::ops::Range<u32> {
        let first = u32::from(self.network).saturating_add(2);
        let broadcast = u32::from(self.network) | !mask(self.prefix);
        first..broadcast.max(first)
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = ParseSubnetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = || {
            let (address, prefix) = text.split_once('/')?;
            let (address, prefix) = (address.parse().ok()?, prefix.parse().ok()?);
            Self::new(address, prefix).filter(|subnet| subnet.network == address)
        };
        parsed().ok_or_else(|| ParseSubnetError(text.chars().take(50).collect()))
    }
}

impl TryFrom<String> for Subnet {
    type Error = ParseSubnetError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> Self {
        subnet.to_string()
    }
}

/// An IPv6 network, written `fd00:1:2:3::/64`, of 48 to 96 bits. The host part of its address is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet6 {
    network: Ipv6Addr,
    prefix: u8,
}

/// A text that is no IPv6 network for VMs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an IPv6 network of 48 to 96 bits of the form fd00:1:2:3::/64")]
pub struct ParseSubnet6Error(String);

impl Subnet6 {
    /// A unique local network (RFC 4193) of 64 bits, the same for the same name.
    pub(crate) fn of_name(name: &str) -> Self {
        let digest = Digest::of(name.as_bytes());
        let mut octets = [0; 16];
        octets[..8].copy_from_slice(&digest.bytes()[..8]);
        octets[0] = 0xfd;
        Self {
            network: Ipv6Addr::from(octets),
            prefix: 64,
        }
    }

    /// The number of bits that all addresses of the network share.
    #[must_use]
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The first address: what a bridge has in this network.
    #[must_use]
    pub fn gateway(self) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.network.to_bits() | 1)
    }

    /// The address of a guest that has `address` in the IPv4 network beside this one: it ends in it.
    #[must_use]
    pub fn guest(self, address: Ipv4Addr) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.network.to_bits() | u128::from(address.to_bits()))
    }

    /// Whether an address lies in the network.
    #[must_use]
    pub fn contains(self, address: Ipv6Addr) -> bool {
        address.to_bits() & mask6(self.prefix) == self.network.to_bits()
    }

    /// Whether two networks have an address in common.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.network) || other.contains(self.network)
    }
}

fn mask6(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)
}

impl fmt::Display for Subnet6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl FromStr for Subnet6 {
    type Err = ParseSubnet6Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = || {
            let (address, prefix) = text.split_once('/')?;
            let (network, prefix): (Ipv6Addr, u8) = (address.parse().ok()?, prefix.parse().ok()?);
            let fits = (48..=96).contains(&prefix)
                && network.to_bits() & !mask6(prefix) == 0
                && !network.is_multicast()
                && !network.is_unicast_link_local()
                && network.to_ipv4().is_none();
            fits.then_some(Self { network, prefix })
        };
        parsed().ok_or_else(|| ParseSubnet6Error(text.chars().take(60).collect()))
    }
}

impl TryFrom<String> for Subnet6 {
    type Error = ParseSubnet6Error;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Subnet6> for String {
    fn from(subnet: Subnet6) -> Self {
        subnet.to_string()
    }
}

/// An Ethernet address, written `02:00:00:00:00:01`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac([u8; 6]);

/// A text that is no Ethernet address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a hardware address of the form 02:00:00:00:00:01")]
pub struct ParseMacError(String);

impl Mac {
    /// The address of a VM's network device: the same for the same id, and locally administered
    /// (IEEE 802, 8.2).
    #[must_use]
    pub fn of_machine(id: &MachineId) -> Self {
        Self::of_name(id.as_str())
    }

    /// The address of six octets.
    pub(crate) fn new(octets: [u8; 6]) -> Self {
        Self(octets)
    }

    /// The address of a VM's device of number `index`.
    pub(crate) fn of_device(id: &MachineId, index: usize) -> Self {
        match index {
            0 => Self::of_machine(id),
            index => Self::of_name(&format!("{id}/{index}")),
        }
    }

    pub(crate) fn of_name(name: &str) -> Self {
        let hex = Digest::of(name.as_bytes()).hex();
        let number = u64::from_str_radix(&hex[..12], 16).unwrap_or_default();
        let [_, _, first, rest @ ..] = number.to_be_bytes();
        let mut octets = [first; 6];
        octets[1..].copy_from_slice(&rest);
        // Locally administered, and no group's.
        octets[0] = (octets[0] | 0b10) & !0b01;
        Self(octets)
    }

    /// Whether a guest's device can have it: it is nobody's in particular, and not all zero.
    #[must_use]
    pub fn is_for_guests(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }

    /// The link-local address that a device of this address gives itself (RFC 4291, appendix A).
    pub(crate) fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, g] = self.0;
        let mut octets = [0; 16];
        octets[..2].copy_from_slice(&[0xfe, 0x80]);
        octets[8..].copy_from_slice(&[a ^ 2, b, c, 0xff, 0xfe, d, e, g]);
        Ipv6Addr::from(octets)
    }

    /// The six octets.
    #[must_use]
    pub fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let octets: Option<Vec<u8>> = text
            .split(':')
            .map(|part| {
                let digits = part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
                u8::from_str_radix(part, 16).ok().filter(|_| digits)
            })
            .collect();
        octets
            .and_then(|octets| octets.try_into().ok())
            .map(Self)
            .ok_or_else(|| ParseMacError(text.chars().take(50).collect()))
    }
}

impl TryFrom<String> for Mac {
    type Error = ParseMacError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets() {
        let subnet: Subnet = "10.201.0.0/20".parse().unwrap();
        assert_eq!(subnet.gateway(), Ipv4Addr::new(10, 201, 0, 1));
        assert_eq!(subnet.guests().len(), 4096 - 3);
        assert!(subnet.contains(Ipv4Addr::new(10, 201, 15, 255)));
        assert!(!subnet.contains(Ipv4Addr::new(10, 201, 16, 0)));
        for (text, overlaps) in [
            ("10.0.0.0/8", true),
            ("10.201.8.0/24", true),
            ("10.201.15.255/32", true),
            ("0.0.0.0/0", true),
            ("10.201.16.0/20", false),
            ("192.168.0.0/16", false),
        ] {
            let other: Subnet = text.parse().unwrap();
            assert_eq!(subnet.overlaps(other), overlaps, "{text}");
            assert_eq!(other.overlaps(subnet), overlaps, "{text}");
            assert_eq!(other.to_string(), text);
        }
        for text in ["", "10.0.0.0", "10.0.0.1/8", "10.0.0.0/33", "a/8", "::/0"] {
            assert!(text.parse::<Subnet>().is_err(), "{text}");
        }
        for (text, guests) in [("10.0.0.0/29", 5), ("10.0.0.0/30", 1), ("10.0.0.0/31", 0)] {
            assert_eq!(text.parse::<Subnet>().unwrap().guests().len(), guests);
        }
        assert!(
            "255.255.255.255/32"
                .parse::<Subnet>()
                .unwrap()
                .guests()
                .is_empty()
        );
    }

    #[test]
    fn subnets_of_ipv6() {
        let subnet: Subnet6 = "fd00:1:2:3::/64".parse().unwrap();
        let text = |address: Ipv6Addr| address.to_string();
        assert_eq!(text(subnet.gateway()), "fd00:1:2:3::1");
        let guest = subnet.guest(Ipv4Addr::new(10, 0, 0, 7));
        assert_eq!(text(guest), "fd00:1:2:3::a00:7");
        assert!(subnet.contains(guest));
        assert!(subnet.overlaps("fd00:1:2::/48".parse().unwrap()));
        assert!(!subnet.overlaps("fd00:1:2:4::/64".parse().unwrap()));
        let made = Subnet6::of_name("a");
        assert_eq!(made.to_string().parse(), Ok(made));
        for text in [
            "",
            "fd00::",
            "fd00::1/64",
            "fd00::/47",
            "fd00::/97",
            "fe80::/64",
            "ff02::/64",
            "::/64",
            "10.0.0.0/8",
        ] {
            assert!(text.parse::<Subnet6>().is_err(), "{text}");
        }
        let mac: Mac = "02:11:22:33:44:55".parse().unwrap();
        assert_eq!(text(mac.link_local()), "fe80::11:22ff:fe33:4455");
    }

    #[test]
    fn hardware_addresses() {
        for byte in 0..=255 {
            let mac = Mac::of_machine(&MachineId::from_random([byte; 20]));
            assert_eq!(mac.octets()[0] & 0b11, 0b10, "{mac}");
            assert_eq!(mac.to_string().parse::<Mac>(), Ok(mac));
        }
        for text in [
            "",
            "02:00:00:00:00",
            "02:00:00:00:00:00:00",
            "+2:00:00:00:00:00",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }
}
