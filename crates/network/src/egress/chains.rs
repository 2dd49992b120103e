//! The egress rules as `netdev` chains of a VM's namespace, beside those of [`guard`](crate::guard).
//!
//! Frames are judged one by one, where no connection is known. So what belongs to a connection that
//! somebody else began, or that began while a name's address was open, is kept in sets of flows: other
//! address, transport, other port, own port. What must hold: a guest gets no flow by itself but where a
//! rule lets it; the sets are bounded, and once one is full, no more begins but nothing more is opened.
//!
//! A packet that is in pieces has its ports in the first one. The others pass where some port of their
//! destination is open, since they are of no use without the first.

use std::fmt::Write as _;

use super::{Destination, Egress, Place, Ports, Rule, Verdict};

/// How many flows are kept of a VM, of each kind of address.
const MOST_FLOWS: u32 = 65_536;
/// How many addresses may wait for the echo of what they sent.
const MOST_ECHOES: u32 = 4096;
/// How long a connection may take to begin, and a datagram may wait for an answer.
const BEGINNING: &str = "60s";
/// How long a flow of datagrams is kept after the last that came.
const DATAGRAMS: &str = "3m";
/// How long a connection is kept after the last that the guest sent: longer than keepalives wait.
const CONNECTION: &str = "3h";

/// Either kind of address, in the words of nft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    fn digit(self) -> char {
        match self {
            Self::V4 => '4',
            Self::V6 => '6',
        }
    }

    fn header(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }

    fn addresses(self) -> &'static str {
        match self {
            Self::V4 => "ipv4_addr",
            Self::V6 => "ipv6_addr",
        }
    }

    fn echo(self) -> &'static str {
        match self {
            Self::V4 => "icmp",
            Self::V6 => "icmpv6",
        }
    }

    fn later_piece(self) -> &'static str {
        match self {
            Self::V4 => "ip frag-off & 0x1fff != 0",
            Self::V6 => "frag frag-off != 0",
        }
    }
}

/// How a packet is refused: so that the guest is told at once, or without a word, where the kernel cannot.
pub(crate) const REFUSALS: [&str; 2] = ["reject with icmpx admin-prohibited", "drop"];

/// The set of the addresses that rule `rule` has opened by name.
pub(crate) fn names_set(rule: usize, family: Family) -> String {
    format!("names{}_{rule}", family.digit())
}

/// The counter of what rule `rule` decided about what came from the tap of number `wire`.
pub(crate) fn rule_counter(wire: usize, rule: usize) -> String {
    format!("rule{rule}_{wire}")
}

/// The counter of what was about no rule and refused, or could not be judged.
pub(crate) fn rest_counter(wire: usize) -> String {
    format!("rest_{wire}")
}

/// The counter of questions about names that were refused by no rule in particular.
pub(crate) const NAMES_COUNTER: &str = "names";

/// The sets and counters of a VM with `wires` devices.
pub(crate) fn objects(egress: &Egress, wires: usize, script: &mut String) {
    // Writing to a string cannot fail.
    for family in Family::BOTH {
        let (digit, addresses) = (family.digit(), family.addresses());
        let _ = write!(
            script,
            "    set flows{digit} {{ type {addresses} . inet_proto . inet_service . inet_service; size {MOST_FLOWS}; flags dynamic,timeout; timeout {BEGINNING}; }}\n    set echoes{digit} {{ type {addresses}; size {MOST_ECHOES}; flags dynamic,timeout; timeout 10s; }}\n"
        );
        for (index, _) in opening(egress) {
            let set = names_set(index, family);
            // Twice the room, because what has expired is not gone at once.
            let size = 2 * super::opening::MOST_ADDRESSES;
            let _ = writeln!(
                script,
                "    set {set} {{ type {addresses}; size {size}; flags timeout; timeout {BEGINNING}; }}"
            );
        }
    }
    let _ = writeln!(script, "    counter {NAMES_COUNTER} {{ }}");
    for wire in 0..wires {
        let _ = writeln!(script, "    counter {} {{ }}", rest_counter(wire));
        for rule in 0..egress.rules().len() {
            let _ = writeln!(script, "    counter {} {{ }}", rule_counter(wire, rule));
        }
    }
}

/// The rules that open addresses by name.
pub(crate) fn opening(egress: &Egress) -> impl Iterator<Item = (usize, &Rule)> {
    let rules = egress.rules().iter().enumerate();
    rules.filter(|(_, rule)| rule.name().is_some() && rule.verdict == Verdict::Allow)
}

/// What judges the packets of one kind from the tap of number `wire`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Judge<'a> {
    pub(crate) egress: &'a Egress,
    pub(crate) wire: usize,
    pub(crate) family: Family,
    /// What lets a packet pass.
    pub(crate) out: &'a str,
    /// What refuses it.
    pub(crate) refuse: &'a str,
}

