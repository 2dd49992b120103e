//! The host's rules: masquerading, published ports, and what may pass to and from the bridges.
//!
//! One table of firebuild's own, and rules in the firewalls of the host that would drop what is
//! forwarded. What belongs to one VM are elements of two maps, marked with its id.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use firebuild_core::{Digest, MachineId};
use serde_json::Value;

use crate::lease::{Lease, Leases, Link, Segment};
use crate::name::{machine_mark, marked_machine};
use crate::{Error, Listener, Realm, firewall, nft};

/// Ports on every address of the host.
const ANYWHERE: &str = "ports";
/// Ports on one address of the host.
const ON_ADDRESS: &str = "address_ports";
/// The same of IPv6.
const ANYWHERE6: &str = "ports6";
const ON_ADDRESS6: &str = "address_ports6";

/// What makes the host have the rules of the networks and the ports of `leases`, and no other ports: an
/// nft script, empty if all is as it has to be.
///
/// It looks first what there is, because replacing rules takes the kernel a hundred times longer
/// than reading them. Whatever is missing comes back: a firewall that was restarted took it along.
pub(crate) fn missing(realm: &Realm, leases: &[&Lease]) -> Result<String, Error> {
    let table = realm.table();
    let segments: BTreeSet<&Segment> = leases
        .iter()
        .flat_map(|lease| &lease.links)
        .map(|link| &link.segment)
        .collect();
    let rules = Rules::new(realm, &segments);
    let mut script = String::new();
    let host = looked_at(realm, leases.len() > 1)?;
    let mut present = Present::of(&host);
    if !present.has(&rules) {
        if present.exists {
            let _ = writeln!(script, "delete table inet {table}");
        }
        script.push_str(&rules.script);
        present.elements.clear();
    }
    let wanted: BTreeSet<Element> = leases.iter().copied().flat_map(elements_of).collect();
    // Writing to a string cannot fail.
    for Element { map, key, .. } in present.elements.difference(&wanted) {
        let _ = writeln!(script, "delete element inet {table} {map} {{ {key} }}");
    }
    for Element {
        map,
        key,
        mark,
        target,
    } in wanted.difference(&present.elements)
    {
        let element = format!("{key} comment \"{mark}\" : {target}");
        let _ = writeln!(script, "add element inet {table} {map} {{ {element} }}");
    }
    let bridges = segments.iter().map(|segment| segment.bridge.as_str());
    script.push_str(&firewall::opening(realm, bridges, &host)?);
    Ok(script)
}

/// What the host has of the realm's table and of anybody's chains.
fn looked_at(realm: &Realm, has_others: bool) -> Result<Vec<Value>, Error> {
    let table = format!("table inet {}", realm.table());
    // To ask for a table that is not there is to be told nothing of the rest either. Where there are
    // other VMs, it should be there.
    if has_others && let Some(told) = nft::list_all(&[table.as_str(), firewall::CHAINS])? {
        return Ok(told);
    }
    let mut host = nft::list(firewall::CHAINS)?;
    let chains = host.iter().filter_map(|object| object.get("chain"));
    let mut tables = chains.map(|chain| (&chain["family"], &chain["table"]));
    if tables.any(|(family, table)| family == "inet" && table == realm.table()) {
        host.extend(nft::list(&table)?);
    }
    Ok(host)
}

/// Makes the host forget networks that no VM is in any more, while there are others.
pub(crate) fn shrink(realm: &Realm, leases: &Leases) -> Result<(), Error> {
    let all: Vec<&Lease> = leases.all().collect();
    let segments = leases.segments();
    let kept = segments.iter().map(|segment| segment.bridge.as_str());
    let mut script = firewall::closing(realm, &kept.collect())?;
    script.push_str(&missing(realm, &all)?);
    install(&script, leases)
}

/// Carries out what [`missing`] found.
pub(crate) fn install(script: &str, leases: &Leases) -> Result<(), Error> {
    if script.is_empty() {
        return Ok(());
    }
    nft::run_locked("set the host's rules for VMs", script, leases)
}

/// Removes the ports of one VM.
pub(crate) fn forget(name: &Realm, id: &MachineId, leases: &Leases) -> Result<(), Error> {
    let (table, mark) = (name.table(), machine_mark(id));
    let mut script = String::new();
    for element in Present::read(name)?.elements {
        if element.mark == mark {
            let Element { map, key, .. } = element;
            let _ = writeln!(script, "delete element inet {table} {map} {{ {key} }}");
        }
    }
    if script.is_empty() {
        return Ok(());
    }
    nft::run_locked("unpublish a VM's ports", &script, leases)
}

/// The VMs that have ports.
pub(crate) fn machines(name: &Realm) -> Result<Vec<MachineId>, Error> {
    let elements = Present::read(name)?.elements;
    Ok(elements
        .iter()
        .filter_map(|element| marked_machine(&element.mark))
        .collect())
}

