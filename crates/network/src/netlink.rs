//! Links, addresses and routes of the calling thread's network namespace, over rtnetlink.
//!
//! Synchronous: a supervisor makes a dozen requests in its life, so no connection task and no
//! runtime is worth its memory.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NetlinkDeserializable,
    NetlinkHeader, NetlinkSerializable,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth,
    LinkAttribute, LinkFlags, LinkInfo, LinkMessage, State,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::tc::{TcHandle, TcMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{self, RecvFlags};

use crate::transport::{Transport, open_socket};
use crate::{Error, Mac, Subnet};

/// A connection to the kernel's link, address and route tables of one network namespace: that of
/// the thread that opened it.
pub(crate) struct Netlink {
    transport: Transport,
}

/// What is told of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) alias: Option<String>,
    pub(crate) bridge: Option<u32>,
    pub(crate) is_bridge: bool,
    /// Whether frames pass.
    pub(crate) is_up: bool,
    /// The hardware address, of an Ethernet device.
    pub(crate) mac: Option<Mac>,
    /// The largest packet, in bytes.
    pub(crate) mtu: u32,
}

/// The table of what is the namespace's own (`RT_TABLE_LOCAL`).
const LOCAL_TABLE: u8 = 255;

/// `RTMGRP_LINK`: changes of devices.
const LINK_EVENTS: u32 = 1;

/// How long a device may take to come up. The kernel takes a second if it is in no hurry.
const MOST_WAIT: Duration = Duration::from_secs(5);

/// One end of the cable between a VM's namespace and the bridge.
pub(crate) struct Cable<'a> {
    /// The device's name in this namespace.
    pub(crate) here: &'a str,
    /// The bridge that it becomes a port of.
    pub(crate) bridge: u32,
    /// The device's name at the far end.
    pub(crate) there: &'a str,
    /// The far end's namespace.
    pub(crate) namespace: BorrowedFd<'a>,
    /// What the device is for, in words that `ip link` shows.
    pub(crate) alias: String,
}

impl Netlink {
    /// Opens the calling thread's namespace.
    pub(crate) fn of_thread() -> Result<Self, Error> {
        // rtnetlink is family 0.
        let transport = Transport::open(None).map_err(Error::system("open a netlink socket"))?;
        Ok(Self { transport })
    }

