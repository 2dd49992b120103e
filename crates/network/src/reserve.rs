//! Sockets that keep a published port of the host from being given to anybody else.
//!
//! The packets never reach them: the host's rules send them on to the guest before. The sockets
//! make a conflict show before anything starts, and they go with the process that holds them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;

use rustix::net::sockopt::{set_ipv6_v6only, set_socket_recv_buffer_size, set_socket_reuseaddr};
use rustix::net::{self, AddressFamily, Shutdown, SocketFlags, SocketType};

use crate::netlink::Netlink;
use crate::{Error, HostInterface, Listener, Protocol, PublishedPort};

/// How often another free port is tried where one of several addresses has it not free.
const MOST_TRIES: usize = 50;

/// The host's addresses and ports that a VM's published ports come to; of IPv6 only if the VM has it.
/// Where no port of the host was named, one is chosen that is free now.
pub(crate) fn listeners(
    ports: &[PublishedPort],
    netlink: &mut Netlink,
    ipv6: bool,
) -> Result<Vec<Listener>, Error> {
    let mut listeners: Vec<Listener> = Vec::new();
    for port in ports {
        let addresses = addresses(&port.interface, netlink, ipv6)?;
        let at = |host| {
            let listener = move |address| Listener {
                address,
                host,
                guest: port.guest,
                protocol: port.protocol,
            };
            addresses.iter().copied().map(listener).collect::<Vec<_>>()
        };
        let chosen = match port.host {
            Some(host) => at(host),
            None => free(&addresses, port, &listeners, &at)?,
        };
        listeners.extend(chosen);
    }
    Ok(listeners)
}

fn addresses(
    interface: &HostInterface,
    netlink: &mut Netlink,
    ipv6: bool,
) -> Result<Vec<IpAddr>, Error> {
    let no = |text: String| Err(Error::Definition(text));
    let mut addresses = match interface {
        HostInterface::All => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        HostInterface::Address(IpAddr::V6(Ipv6Addr::LOCALHOST)) => {
            return no("no port can be published on `::1`: the kernel leads nothing away from it; 127.0.0.1 can be used".to_owned());
        }
        HostInterface::Address(address) if address.is_ipv6() && !ipv6 => {
            return no(format!(
                "no port can be published on `{address}`: the VM is in no network that has IPv6 and a way out"
            ));
        }
        HostInterface::Address(address) => vec![*address],
        HostInterface::Device(name) => addresses_of(name, netlink)?,
    };
    addresses.retain(|address| ipv6 || address.is_ipv4());
    if addresses.is_empty() {
        return Err(Error::NoInterface(interface.to_string()));
    }
    Ok(addresses)
}

fn addresses_of(name: &str, netlink: &mut Netlink) -> Result<Vec<IpAddr>, Error> {
    let doing = || Error::system(format!("read the addresses of `{name}`"));
    let link = netlink.link(name).map_err(doing())?;
    let link = link.ok_or_else(|| Error::NoInterface(name.to_owned()))?;
    netlink.addresses(link.index).map_err(doing())
}

/// A port that is free on all of some addresses, and that is none of `others`.
fn free(
    addresses: &[IpAddr],
    port: &PublishedPort,
    others: &[Listener],
    at: &dyn Fn(NonZeroU16) -> Vec<Listener>,
) -> Result<Vec<Listener>, Error> {
    let mut refused = None;
    // Held for as long as it is looked, lest the kernel offer the same again.
    let mut held = Vec::new();
    for _ in 0..MOST_TRIES {
        let first = addresses
            .first()
            .copied()
            .unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        let any = SocketAddr::new(first, 0);
        let offered = bound(port.protocol, any).and_then(|socket| {
            let address = SocketAddr::try_from(net::getsockname(&socket)?)?;
            Ok((socket, address.port()))
        });
        let (socket, number) = offered.map_err(Error::system("find a free port of the host"))?;
        let Some(number) = NonZeroU16::new(number) else {
            continue;
        };
        let listeners = at(number);
        let is_taken = |listener: &Listener| others.iter().any(|other| other.collides(listener));
        let mut rest = listeners.iter().skip(1).map(reserve);
        match rest.find_map(Result::err) {
            None if !listeners.iter().any(is_taken) => return Ok(listeners),
            error => refused = error.or(refused),
        }
        held.push(socket);
    }
    Err(refused
        .unwrap_or_else(|| Error::Definition(format!("no free port was found for `{port}`"))))
}

/// Reserves one port.
pub(crate) fn reserve(listener: &Listener) -> Result<OwnedFd, Error> {
    let address = SocketAddr::new(listener.address, listener.host.get());
    bound(listener.protocol, address).map_err(|source| Error::PortUnavailable {
        port: *listener,
        source,
    })
}

fn bound(protocol: Protocol, address: SocketAddr) -> io::Result<OwnedFd> {
    match protocol {
        Protocol::Tcp => reserve_tcp(address),
        Protocol::Udp => reserve_udp(address),
    }
}

/// A TCP socket that is bound and does not listen, so that a connection is refused as long as no
/// rule sends it to the guest.
///
/// Bound with `SO_REUSEADDR`, because connections of a server that ended a minute ago must not
/// count. Having listened for a moment, and without `SO_REUSEADDR` from then on, it is in the way
/// of everybody else.
fn reserve_tcp(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = open(SocketType::STREAM, address)?;
    set_socket_reuseaddr(&socket, true)?;
    net::bind(&socket, &address)?;
    net::listen(&socket, 0)?;
    net::shutdown(&socket, Shutdown::Read)?;
    set_socket_reuseaddr(&socket, false)?;
    Ok(socket)
}

/// A UDP socket with the smallest buffer that there is: nobody reads what strays into it.
fn reserve_udp(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = open(SocketType::DGRAM, address)?;
    set_socket_recv_buffer_size(&socket, 0)?;
    net::bind(&socket, &address)?;
    Ok(socket)
}

fn open(kind: SocketType, address: SocketAddr) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    if address.is_ipv6() {
        // The same port of IPv4 is another's, or has a socket of its own.
        set_ipv6_v6only(&socket, true)?;
    }
    Ok(socket)
}