impl Judge<'_> {
    /// The rules at the end of the chain of what comes from the guest. Where the kernel cannot tell the
    /// transport, because headers before it are odd, no rule could.
    pub(crate) fn entry(&self) -> String {
        let rest = rest_counter(self.wire);
        format!(
            "meta l4proto != 255 goto {}\n        counter name {rest} drop",
            self.chain("flows")
        )
    }

    /// The chains, which come before the one with the [`entry`](Self::entry).
    pub(crate) fn chains(&self, script: &mut String) {
        let (rules, flows) = (self.chain("rules"), self.chain("flows"));
        let _ = writeln!(script, "    chain {rules} {{");
        for (index, rule) in self.egress.rules().iter().enumerate() {
            for text in self.rule(index, rule) {
                let _ = writeln!(script, "        {text}");
            }
        }
        for text in self.end() {
            let _ = writeln!(script, "        {text}");
        }
        let Self { family, out, .. } = self;
        let (header, digit, echo) = (family.header(), family.digit(), family.echo());
        let flow = self.flow();
        let _ = write!(
            script,
            "    }}
    chain {flows} {{
        tcp flags & (syn | ack) == syn goto {rules}
        meta l4proto tcp tcp flags & (syn | fin | rst) == 0 {flow} @flows{digit} update @flows{digit} {{ {flow} timeout {CONNECTION} }}
        meta l4proto {{ tcp, udp }} {flow} @flows{digit} {out}
        {echo} type echo-reply {header} daddr @echoes{digit} {out}
        goto {rules}
    }}
"
        );
    }

    fn chain(&self, what: &str) -> String {
        format!("{what}{}_{}", self.family.digit(), self.wire)
    }

    /// A flow, by what the guest sends.
    fn flow(&self) -> String {
        let header = self.family.header();
        format!("{header} daddr . meta l4proto . th dport . th sport")
    }

    fn rule(&self, index: usize, rule: &Rule) -> Vec<String> {
        let Destination { place, ports } = &rule.destination;
        let Some(to) = self.addresses(index, place) else {
            return Vec::new();
        };
        let counter = rule_counter(self.wire, index);
        let (out, refuse) = (self.out, self.refuse);
        let later = self.family.later_piece();
        let pass = |what: &str| format!("{to}{what} counter name {counter} {out}");
        match (rule.verdict, place, ports) {
            // Its name is not answered for, and its addresses may be others' as well.
            (Verdict::Deny, Place::Name(_), _) => Vec::new(),
            (Verdict::Deny, _, ports) => {
                let ports = ports.map(in_ports).unwrap_or_default();
                vec![format!("{to}{ports} counter name {counter} {refuse}")]
            }
            (Verdict::Allow, Place::Name(_), ports) => {
                let digit = self.family.digit();
                let flow = self.flow();
                // Other name servers are for who allows their port.
                let some = ports.map_or_else(
                    || " meta l4proto { tcp, udp } th dport != 53".to_owned(),
                    in_ports,
                );
                let mut rules = vec![
                    format!("{to}{some} update @flows{digit} {{ {flow} timeout {BEGINNING} }}"),
                    pass(&some),
                    pass(&format!(" {later}")),
                ];
                if ports.is_none() {
                    rules.push(pass(" meta l4proto != { tcp, udp }"));
                }
                rules
            }
            (Verdict::Allow, _, None) => vec![pass("")],
            (Verdict::Allow, _, Some(ports)) => {
                vec![pass(&in_ports(*ports)), pass(&format!(" {later}"))]
            }
        }
    }

    /// What becomes of the rest.
    fn end(&self) -> Vec<String> {
        let rest = rest_counter(self.wire);
        let Self {
            egress,
            out,
            refuse,
            ..
        } = self;
        let refused = format!("counter name {rest} {refuse}");
        match egress.otherwise() {
            Verdict::Deny => vec![refused],
            // Rules about names hold for who asks the VM's own name server.
            Verdict::Allow if egress.has_names() => {
                let names = "meta l4proto { tcp, udp } th dport 53";
                vec![format!("{names} {refused}"), (*out).to_owned()]
            }
            Verdict::Allow => vec![(*out).to_owned()],
        }
    }

    /// The match of a rule's addresses; none if they are of the other kind.
    fn addresses(&self, index: usize, place: &Place) -> Option<String> {
        let header = self.family.header();
        match place {
            Place::Everywhere => Some(String::new()),
            Place::Name(_) => {
                let set = names_set(index, self.family);
                Some(format!("{header} daddr @{set}"))
            }
            Place::Addresses(prefix) => {
                let same = prefix.address.is_ipv4() == (self.family == Family::V4);
                let text = match prefix.bits {
                    0 => String::new(),
                    _ => format!("{header} daddr {prefix}"),
                };
                same.then_some(text)
            }
        }
    }
}

fn in_ports(ports: Ports) -> String {
    let transport = match ports.protocol {
        Some(protocol) => protocol.to_string(),
        None => "{ tcp, udp }".to_owned(),
    };
    let Ports { first, last, .. } = ports;
    let range = match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    format!(" meta l4proto {transport} th dport {range}")
}

/// What notes the beginnings of what comes to the guest, before it is let through.
pub(crate) fn noting(family: Family) -> String {
    let (header, digit, echo) = (family.header(), family.digit(), family.echo());
    let flow = format!("{header} saddr . meta l4proto . th sport . th dport");
    format!(
        "tcp flags & (syn | ack | fin | rst) == syn update @flows{digit} {{ {flow} timeout {BEGINNING} }}
        meta l4proto udp update @flows{digit} {{ {flow} timeout {DATAGRAMS} }}
        {echo} type echo-request update @echoes{digit} {{ {header} saddr timeout 10s }}"
    )
}