    /// Makes a bridge, or finds the one there is. Its address is fixed: without one, a bridge
    /// changes its address as ports come and go, and the guests' ARP tables go stale.
    pub(crate) fn ensure_bridge(&mut self, name: &str, mac: Mac) -> io::Result<u32> {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Address(mac.octets().to_vec()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Bridge),
                LinkInfo::Data(InfoData::Bridge(vec![InfoBridge::MulticastSnooping(false)])),
            ]),
        ];
        match self.change(
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
        ) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
        match self.link(name)? {
            Some(link) if link.is_bridge => Ok(link.index),
            Some(_) => Err(io::Error::other("a device of that name is not a bridge")),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Makes a veth pair from here to another namespace.
    ///
    /// The bridge may send a frame back where it came from: where the kernel passes bridged packets
    /// through the host's rules (Docker has it so), a guest reaches a port that it has published
    /// itself in no other way.
    pub(crate) fn lay(&mut self, cable: &Cable<'_>) -> io::Result<()> {
        let mut far = LinkMessage::default();
        far.attributes = vec![
            LinkAttribute::IfName(cable.there.to_owned()),
            LinkAttribute::NetNsFd(cable.namespace.as_raw_fd()),
        ];
        let mut near = LinkMessage::default();
        near.attributes = vec![
            LinkAttribute::IfName(cable.here.to_owned()),
            LinkAttribute::Controller(cable.bridge),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(far))),
            ]),
        ];
        self.change(
            RouteNetlinkMessage::NewLink(near),
            NLM_F_CREATE | NLM_F_EXCL,
        )?;
        // Neither is kept if it comes with the device's creation.
        let mut port = LinkMessage::default();
        port.attributes = vec![
            LinkAttribute::IfName(cable.here.to_owned()),
            LinkAttribute::IfAlias(cable.alias.clone()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::PortKind(InfoPortKind::Bridge),
                LinkInfo::PortData(InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(
                    true,
                )])),
            ]),
        ];
        self.change(RouteNetlinkMessage::NewLink(port), 0)
    }

    /// Says what a device is for, in words that `ip link` shows.
    pub(crate) fn describe(&mut self, name: &str, alias: &str) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::IfAlias(alias.to_owned()),
        ];
        self.change(RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Sets a device up.
    pub(crate) fn up(&mut self, name: &str) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message.attributes = vec![LinkAttribute::IfName(name.to_owned())];
        self.change(RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Sets the largest packet of a device, in bytes.
    pub(crate) fn set_mtu(&mut self, name: &str, mtu: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Mtu(mtu),
        ];
        self.change(RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Removes the filters that see what comes in by a device, if it has any.
    pub(crate) fn remove_ingress(&mut self, link: u32) -> io::Result<()> {
        let mut message = TcMessage::default();
        message.header.index = link.cast_signed();
        message.header.parent = TcHandle::INGRESS;
        message.header.handle = TcHandle::from(u32::from(TcHandle::INGRESS) & 0xffff_0000);
        let request = RouteNetlinkMessage::DelQueueDiscipline(message);
        match self.change(request, 0) {
            // "Cannot find specified qdisc on specified device", in either of its forms.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    || error.kind() == io::ErrorKind::InvalidInput =>
            {
                Ok(())
            }
            other => other,
        }
    }

    /// Has the namespace not take what is sent to an address of its own for its own: the address
    /// stays, and is reached as routes say.
    pub(crate) fn forget_local(&mut self, address: Ipv4Addr) -> io::Result<()> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.destination_prefix_length = 32;
        message.header.table = LOCAL_TABLE;
        message.header.scope = RouteScope::NoWhere;
        message.header.kind = RouteType::Local;
        message.attributes = vec![RouteAttribute::Destination(RouteAddress::Inet(address))];
        match self.change(RouteNetlinkMessage::DelRoute(message), 0) {
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(()),
            other => other,
        }
    }

    /// Waits until frames pass a device, or for [`MOST_WAIT`]: then they may do so later.
    ///
    /// After both ends of a cable are set up, the kernel opens the far one, and the bridge's port,
    /// from a thread of its own; the first frames would be lost.
    pub(crate) fn wait_until_up(&mut self, name: &str) -> io::Result<()> {
        let events = open_socket(None, LINK_EVENTS)?;
        let mut event = [0; 8192];
        let deadline = Instant::now() + MOST_WAIT;
        while self.link(name)?.is_some_and(|link| !link.is_up) {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(io::Error::other)?;
            let mut ready = [PollFd::new(&events, PollFlags::IN)];
            let woken = rustix::io::retry_on_intr(|| poll(&mut ready, Some(&left)))?;
            if woken == 0 {
                break;
            }
            // Something changed; what, the next question tells. Events that overflowed the socket
            // count as one.
            let _ = net::recv(&events, &mut event[..], RecvFlags::empty());
        }
        Ok(())
    }

    /// Removes a device. Returns whether there was one.
    pub(crate) fn remove(&mut self, name: &str) -> io::Result<bool> {
        let mut message = LinkMessage::default();
        message.attributes = vec![LinkAttribute::IfName(name.to_owned())];
        match self.change(RouteNetlinkMessage::DelLink(message), 0) {
            Err(error) if is_no_device(&error) => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// Removes a bridge. A device of that name that is none is somebody else's, and stays.
    pub(crate) fn remove_bridge(&mut self, name: &str) -> io::Result<()> {
        if self.link(name)?.is_some_and(|link| link.is_bridge) {
            self.remove(name)?;
        }
        Ok(())
    }

    /// A device by its name.
    pub(crate) fn link(&mut self, name: &str) -> io::Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.attributes = vec![LinkAttribute::IfName(name.to_owned())];
        match self.ask(RouteNetlinkMessage::GetLink(message), NLM_F_ACK) {
            Err(error) if is_no_device(&error) => Ok(None),
            other => Ok(other?.into_iter().find_map(told_link)),
        }
    }

    /// All devices.
    pub(crate) fn links(&mut self) -> io::Result<Vec<Link>> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let answers = self.ask(request, NLM_F_DUMP)?;
        Ok(answers.into_iter().filter_map(told_link).collect())
    }

    /// Gives a device an address, if it has it not yet.
    pub(crate) fn add_address(
        &mut self,
        link: u32,
        address: impl Into<IpAddr>,
        prefix: u8,
    ) -> io::Result<()> {
        let address = address.into();
        let mut message = AddressMessage::default();
        message.header.family = match address {
            IpAddr::V4(_) => AddressFamily::Inet,
            IpAddr::V6(_) => AddressFamily::Inet6,
        };
        message.header.prefix_len = prefix;
        message.header.index = link;
        message.attributes = vec![
            AddressAttribute::Local(address),
            AddressAttribute::Address(address),
        ];
        self.change(
            RouteNetlinkMessage::NewAddress(message),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
    }

    /// The addresses of one device, but for the link-local ones of IPv6.
    pub(crate) fn addresses(&mut self, link: u32) -> io::Result<Vec<IpAddr>> {
        let told = self.told_addresses()?.into_iter();
        let own = told.filter_map(|(of, address)| (of == link).then_some(address));
        let is_usual =
            |address: &IpAddr| !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        Ok(own.filter(is_usual).collect())
    }

    /// The addresses of all devices.
    pub(crate) fn all_addresses(&mut self) -> io::Result<Vec<IpAddr>> {
        let told = self.told_addresses()?.into_iter();
        Ok(told.map(|(_, address)| address).collect())
    }

    /// All addresses of both kinds, and the devices that they are on.
    fn told_addresses(&mut self) -> io::Result<Vec<(u32, IpAddr)>> {
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let answers = self.ask(request, NLM_F_DUMP)?;
        let told = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewAddress(told) => Some((told.header.index, address(&told)?)),
            _ => None,
        });
        Ok(told.collect())
    }

    /// Routes one address to a device.
    pub(crate) fn add_host_route(&mut self, link: u32, to: Ipv4Addr) -> io::Result<()> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.destination_prefix_length = 32;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.scope = RouteScope::Link;
        message.header.kind = RouteType::Unicast;
        message.attributes = vec![
            RouteAttribute::Destination(RouteAddress::Inet(to)),
            RouteAttribute::Oif(link),
        ];
        self.change(
            RouteNetlinkMessage::NewRoute(message),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
    }

    /// The destinations of all IPv4 routes in all tables, default routes left out, and so are the
    /// routes to devices of `but`.
    pub(crate) fn routed(&mut self, but: &[u32]) -> io::Result<Vec<Subnet>> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        let answers = self.ask(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP)?;
        Ok(answers
            .into_iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewRoute(route) => destination(&route, but),
                _ => None,
            })
            .collect())
    }

    fn change(&mut self, request: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.ask(request, NLM_F_ACK | flags).map(drop)
    }

    fn ask(
        &mut self,
        request: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut content = vec![0; request.buffer_len()];
        request.serialize(&mut content);
        let mut answers = Vec::new();
        self.transport.exchange(
            request.message_type(),
            flags,
            &content,
            &mut |kind, content| {
                let mut header = NetlinkHeader::default();
                header.message_type = kind;
                // A device or route of a sort that this library cannot read yet is none of ours.
                answers.extend(RouteNetlinkMessage::deserialize(&header, content).ok());
            },
        )?;
        Ok(answers)
    }
}

