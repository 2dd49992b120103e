//! The rules inside a VM's namespace: they carry frames between a tap and its cable, and let
//! through only what is the VM's own.
//!
//! What must hold, whatever the guest sends: nothing leaves with another hardware, IPv4 or IPv6 address
//! than the VM's; nothing that only routers say leaves it, and nothing of that comes to it from its
//! neighbours; the service addresses are reached by this VM only, and never from a cable; nothing
//! link-local passes but the neighbour discovery of IPv6, because at link-local addresses the clouds
//! hand the host's credentials to who asks.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::egress::Egress;
use crate::egress::chains::{self, Family, Judge};
use crate::{Error, Mac, nft};

/// The addresses of the services that firebuild offers to the one VM of a namespace.
const SERVICES: &str = "169.254.169.252/30";

/// What must not be routed (RFC 3927, 2.7).
const LINK_LOCAL: &str = "169.254.0.0/16";

/// One of a VM's devices, and what leads out of its namespace.
#[derive(Debug, Clone)]
pub(crate) struct Wire<'a> {
    /// The tap.
    pub(crate) tap: &'a str,
    /// The namespace's end of the cable; none where nothing leads out.
    pub(crate) ethernet: Option<&'a str>,
    /// The guest's hardware address.
    pub(crate) mac: Mac,
    /// The guest's address.
    pub(crate) address: Ipv4Addr,
    /// The guest's address of IPv6.
    pub(crate) address6: Option<Ipv6Addr>,
    /// Whether the services are reached through this device.
    pub(crate) services: bool,
}

/// Puts the rules for all wires into the calling thread's namespace, which has their devices, as one
/// table of family `netdev`.
pub(crate) fn install(table: &str, wires: &[Wire<'_>], egress: &Egress) -> Result<(), Error> {
    let doing = "set the rules of a VM's namespace";
    let [told, silent] = chains::REFUSALS;
    let with = |refuse| nft::run(doing, &script(table, wires, (egress, refuse)));
    match with(told) {
        // Not every kernel can answer from such a chain.
        Err(Error::Nft { .. }) if !egress.is_open() => with(silent),
        done => done,
    }
}

/// `netdev` chains see a frame as it comes from the device, before any other part of the kernel,
/// and `fwd` sends it out of another device as it is: unsegmented, its checksum still to be made.
fn script(table: &str, wires: &[Wire<'_>], (egress, refuse): (&Egress, &str)) -> String {
    let mut script = format!("table netdev {table} {{\n");
    if !egress.is_open() {
        chains::objects(egress, wires.len(), &mut script);
    }
    for (index, wire) in wires.iter().enumerate() {
        let out = wire.out();
        // Where nothing leads out there is nothing to judge.
        let judged = wire.ethernet.is_some() && !egress.is_open();
        let judge = |family| {
            judged.then_some(Judge {
                egress,
                wire: index,
                family,
                out: &out,
                refuse,
            })
        };
        from_guest(wire, &out, Family::BOTH.map(judge), &mut script);
        if let Some(ethernet) = wire.ethernet {
            to_guest(wire, ethernet, judged, &mut script);
        }
    }
    script.push_str("}\n");
    script
}

impl Wire<'_> {
    /// What becomes of what may leave the guest.
    fn out(&self) -> String {
        self.ethernet.map_or_else(
            || "drop".to_owned(),
            |device| format!("fwd to \"{device}\""),
        )
    }
}

/// The end of the chain of one kind of packets from the guest, after the chains that it needs.
fn onward(judge: Option<Judge<'_>>, out: &str, script: &mut String) -> String {
    match judge {
        None => out.to_owned(),
        Some(judge) => {
            judge.chains(script);
            judge.entry()
        }
    }
}

// Writing to a string cannot fail.
fn from_guest(wire: &Wire<'_>, out: &str, judges: [Option<Judge<'_>>; 2], script: &mut String) {
    let Wire {
        tap, mac, address, ..
    } = wire;
    let [judge4, judge6] = judges;
    let (services, arp_services) = if wire.services {
        let of = |field: &str| format!("{field} {SERVICES} accept");
        (of("ip daddr"), of("arp daddr ip"))
    } else {
        (String::new(), String::new())
    };
    // Chains come before those that go to them.
    let _ = write!(
        script,
        r#"    chain arp_from_{tap} {{
        arp htype != 1 drop
        arp ptype != ip drop
        arp hlen != 6 drop
        arp plen != 4 drop
        arp saddr ether != {mac} drop
        arp saddr ip != {address} drop
        {arp_services}
        {out}
    }}
