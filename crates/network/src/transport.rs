//! Requests to the kernel over netlink, and their answers (`netlink(7)`).
//!
//! Synchronous: one request, then everything that answers it.

use std::io;
use std::os::fd::OwnedFd;

use netlink_packet_core::{NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{self, AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

/// `struct nlmsghdr`: length, type, flags, sequence, port.
const HEADER: usize = 16;

/// The kernel fills at most 32 KiB of a dump at a time.
const LONGEST: usize = 32 << 10;

/// Types below this one are netlink's own.
const FIRST_TYPE: u16 = 16;

/// A netlink socket of the network namespace that its maker's thread was in.
pub(crate) struct Transport {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Transport {
    /// Opens a socket of one of netlink's families.
    pub(crate) fn open(family: Option<Protocol>) -> io::Result<Self> {
        Ok(Self {
            socket: open_socket(family, 0)?,
            sequence: 0,
            buffer: vec![0; LONGEST],
        })
    }

    /// Sends a request, and hands the type and the content of every answer to `take` until the
    /// last. `flags` has to ask for an acknowledgement or for a dump.
    pub(crate) fn exchange(
        &mut self,
        kind: u16,
        flags: u16,
        content: &[u8],
        take: &mut dyn FnMut(u16, &[u8]),
    ) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let length = HEADER + content.len();
        let mut message = u32::try_from(length)
            .map_err(io::Error::other)?
            .to_ne_bytes()
            .to_vec();
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
        message.extend_from_slice(&self.sequence.to_ne_bytes());
        message.extend_from_slice(&[0; 4]);
        message.extend_from_slice(content);
        net::send(&self.socket, &message, SendFlags::empty())?;
        while !self.receive(take)? {}
        Ok(())
    }

    /// Reads one datagram. Returns whether the last answer was in it.
    fn receive(&mut self, take: &mut dyn FnMut(u16, &[u8])) -> io::Result<bool> {
        let (_, length) = rustix::io::retry_on_intr(|| {
            net::recv(&self.socket, &mut self.buffer[..], RecvFlags::TRUNC)
        })?;
        let mut rest = self.buffer.get(..length).ok_or_else(malformed)?;
        while !rest.is_empty() {
            let (kind, content, after) = split(rest).ok_or_else(malformed)?;
            rest = after;
            match kind {
                NLMSG_DONE => return Ok(true),
                NLMSG_ERROR => return acknowledged(content).map(|()| true),
                kind if kind >= FIRST_TYPE => take(kind, content),
                _ => {}
            }
        }
        Ok(false)
    }
}

/// Opens a socket that also hears of the events of `groups`.
pub(crate) fn open_socket(family: Option<Protocol>, groups: u32) -> io::Result<OwnedFd> {
    let kind = (SocketType::RAW, SocketFlags::CLOEXEC);
    let socket = net::socket_with(AddressFamily::NETLINK, kind.0, kind.1, family)?;
    net::bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

/// The first message's type and content, and what follows it.
fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?);
    let length = usize::try_from(length).ok()?;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let content = bytes.get(HEADER..length)?;
    let after = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, content, after))
}

fn acknowledged(content: &[u8]) -> io::Result<()> {
    match i32::from_ne_bytes(*content.first_chunk().ok_or_else(malformed)?) {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
    }
}

fn malformed() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the kernel's answer is not netlink's",
    )
}