/// Removes all rules of the network.
pub(crate) fn remove(name: &Realm, leases: &Leases) -> Result<(), Error> {
    let table = name.table();
    // Adding first makes removing something that is not there no error.
    let mut script = format!("add table inet {table}\ndelete table inet {table}\n");
    script.push_str(&firewall::closing(name, &BTreeSet::new())?);
    nft::run_locked("remove the host's rules for VMs", &script, leases)
}

/// The network's table as it is to be, without elements.
struct Rules {
    script: String,
    /// The comment of every rule: it names the network and, by a digest, these very rules.
    mark: String,
    count: usize,
}

impl Rules {
    fn new(name: &Realm, segments: &BTreeSet<&Segment>) -> Self {
        let chains = chains(segments);
        let digest = Digest::of(format!("{chains:?}").as_bytes()).hex();
        let mark = format!("{}, rules {}", name.mark(), &digest[..16]);
        let mut script = format!(
            "table inet {} {{\ncomment \"{}\"\n\
            map {ANYWHERE} {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}\n\
            map {ON_ADDRESS} {{ type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }}\n\
            map {ANYWHERE6} {{ type inet_proto . inet_service : ipv6_addr . inet_service; }}\n\
            map {ON_ADDRESS6} {{ type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }}\n",
            name.table(),
            name.mark(),
        );
        for Chain { name, hook, rules } in &chains {
            let _ = writeln!(script, "chain {name} {{\ntype {hook}; policy accept;");
            for rule in rules {
                let _ = writeln!(script, "{rule} comment \"{mark}\"");
            }
            script.push_str("}\n");
        }
        script.push_str("}\n");
        let count = chains.iter().map(|chain| chain.rules.len()).sum();
        Self {
            script,
            mark,
            count,
        }
    }
}

#[derive(Debug)]
struct Chain {
    name: &'static str,
    hook: &'static str,
    rules: Vec<String>,
}

fn chains(segments: &BTreeSet<&Segment>) -> Vec<Chain> {
    // A set without elements is none. VMs without networks need no rules of the host.
    if segments.is_empty() {
        return Vec::new();
    }
    let chain = |name, hook, rules| Chain { name, hook, rules };
    let all = set_of(segments, |_| true);
    vec![
        // The bridges let packets with loopback's addresses pass, for the host's own connections
        // to published ports. Guests must not use that.
        chain(
            "early",
            "filter hook prerouting priority raw",
            vec![
                format!("iifname {all} ip daddr 127.0.0.0/8 drop"),
                format!("iifname {all} ip saddr 127.0.0.0/8 drop"),
                format!("iifname {all} ip6 daddr ::1 drop"),
                format!("iifname {all} ip6 saddr ::1 drop"),
            ],
        ),
        chain(
            "prerouting",
            "nat hook prerouting priority dstnat",
            publish(segments),
        ),
        chain("output", "nat hook output priority -100", publish(segments)),
        chain(
            "postrouting",
            "nat hook postrouting priority srcnat",
            postrouting(segments),
        ),
        chain(
            "forward",
            "filter hook forward priority filter",
            forward(segments),
        ),
        // Nothing of the host's own is for guests.
        chain(
            "input",
            "filter hook input priority filter",
            vec![
                format!("iifname {all} ct state established,related accept"),
                format!("iifname {all} icmp type echo-request accept"),
                format!(
                    "iifname {all} icmpv6 type {{ echo-request, nd-neighbor-solicit, nd-neighbor-advert }} accept"
                ),
                format!("iifname {all} reject with icmpx admin-prohibited"),
            ],
        ),
    ]
}

/// The bridges of some networks, as a set.
fn set_of(segments: &BTreeSet<&Segment>, which: impl Fn(&Segment) -> bool) -> String {
    let bridges: Vec<String> = segments
        .iter()
        .filter(|segment| which(segment))
        .map(|segment| format!("\"{}\"", segment.bridge))
        .collect();
    format!("{{ {} }}", bridges.join(", "))
}

fn publish(segments: &BTreeSet<&Segment>) -> Vec<String> {
    let mut rules = vec![
        format!(
            "fib daddr type local dnat ip to ip daddr . meta l4proto . th dport map @{ON_ADDRESS}"
        ),
        format!("fib daddr type local dnat ip to meta l4proto . th dport map @{ANYWHERE}"),
    ];
    if segments.iter().any(|segment| segment.subnet6.is_some()) {
        // A connection from the loopback cannot be led away.
        let local = "meta nfproto ipv6 ip6 daddr != ::1 fib daddr type local";
        rules.push(format!(
            "{local} dnat ip6 to ip6 daddr . meta l4proto . th dport map @{ON_ADDRESS6}"
        ));
        rules.push(format!(
            "{local} dnat ip6 to meta l4proto . th dport map @{ANYWHERE6}"
        ));
    }
    rules
}