fn is_no_device(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
}

fn told_link(answer: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = answer else {
        return None;
    };
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        alias: None,
        bridge: None,
        is_bridge: false,
        is_up: false,
        mac: None,
        mtu: 0,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
            LinkAttribute::Controller(index) => link.bridge = Some(index),
            LinkAttribute::Address(octets) => link.mac = octets.try_into().ok().map(Mac::new),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::OperState(state) => link.is_up = state == State::Up,
            LinkAttribute::LinkInfo(infos) => {
                link.is_bridge = infos.contains(&LinkInfo::Kind(InfoKind::Bridge));
            }
            _ => {}
        }
    }
    Some(link)
}

/// The device's own address; of IPv6 it is told so only if the other end has another.
fn address(told: &AddressMessage) -> Option<IpAddr> {
    let find = |is_local: bool| {
        told.attributes
            .iter()
            .find_map(|attribute| match attribute {
                AddressAttribute::Local(address) if is_local => Some(*address),
                AddressAttribute::Address(address) if !is_local => Some(*address),
                _ => None,
            })
    };
    find(true).or_else(|| find(false))
}

fn destination(route: &RouteMessage, but: &[u32]) -> Option<Subnet> {
    let mut address = None;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) if but.contains(index) => return None,
            RouteAttribute::Destination(RouteAddress::Inet(to)) => address = Some(*to),
            _ => {}
        }
    }
    // A default route has no destination.
    Subnet::new(address?, route.header.destination_prefix_length)
}
