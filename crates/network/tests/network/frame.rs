//! Ethernet frames, byte by byte: what a guest can send that no honest kernel would.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use firebuild_network::{Attachment, Mac};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Bytes that a VMM puts before each frame: `struct virtio_net_hdr`, all zero.
const HEADER: usize = 10;
/// How long a frame that must come may take on a busy machine.
const PATIENCE_MS: u16 = 20_000;

pub(crate) const BROADCAST: [u8; 6] = [0xff; 6];

/// The guest's end of a VM's tap.
pub(crate) struct Port {
    tap: OwnedFd,
}

impl Port {
    pub(crate) fn of(attachment: &Attachment) -> Self {
        Self::on(attachment.taps().next().unwrap())
    }

    /// The guest's end of any tap.
    pub(crate) fn on(tap: BorrowedFd<'_>) -> Self {
        let tap = tap.try_clone_to_owned().unwrap();
        Self { tap }
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        let mut bytes = vec![0; HEADER];
        bytes.extend_from_slice(frame);
        assert_eq!(rustix::io::write(&self.tap, &bytes), Ok(bytes.len()));
    }

    pub(crate) fn receive(&self) -> Vec<u8> {
        let mut ready = [PollFd::new(self.tap.as_fd(), PollFlags::POLLIN)];
        let woken = poll(&mut ready, PollTimeout::from(PATIENCE_MS)).unwrap();
        assert_eq!(woken, 1, "no frame came");
        let mut bytes = vec![0; 70_000];
        let length = rustix::io::read(&self.tap, &mut bytes).unwrap();
        bytes[HEADER..length].to_vec()
    }
}

pub(crate) fn ethernet(to: [u8; 6], from: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&to[..], &from[..], &kind.to_be_bytes()[..], payload].concat();
    frame.resize(frame.len().max(60), 0);
    frame
}

/// What an ARP packet (RFC 826) says of its sender, and whom it asks.
#[derive(Clone, Copy)]
pub(crate) struct Arp {
    pub(crate) operation: u16,
    pub(crate) sender: (Mac, Ipv4Addr),
    pub(crate) target: Ipv4Addr,
}

impl Arp {
    pub(crate) fn frame(self, source: Mac) -> Vec<u8> {
        let payload = [
            &[0, 1, 8, 0, 6, 4][..],
            &self.operation.to_be_bytes()[..],
            &self.sender.0.octets()[..],
            &self.sender.1.octets()[..],
            &[0; 6][..],
            &self.target.octets()[..],
        ]
        .concat();
        ethernet(BROADCAST, source.octets(), 0x0806, &payload)
    }
}

/// An IPv4 packet (RFC 791) of an experimental protocol, with one byte of content.
pub(crate) fn ipv4(from: Ipv4Addr, to: Ipv4Addr, content: u8) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 21, 0, 0, 0, 0, 64, 253, 0, 0];
    packet.extend_from_slice(&from.octets());
    packet.extend_from_slice(&to.octets());
    let sum: u32 = packet
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let [.., high, low] = (!folded).to_be_bytes();
    packet[10] = high;
    packet[11] = low;
    packet.push(content);
    packet
}
