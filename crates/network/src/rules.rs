//! The host's rules: masquerading, published ports, and what may pass to and from the bridge.
//!
//! One table of firebuild's own, and rules in the firewalls of the host that would drop what is
//! forwarded. What belongs to one VM are elements of two maps, marked with its id.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use firebuild_core::{Digest, MachineId};
use serde_json::Value;

use crate::lease::{Lease, Leases};
use crate::name::{machine_mark, marked_machine};
use crate::resolver::Resolver;
use crate::{Error, Listener, NetworkName, Subnet, firewall, nft};

/// Ports on every address of the host.
const ANYWHERE: &str = "ports";
/// Ports on one address of the host.
const ON_ADDRESS: &str = "address_ports";

/// What makes the host have the network's rules and the ports of `leases`, and no other ports: an
/// nft script, empty if all is as it has to be.
///
/// It looks first what there is, because replacing rules takes the kernel a hundred times longer
/// than reading them. Whatever is missing comes back: a firewall that was restarted took it along.
pub(crate) fn missing<'a>(
    name: &NetworkName,
    subnet: Subnet,
    resolver: &Resolver,
    leases: impl Iterator<Item = &'a Lease>,
) -> Result<String, Error> {
    let table = name.table();
    let rules = Rules::new(name, subnet, resolver);
    let mut script = String::new();
    let mut present = Present::read(name)?;
    if !present.has(&rules) {
        if present.exists {
            let _ = writeln!(script, "delete table inet {table}");
        }
        script.push_str(&rules.script);
        present.elements.clear();
    }
    let wanted: BTreeSet<Element> = leases.flat_map(elements_of).collect();
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
    script.push_str(&firewall::opening(name)?);
    Ok(script)
}

/// Carries out what [`missing`] found.
pub(crate) fn install(script: &str, leases: &Leases) -> Result<(), Error> {
    if script.is_empty() {
        return Ok(());
    }
    nft::run_locked("set the host's rules for VMs", script, leases)
}

/// Removes the ports of one VM.
pub(crate) fn forget(name: &NetworkName, id: &MachineId, leases: &Leases) -> Result<(), Error> {
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
pub(crate) fn machines(name: &NetworkName) -> Result<Vec<MachineId>, Error> {
    let elements = Present::read(name)?.elements;
    Ok(elements
        .iter()
        .filter_map(|element| marked_machine(&element.mark))
        .collect())
}

/// Removes all rules of the network.
pub(crate) fn remove(name: &NetworkName, leases: &Leases) -> Result<(), Error> {
    let table = name.table();
    // Adding first makes removing something that is not there no error.
    let mut script = format!("add table inet {table}\ndelete table inet {table}\n");
    script.push_str(&firewall::closing(name)?);
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
    fn new(name: &NetworkName, subnet: Subnet, resolver: &Resolver) -> Self {
        let chains = chains(&name.bridge(), subnet, resolver);
        let digest = Digest::of(format!("{chains:?}").as_bytes()).hex();
        let mark = format!("{}, rules {}", name.mark(), &digest[..16]);
        let mut script = format!(
            "table inet {} {{\ncomment \"{}\"\n\
            map {ANYWHERE} {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}\n\
            map {ON_ADDRESS} {{ type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }}\n",
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

fn chains(bridge: &str, subnet: Subnet, resolver: &Resolver) -> Vec<Chain> {
    let chain = |name, hook, rules| Chain { name, hook, rules };
    let publish = vec![
        format!(
            "fib daddr type local dnat ip to ip daddr . meta l4proto . th dport map @{ON_ADDRESS}"
        ),
        format!("fib daddr type local dnat ip to meta l4proto . th dport map @{ANYWHERE}"),
    ];
    let mut prerouting = publish.clone();
    if let Resolver::ByGateway(server) = resolver {
        let gateway = subnet.gateway();
        prerouting.insert(
            0,
            format!(
                "iifname \"{bridge}\" ip daddr {gateway} meta l4proto {{ tcp, udp }} th dport 53 dnat ip to {server}"
            ),
        );
    }
    let from = format!("iifname \"{bridge}\"");
    let to = format!("oifname \"{bridge}\"");
    vec![
        // The bridge lets packets with loopback's addresses pass, for the host's own connections
        // to published ports. Guests must not use that.
        chain(
            "early",
            "filter hook prerouting priority raw",
            vec![
                format!("{from} ip daddr 127.0.0.0/8 drop"),
                format!("{from} ip saddr 127.0.0.0/8 drop"),
            ],
        ),
        chain(
            "prerouting",
            "nat hook prerouting priority dstnat",
            prerouting,
        ),
        chain("output", "nat hook output priority -100", publish),
        chain(
            "postrouting",
            "nat hook postrouting priority srcnat",
            vec![
                format!(
                    "ip saddr {subnet} ip daddr != {subnet} oifname != \"{bridge}\" masquerade"
                ),
                format!("ip saddr 127.0.0.0/8 {to} masquerade"),
                // From one guest to a published port of another: the answer has to come back here.
                format!("ip saddr {subnet} ip daddr {subnet} ct status dnat masquerade"),
            ],
        ),
        chain(
            "forward",
            "filter hook forward priority filter",
            vec![
                format!("{from} accept"),
                format!("{to} ct state established,related accept"),
                format!("{to} ct status dnat accept"),
                format!("{to} drop"),
            ],
        ),
        // Nothing of the host's own is for guests, but its name server where that is forwarded.
        chain(
            "input",
            "filter hook input priority filter",
            vec![
                format!("{from} ct state established,related accept"),
                format!("{from} ct status dnat accept"),
                format!("{from} icmp type echo-request accept"),
                format!("{from} reject with icmpx admin-prohibited"),
            ],
        ),
    ]
}

/// A published port as an element of a map.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Element {
    map: String,
    key: String,
    mark: String,
    target: String,
}

fn elements_of(lease: &Lease) -> impl Iterator<Item = Element> {
    lease.listeners.iter().map(|listener| {
        let Listener {
            address,
            host,
            guest,
            protocol,
        } = listener;
        let (map, key) = if *address == Ipv4Addr::UNSPECIFIED {
            (ANYWHERE, format!("{protocol} . {host}"))
        } else {
            (ON_ADDRESS, format!("{address} . {protocol} . {host}"))
        };
        Element {
            map: map.to_owned(),
            key,
            mark: machine_mark(&lease.id),
            target: format!("{} . {guest}", lease.address),
        }
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
    fn read(name: &NetworkName) -> Result<Self, Error> {
        let mut present = Self::default();
        for object in nft::list(&["table", "inet", name.table()])? {
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
        Ok(present)
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