"#
    );
    let mut ip6 = String::new();
    if let Some(address6) = wire.address6 {
        let onward = onward(judge6, out, script);
        ip6_from_guest(wire, address6, (out, &onward), script);
        ip6 = format!("ether type ip6 goto ip6_from_{tap}");
    }
    let onward = onward(judge4, out, script);
    let _ = write!(
        script,
        r#"    chain from_{tap} {{
        type filter hook ingress device "{tap}" priority 0; policy drop;
        ether saddr != {mac} drop
        ether type arp goto arp_from_{tap}
        {ip6}
        ether type != ip drop
        ip saddr != {address} drop
        {services}
        ip daddr {LINK_LOCAL} drop
        {onward}
    }}
"#
    );
}

/// Neighbour discovery (RFC 4861) begins right behind the header, comes from this link (hop limit 255),
/// and speaks of this guest: what is advertised is the guest's address, and the one option that there
/// may be, a link-layer address, is its hardware address. In bits from the message's start: the target
/// is at 64, an option's kind and length at 192, its address at 208.
fn ip6_from_guest(
    wire: &Wire<'_>,
    address6: Ipv6Addr,
    (out, onward): (&str, &str),
    script: &mut String,
) {
    let Wire { tap, mac, .. } = wire;
    let own = format!("{{ {address6}, {} }}", mac.link_local());
    let (hex, mac) = (
        |address: Ipv6Addr| format!("0x{:032x}", address.to_bits()),
        hex_of(*mac),
    );
    let targets = format!("{{ {}, {} }}", hex(address6), hex(wire.mac.link_local()));
    let _ = write!(
        script,
        r#"    chain neighbours_from_{tap} {{
        ip6 hoplimit != 255 drop
        icmpv6 code != 0 drop
        icmpv6 type nd-neighbor-solicit ip6 length 24 {out}
        icmpv6 type nd-neighbor-solicit ip6 length 32 @th,192,16 0x0101 @th,208,48 {mac} {out}
        icmpv6 type nd-neighbor-advert @th,64,128 != {targets} drop
        icmpv6 type nd-neighbor-advert ip6 length 24 {out}
        icmpv6 type nd-neighbor-advert ip6 length 32 @th,192,16 0x0201 @th,208,48 {mac} {out}
        drop
    }}
    chain ip6_from_{tap} {{
        ip6 nexthdr icmpv6 icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} ip6 saddr {own} goto neighbours_from_{tap}
        ip6 saddr != {address6} drop
        ip6 daddr {{ fe80::/10, ff00::/8, ::/64 }} drop
        meta l4proto icmpv6 icmpv6 type {ROUTERS} drop
        {onward}
    }}
"#
    );
}

/// What only routers, and who listens to them, say: solicitation, advertisement, redirection; and what
/// neighbour discovery says elsewhere than right behind the header.
const ROUTERS: &str = "{ 133, 134, 135, 136, 137 }";

fn hex_of(mac: Mac) -> String {
    let digits: String = mac
        .octets()
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect();
    format!("0x{digits}")
}

fn to_guest(wire: &Wire<'_>, ethernet: &str, judged: bool, script: &mut String) {
    let Wire {
        tap, mac, address, ..
    } = wire;
    let [noting4, noting6] = Family::BOTH.map(|family| match judged {
        true => chains::noting(family),
        false => String::new(),
    });
    let mut ip6 = String::new();
    if let Some(address6) = wire.address6 {
        ip6 = format!("ether type ip6 goto ip6_to_{tap}");
        let own = format!("{{ {address6}, {} }}", mac.link_local());
        let _ = write!(
            script,
            r#"    chain ip6_to_{tap} {{
        ip6 nexthdr icmpv6 ip6 hoplimit 255 icmpv6 type nd-neighbor-solicit @th,64,128 {{ 0x{:032x}, 0x{:032x} }} fwd to "{tap}"
        ip6 nexthdr icmpv6 ip6 hoplimit 255 icmpv6 type nd-neighbor-advert ip6 daddr {own} fwd to "{tap}"
        ip6 saddr {{ fe80::/10, ff00::/8 }} drop
        ip6 daddr != {address6} drop
        meta l4proto icmpv6 icmpv6 type {ROUTERS} drop
        {noting6}
        fwd to "{tap}"
    }}
"#,
            address6.to_bits(),
            mac.link_local().to_bits()
        );
    }
    let _ = write!(
        script,
        r#"    chain arp_to_{tap} {{
        arp htype != 1 drop
        arp ptype != ip drop
        arp hlen != 6 drop
        arp plen != 4 drop
        arp daddr ip != {address} drop
        arp saddr ip {LINK_LOCAL} drop
        fwd to "{tap}"
    }}
    chain to_{tap} {{
        type filter hook ingress device "{ethernet}" priority 0; policy drop;
        ether saddr {mac} ether daddr != {mac} drop
        ether daddr & 01:00:00:00:00:00 == 00:00:00:00:00:00 ether daddr != {mac} drop
        ether type arp goto arp_to_{tap}
        {ip6}
        ether type != ip drop
        ip saddr {LINK_LOCAL} drop
        ip daddr {LINK_LOCAL} drop
        {noting4}
        fwd to "{tap}"
    }}
"#
    );
}
