//! Flows of UDP that the kernel remembers.
//!
//! The host's rules see the first packet of a flow only. A client that goes on sending from one
//! port would stay with the VM that had the published port before, or with the host itself if
//! there was none, for as long as it goes on. So flows to a port are forgotten whenever the port's
//! owner changes.

use std::collections::BTreeSet;
use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NlasIterator};
use rustix::io::Errno;
use rustix::net::netlink::NETFILTER;

use crate::transport::Transport;
use crate::{Error, Listener, Protocol};

// `linux/netfilter/nfnetlink_conntrack.h`: messages (of subsystem 1), then attributes.
const GET: u16 = 0x0101;
const DELETE: u16 = 0x0102;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const PROTOCOL_NUMBER: u16 = 1;
const PROTOCOL_DESTINATION_PORT: u16 = 3;
const ZONE: u16 = 18;

const UDP: u8 = 17;

/// `struct nfgenmsg`: the family, the version and a resource, of which there is none.
type Subject = [u8; 4];

/// Of IPv4 and of IPv6.
const SUBJECTS: [Subject; 2] = [[2, 0, 0, 0], [10, 0, 0, 0]];

/// Forgets the flows to published ports of UDP.
pub(crate) fn forget(listeners: &[Listener]) -> Result<(), Error> {
    let ports: BTreeSet<u16> = listeners
        .iter()
        .filter(|listener| listener.protocol == Protocol::Udp)
        .map(|listener| listener.host.get())
        .collect();
    if ports.is_empty() {
        return Ok(());
    }
    for subject in SUBJECTS {
        match forget_ports(subject, &ports) {
            // A kernel that cannot tell of its flows; those that there are end by themselves.
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {}
            other => other.map_err(Error::system("forget the flows to a published port"))?,
        }
    }
    Ok(())
}

fn forget_ports(subject: Subject, ports: &BTreeSet<u16>) -> io::Result<()> {
    let mut transport = Transport::open(Some(NETFILTER))?;
    let mut flows = Vec::new();
    transport.exchange(GET, NLM_F_DUMP, &subject, &mut |_, content| {
        flows.extend(flow_to(subject, ports, content));
    })?;
    for flow in flows {
        match transport.exchange(DELETE, NLM_F_ACK, &flow, &mut |_, _| {}) {
            // It has ended by itself.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(())
}

/// The request that deletes a flow, if the flow is of UDP and to one of the ports.
fn flow_to(subject: Subject, ports: &BTreeSet<u16>, content: &[u8]) -> Option<Vec<u8>> {
    let mut request = subject.to_vec();
    let mut is_to_port = false;
    for attribute in NlasIterator::new(content.get(subject.len()..)?) {
        let attribute = attribute.ok()?;
        if attribute.kind() == TUPLE_ORIGINAL {
            is_to_port = ports.contains(&udp_destination(attribute.value())?);
        }
        if matches!(attribute.kind(), TUPLE_ORIGINAL | ZONE) {
            let whole: &[u8] = attribute.into_inner();
            request.extend_from_slice(whole);
            request.resize(request.len().next_multiple_of(4), 0);
        }
    }
    is_to_port.then_some(request)
}

fn udp_destination(tuple: &[u8]) -> Option<u16> {
    let protocol = value_of(tuple, TUPLE_PROTOCOL)?;
    if value_of(protocol, PROTOCOL_NUMBER)? != [UDP] {
        return None;
    }
    let port = value_of(protocol, PROTOCOL_DESTINATION_PORT)?;
    Some(u16::from_be_bytes(port.try_into().ok()?))
}

fn value_of(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    let found = NlasIterator::new(attributes).find_map(|attribute| {
        let attribute = attribute.ok()?;
        (attribute.kind() == kind).then_some(attribute)
    })?;
    let length = usize::from(found.length());
    let whole: &[u8] = found.into_inner();
    whole.get(4..length)
}