fn postrouting(segments: &BTreeSet<&Segment>) -> Vec<String> {
    let mut rules = Vec::new();
    let open = segments.iter().filter(|segment| !segment.internal);
    for Segment {
        bridge,
        subnet,
        subnet6,
        ..
    } in open
    {
        rules.push(format!(
            "ip saddr {subnet} ip daddr != {subnet} oifname != \"{bridge}\" masquerade"
        ));
        rules.push(format!(
            "ip saddr 127.0.0.0/8 oifname \"{bridge}\" masquerade"
        ));
        // From one guest to a published port of another: the answer has to come back here.
        rules.push(format!(
            "ip saddr {subnet} ip daddr {subnet} ct status dnat masquerade"
        ));
        if let Some(subnet) = subnet6 {
            rules.push(format!(
                "ip6 saddr {subnet} ip6 daddr != {subnet} oifname != \"{bridge}\" masquerade"
            ));
            rules.push(format!(
                "ip6 saddr {subnet} ip6 daddr {subnet} ct status dnat masquerade"
            ));
        }
    }
    rules
}

/// What passes the host: from an internal network nothing but to itself, and answers; to any network
/// only from itself, answers, and what was published; and else whatever VMs send.
fn forward(segments: &BTreeSet<&Segment>) -> Vec<String> {
    let all = set_of(segments, |_| true);
    let pairs: Vec<String> = segments
        .iter()
        .map(|Segment { bridge, .. }| format!("\"{bridge}\" . \"{bridge}\""))
        .collect();
    let mut rules = vec![format!(
        "iifname . oifname {{ {} }} accept",
        pairs.join(", ")
    )];
    if segments.iter().any(|segment| segment.internal) {
        let internal = set_of(segments, |segment| segment.internal);
        rules.push(format!(
            "iifname {internal} ct state established,related accept"
        ));
        rules.push(format!("iifname {internal} drop"));
    }
    rules.extend([
        format!("oifname {all} ct state established,related accept"),
        format!("oifname {all} ct status dnat accept"),
        format!("oifname {all} drop"),
        format!("iifname {all} accept"),
    ]);
    rules
}

/// A published port as an element of a map.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Element {
    map: String,
    key: String,
    mark: String,
    target: String,
}

fn elements_of(lease: &Lease) -> Vec<Element> {
    let Some(link) = lease.reached() else {
        return Vec::new();
    };
    let listeners = lease.listeners.iter();
    listeners
        .filter_map(|listener| element_of(lease, link, listener))
        .collect()
}

fn element_of(lease: &Lease, link: &Link, listener: &Listener) -> Option<Element> {
    let Listener {
        address,
        host,
        guest,
        protocol,
    } = listener;
    let (anywhere, on_address, target) = match address {
        IpAddr::V4(_) => (ANYWHERE, ON_ADDRESS, IpAddr::V4(link.address)),
        IpAddr::V6(_) => (ANYWHERE6, ON_ADDRESS6, IpAddr::V6(link.address6()?)),
    };
    let (map, key) = if address.is_unspecified() {
        (anywhere, format!("{protocol} . {host}"))
    } else {
        (on_address, format!("{address} . {protocol} . {host}"))
    };
    Some(Element {
        map: map.to_owned(),
        key,
        mark: machine_mark(&lease.id),
        target: format!("{target} . {guest}"),
    })
}

/// What the network's table has, as nft tells of it.
#[derive(Default)]
struct Present {
    exists: bool,
    /// The comments of its rules.
    marks: Vec<String>,
    elements: BTreeSet<Element>,
}

impl Present {
    fn read(name: &Realm) -> Result<Self, Error> {
        Ok(Self::of(&nft::list(&format!(
            "table inet {}",
            name.table()
        ))?))
    }

    /// What nft tells, of no other table in full.
    fn of(objects: &[Value]) -> Self {
        let mut present = Self::default();
        for object in objects {
            if object.get("table").is_some() {
                present.exists = true;
            } else if let Some(rule) = object.get("rule") {
                present.marks.push(text(&rule["comment"]));
            } else if let Some(map) = object.get("map") {
                let pairs = map["elem"].as_array().into_iter().flatten();
                present
                    .elements
                    .extend(pairs.map(|pair| element(&map["name"], pair)));
            }
        }
        present
    }

    fn has(&self, rules: &Rules) -> bool {
        self.marks.len() == rules.count && self.marks.iter().all(|mark| *mark == rules.mark)
    }
}

/// An element from its form in JSON:
/// `[{"elem": {"val": {"concat": […]}, "comment": …}}, {"concat": […]}]`.
fn element(map: &Value, pair: &Value) -> Element {
    let marked = &pair[0]["elem"];
    // An element without a comment is told without the wrapping that holds it.
    let key = if marked.is_null() {
        &pair[0]
    } else {
        &marked["val"]
    };
    Element {
        map: text(map),
        key: concatenated(key),
        mark: text(&marked["comment"]),
        target: concatenated(&pair[1]),
    }
}

fn concatenated(value: &Value) -> String {
    let parts = value["concat"].as_array().into_iter().flatten();
    parts.map(text).collect::<Vec<_>>().join(" . ")
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}
