//! The few requests of rtnetlink(7) that a guest needs.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};

const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const REQUEST_WITH_ACKNOWLEDGEMENT: u16 = 0x5;
const CREATE: u16 = 0x400;
const REPLACE: u16 = 0x100;
const INTERNET: u8 = 2;
const INTERNET6: u8 = 10;
const LINK_UP: u32 = 1;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
const HEADER: usize = 16;

/// A socket to the kernel's routing tables.
pub(crate) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

/// A route to `destination`/`prefix` out of `device`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route {
    /// The network.
    pub(crate) destination: Ipv4Addr,
    /// The length of its prefix.
    pub(crate) prefix: u8,
    /// The next hop; none for what is on the link itself.
    pub(crate) gateway: Option<Ipv4Addr>,
    /// The device's index.
    pub(crate) device: u32,
}

impl Netlink {
    /// Opens a socket.
    pub(crate) fn open() -> io::Result<Self> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            // NETLINK_ROUTE is protocol 0.
            None,
        )?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Brings a device up, with another largest packet if one is given.
    pub(crate) fn link_up(&mut self, device: u32, mtu: Option<u32>) -> io::Result<()> {
        let mut body = vec![0; 4];
        for field in [device, LINK_UP, LINK_UP] {
            body.extend(field.to_ne_bytes());
        }
        if let Some(mtu) = mtu {
            attribute(&mut body, 4, &mtu.to_ne_bytes());
        }
        self.request(NEW_LINK, 0, &body)
    }

    /// Calls a device that is down something else: 1 to 15 bytes.
    pub(crate) fn rename(&mut self, device: u32, name: &str) -> io::Result<()> {
        let mut body = vec![0; 4];
        for field in [device, 0, 0] {
            body.extend(field.to_ne_bytes());
        }
        let mut text = name.as_bytes().to_vec();
        text.push(0);
        attribute(&mut body, 3, &text);
        self.request(NEW_LINK, 0, &body)
    }

    /// Gives a device an address of IPv6 that nobody else has, so nobody is asked first.
    pub(crate) fn address6(&mut self, device: u32, own: Ipv6Addr, prefix: u8) -> io::Result<()> {
        const NO_DUPLICATES: u8 = 2;
        let mut body = vec![INTERNET6, prefix, NO_DUPLICATES, SCOPE_UNIVERSE];
        body.extend(device.to_ne_bytes());
        attribute(&mut body, 2, &own.octets());
        attribute(&mut body, 1, &own.octets());
        self.request(NEW_ADDRESS, CREATE | REPLACE, &body)
    }

    /// Adds the default route of IPv6.
    pub(crate) fn default_route6(&mut self, device: u32, gateway: Ipv6Addr) -> io::Result<()> {
        let mut body = route_header(INTERNET6, 0, SCOPE_UNIVERSE);
        attribute(&mut body, 4, &device.to_ne_bytes());
        attribute(&mut body, 5, &gateway.octets());
        self.request(NEW_ROUTE, CREATE | REPLACE, &body)
    }

    /// Gives a device an address.
    pub(crate) fn address(&mut self, device: u32, own: Ipv4Addr, prefix: u8) -> io::Result<()> {
        let mut body = vec![INTERNET, prefix, 0, SCOPE_UNIVERSE];
        body.extend(device.to_ne_bytes());
        attribute(&mut body, 2, &own.octets());
        attribute(&mut body, 1, &own.octets());
        if prefix < 31 {
            let hosts = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
            attribute(&mut body, 4, &(u32::from(own) | hosts).to_be_bytes());
        }
        self.request(NEW_ADDRESS, CREATE | REPLACE, &body)
    }

    /// Adds a route.
    pub(crate) fn route(&mut self, route: Route) -> io::Result<()> {
        let scope = if route.gateway.is_some() {
            SCOPE_UNIVERSE
        } else {
            SCOPE_LINK
        };
        let mut body = route_header(INTERNET, route.prefix, scope);
        if route.prefix > 0 {
            attribute(&mut body, 1, &route.destination.octets());
        }
        attribute(&mut body, 4, &route.device.to_ne_bytes());
        if let Some(gateway) = route.gateway {
            attribute(&mut body, 5, &gateway.octets());
        }
        self.request(NEW_ROUTE, CREATE | REPLACE, &body)
    }

    fn request(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.sequence += 1;
        let length = u32::try_from(HEADER + body.len()).map_err(io::Error::other)?;
        let mut message = Vec::with_capacity(HEADER + body.len());
        message.extend(length.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((REQUEST_WITH_ACKNOWLEDGEMENT | flags).to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend(0_u32.to_ne_bytes());
        message.extend(body);
        let kernel = SocketAddrNetlink::new(0, 0);
        sendto(&self.socket, &message, SendFlags::empty(), &kernel)?;
        let mut answer = [0; 4096];
        let (length, _) = recv(&self.socket, &mut answer, RecvFlags::empty())?;
        acknowledged(&answer[..length.min(4096)])
    }
}

/// `struct rtmsg`: a route of the main table.
fn route_header(family: u8, prefix: u8, scope: u8) -> Vec<u8> {
    const MAIN_TABLE: u8 = 254;
    const BOOT: u8 = 3;
    const UNICAST: u8 = 1;
    let mut body = vec![family, prefix, 0, 0, MAIN_TABLE, BOOT, scope, UNICAST];
    body.extend([0; 4]);
    body
}

/// What the kernel answered: an error message with number 0 is its acknowledgement.
fn acknowledged(answer: &[u8]) -> io::Result<()> {
    const ERROR: [u8; 2] = 2_u16.to_ne_bytes();
    let code = answer
        .get(HEADER..HEADER + 4)
        .filter(|_| answer[4..6] == ERROR)
        .and_then(|bytes| bytes.try_into().ok())
        .map(i32::from_ne_bytes);
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.wrapping_neg())),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Appends an attribute: length, kind, value, padding to four bytes.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    // Values here have sixteen bytes at most.
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_the_kernels_error() {
        let mut answer = vec![0; 20];
        answer[4] = 2;
        assert!(acknowledged(&answer).is_ok());
        answer[16..20].copy_from_slice(&(-19_i32).to_ne_bytes());
        assert_eq!(acknowledged(&answer).unwrap_err().raw_os_error(), Some(19));
        assert!(acknowledged(&answer[..10]).is_err());
    }

    #[test]
    fn the_kernel_understands_what_is_sent() {
        let mut netlink = Netlink::open().unwrap();
        // No device has this index, and the kernel says so only of a message that it can parse.
        let none = 0x7fff_0000;
        let error = netlink.link_up(none, Some(1400)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(19), "{error}");
        let error = netlink
            .address(none, Ipv4Addr::new(10, 0, 0, 1), 24)
            .unwrap_err();
        assert_eq!(error.raw_os_error(), Some(19), "{error}");
        let route = Route {
            destination: Ipv4Addr::new(169, 254, 169, 252),
            prefix: 30,
            gateway: None,
            device: none,
        };
        let error = netlink.route(route).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(19), "{error}");
        let error = netlink.rename(none, "eth1").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(19), "{error}");
        let own = "fd00::7".parse().unwrap();
        let error = netlink.address6(none, own, 64).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(19), "{error}");
        let gateway = "fd00::1".parse().unwrap();
        let error = netlink.default_route6(none, gateway).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(19), "{error}");
    }
}
