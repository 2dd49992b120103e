//! Sockets that keep a published port of the host from being given to anybody else.
//!
//! The packets never reach them: the host's rules send them on to the guest before. The sockets
//! make a conflict show before anything starts, and they go with the process that holds them.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_reuseaddr};
use rustix::net::{self, AddressFamily, Shutdown, SocketFlags, SocketType};

use crate::netlink::Netlink;
use crate::{Error, HostInterface, Listener, Protocol, PublishedPort};

/// The host's addresses and ports that a VM's published ports come to.
pub(crate) fn listeners(
    ports: &[PublishedPort],
    netlink: &mut Netlink,
) -> Result<Vec<Listener>, Error> {
    let mut listeners = Vec::new();
    for port in ports {
        let addresses = match &port.interface {
            HostInterface::All => vec![Ipv4Addr::UNSPECIFIED],
            HostInterface::Address(address) => vec![*address],
            HostInterface::Device(name) => addresses_of(name, netlink)?,
        };
        listeners.extend(addresses.into_iter().map(|address| Listener {
            address,
            host: port.host,
            guest: port.guest,
            protocol: port.protocol,
        }));
    }
    Ok(listeners)
}

fn addresses_of(name: &str, netlink: &mut Netlink) -> Result<Vec<Ipv4Addr>, Error> {
    let doing = || Error::system(format!("read the addresses of `{name}`"));
    let link = netlink.link(name).map_err(doing())?;
    let link = link.ok_or_else(|| Error::NoInterface(name.to_owned()))?;
    let addresses = netlink.addresses(link.index).map_err(doing())?;
    if addresses.is_empty() {
        return Err(Error::NoInterface(name.to_owned()));
    }
    Ok(addresses)
}

/// Reserves one port.
pub(crate) fn reserve(listener: &Listener) -> Result<OwnedFd, Error> {
    let reserved = match listener.protocol {
        Protocol::Tcp => reserve_tcp(listener),
        Protocol::Udp => reserve_udp(listener),
    };
    reserved.map_err(|source| Error::PortUnavailable {
        port: *listener,
        source,
    })
}

/// A TCP socket that is bound and does not listen, so that a connection is refused as long as no
/// rule sends it to the guest.
///
/// Bound with `SO_REUSEADDR`, because connections of a server that ended a minute ago must not
/// count. Having listened for a moment, and without `SO_REUSEADDR` from then on, it is in the way
/// of everybody else.
fn reserve_tcp(listener: &Listener) -> io::Result<OwnedFd> {
    let socket = open(SocketType::STREAM)?;
    set_socket_reuseaddr(&socket, true)?;
    net::bind(
        &socket,
        &SocketAddrV4::new(listener.address, listener.host.get()),
    )?;
    net::listen(&socket, 0)?;
    net::shutdown(&socket, Shutdown::Read)?;
    set_socket_reuseaddr(&socket, false)?;
    Ok(socket)
}

/// A UDP socket with the smallest buffer that there is: nobody reads what strays into it.
fn reserve_udp(listener: &Listener) -> io::Result<OwnedFd> {
    let socket = open(SocketType::DGRAM)?;
    set_socket_recv_buffer_size(&socket, 0)?;
    net::bind(
        &socket,
        &SocketAddrV4::new(listener.address, listener.host.get()),
    )?;
    Ok(socket)
}

fn open(kind: SocketType) -> io::Result<OwnedFd> {
    Ok(net::socket_with(
        AddressFamily::INET,
        kind,
        SocketFlags::CLOEXEC,
        None,
    )?)
}
