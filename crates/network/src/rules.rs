//! The host's rules: masquerading, published ports, and what may pass to and from the bridge.
//!
//! One table of firebuild's own, and nothing else unless a firewall of the host drops what is
//! forwarded: then an accepting rule for the bridge in that firewall's chain, marked with
//! firebuild's name. What belongs to one VM are elements of two maps, marked with its id.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use firebuild_core::MachineId;
use serde_json::Value;

use crate::lease::Lease;
use crate::name::{machine_mark, marked_machine};
use crate::resolver::Resolver;
use crate::{Error, Listener, NetworkName, Subnet, nft};

/// Ports on every address of the host.
const ANYWHERE: &str = "ports";
/// Ports on one address of the host.
const ON_ADDRESS: &str = "address_ports";

/// Puts the network's rules and the ports of all leases on the host, in place of what it has.
///
/// All of them every time, in one transaction: a firewall that was restarted took them with it, and
/// ports that no lease has are nobody's.
pub(crate) fn install<'a>(
    name: &NetworkName,
    subnet: Subnet,
    resolver: &Resolver,
    leases: impl Iterator<Item = &'a Lease>,
) -> Result<(), Error> {
    let mut script = no_table(name);
    script.push_str(&table(name, subnet, resolver));
    let ports = leases.flat_map(|lease| lease.listeners.iter().map(move |port| (lease, port)));
    for (lease, listener) in ports {
        let (map, key) = element(listener);
        // Writing to a string cannot fail.
        let _ = writeln!(
            script,
            "add element inet {} {map} {{ {key} comment \"{}\" : {} . {} }}",
            name.table(),
            machine_mark(&lease.id),
            lease.address,
            listener.guest,
        );
    }
    for chain in firewalls()? {
        if marked_rules(&chain, &name.mark())?.is_empty() {
            let _ = writeln!(script, "{}", chain.accept(name));
        }
    }
    nft::run("set the host's rules for VMs", &script)
}

/// Removes the ports of one VM.
pub(crate) fn forget(name: &NetworkName, id: &MachineId) -> Result<(), Error> {
    let mark = machine_mark(id);
    let script = elements(name)?
        .into_iter()
        .filter(|element| element.mark == mark)
        .fold(String::new(), |mut script, element| {
            let Element { map, key, .. } = element;
            let _ = writeln!(
                script,
                "delete element inet {} {map} {{ {key} }}",
                name.table()
            );
            script
        });
    if script.is_empty() {
        return Ok(());
    }
    nft::run("unpublish a VM's ports", &script)
}

/// The VMs that have ports.
pub(crate) fn machines(name: &NetworkName) -> Result<Vec<MachineId>, Error> {
    let elements = elements(name)?;
    Ok(elements
        .iter()
        .filter_map(|element| marked_machine(&element.mark))
        .collect())
}

/// Removes all rules of the network.
pub(crate) fn remove(name: &NetworkName) -> Result<(), Error> {
    let mut script = no_table(name);
    for chain in forward_chains()?.into_iter().flat_map(Forward::into_all) {
        for handle in marked_rules(&chain, &name.mark())? {
            let Chain {
                family,
                table,
                name,
            } = &chain;
            let _ = writeln!(
                script,
                "delete rule {family} {table} {name} handle {handle}"
            );
        }
    }
    nft::run("remove the host's rules for VMs", &script)
}

fn no_table(name: &NetworkName) -> String {
    let table = name.table();
    // Adding first makes removing something that is not there no error.
    format!("add table inet {table}\ndelete table inet {table}\n")
}

fn table(name: &NetworkName, subnet: Subnet, resolver: &Resolver) -> String {
    let (t, bridge, mark) = (name.table(), name.bridge(), name.mark());
    let resolved = match resolver {
        // The guests' name server is the gateway, behind which is the host's own.
        Resolver::ByGateway(server) => format!(
            "ip daddr {} meta l4proto {{ tcp, udp }} th dport 53 dnat ip to {server}",
            subnet.gateway()
        ),
        _ => String::new(),
    };
    let publish = format!(
        "fib daddr type local dnat ip to ip daddr . meta l4proto . th dport map @{ON_ADDRESS}
        fib daddr type local dnat ip to meta l4proto . th dport map @{ANYWHERE}"
    );
    format!(
        r#"table inet {t} {{
    comment "{mark}"
    map {ANYWHERE} {{
        type inet_proto . inet_service : ipv4_addr . inet_service
    }}
    map {ON_ADDRESS} {{
        type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
    }}
    chain early {{
        type filter hook prerouting priority raw; policy accept;
        iifname "{bridge}" ip daddr 127.0.0.0/8 drop
        iifname "{bridge}" ip saddr 127.0.0.0/8 drop
    }}
    chain prerouting {{
        type nat hook prerouting priority dstnat; policy accept;
        {resolved}
        {publish}
    }}
    chain output {{
        type nat hook output priority -100; policy accept;
        {publish}
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr {subnet} ip daddr != {subnet} oifname != "{bridge}" masquerade
        ip saddr 127.0.0.0/8 oifname "{bridge}" masquerade
        ip saddr {subnet} ip daddr {subnet} ct status dnat masquerade
    }}
    chain forward {{
        type filter hook forward priority filter; policy accept;
        iifname "{bridge}" accept
        oifname "{bridge}" ct state established,related accept
        oifname "{bridge}" ct status dnat accept
        oifname "{bridge}" drop
    }}
    chain input {{
        type filter hook input priority filter; policy accept;
        iifname "{bridge}" ct state established,related accept
        iifname "{bridge}" ct status dnat accept
        iifname "{bridge}" icmp type echo-request accept
        iifname "{bridge}" reject with icmpx admin-prohibited
    }}
}}
"#
    )
}

fn element(listener: &Listener) -> (&'static str, String) {
    let Listener {
        address,
        host,
        protocol,
        ..
    } = listener;
    if *address == Ipv4Addr::UNSPECIFIED {
        (ANYWHERE, format!("{protocol} . {host}"))
    } else {
        (ON_ADDRESS, format!("{address} . {protocol} . {host}"))
    }
}

struct Element {
    map: String,
    key: String,
    mark: String,
}

/// The marked elements of the network's maps, as nft tells of them:
/// `{"map": {"name", "elem": [[{"elem": {"val": {"concat": […]}, "comment"}}, value], …]}}`.
fn elements(name: &NetworkName) -> Result<Vec<Element>, Error> {
    let mut found = Vec::new();
    for object in nft::list(&["table", "inet", name.table()])? {
        let Some(map) = object.get("map") else {
            continue;
        };
        let Some(map_name) = map["name"].as_str() else {
            continue;
        };
        for pair in map["elem"].as_array().into_iter().flatten() {
            let element = &pair[0]["elem"];
            if let (Some(mark), Some(key)) = (element["comment"].as_str(), key(&element["val"])) {
                found.push(Element {
                    map: map_name.to_owned(),
                    key,
                    mark: mark.to_owned(),
                });
            }
        }
    }
    Ok(found)
}

fn key(value: &Value) -> Option<String> {
    let parts = value["concat"].as_array()?.iter().map(|part| match part {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    });
    Some(parts.collect::<Option<Vec<_>>>()?.join(" . "))
}

/// A chain of anybody's.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Chain {
    family: String,
    table: String,
    name: String,
}

impl Chain {
    fn accept(&self, network: &NetworkName) -> String {
        let Self {
            family,
            table,
            name,
        } = self;
        let (bridge, mark) = (network.bridge(), network.mark());
        let insert = format!("insert rule {family} {table} {name}");
        format!(
            "{insert} iifname \"{bridge}\" accept comment \"{mark}\"\n{insert} oifname \"{bridge}\" accept comment \"{mark}\""
        )
    }
}

/// A base chain that sees what is forwarded.
struct Forward {
    chain: Chain,
    /// The chain of the same table that Docker leaves to the host's administrator.
    for_users: Option<Chain>,
    /// Whether it drops what it has no rule for.
    drops: bool,
}

impl Forward {
    fn into_all(self) -> impl Iterator<Item = Chain> {
        std::iter::once(self.chain).chain(self.for_users)
    }
}

/// The chains in which the bridge's traffic has to be accepted, lest it be dropped.
fn firewalls() -> Result<Vec<Chain>, Error> {
    let chains = forward_chains()?
        .into_iter()
        .filter(|forward| forward.drops);
    Ok(chains
        .map(|forward| forward.for_users.unwrap_or(forward.chain))
        .collect())
}

fn forward_chains() -> Result<Vec<Forward>, Error> {
    let objects = nft::list(&["chains"])?;
    let chains: Vec<&Value> = objects.iter().filter_map(|o| o.get("chain")).collect();
    let named = |value: &Value| {
        let part = |field: &str| {
            let text = value[field].as_str()?;
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
            text.bytes().all(plain).then(|| text.to_owned())
        };
        Some(Chain {
            family: part("family").filter(|family| family == "ip" || family == "inet")?,
            table: part("table")?,
            name: part("name")?,
        })
    };
    let forwards = chains.iter().filter(|chain| chain["hook"] == "forward");
    Ok(forwards
        .filter_map(|value| {
            let chain = named(value)?;
            let for_users = chains
                .iter()
                .filter_map(|other| named(other))
                .find(|other| {
                    other.name == "DOCKER-USER"
                        && (&other.family, &other.table) == (&chain.family, &chain.table)
                });
            Some(Forward {
                // firewalld's chain ends with a rule that rejects, whatever its policy is.
                drops: value["policy"] == "drop" || chain.table == "firewalld",
                chain,
                for_users,
            })
        })
        .collect())
}

/// The handles of the rules in a chain that carry a mark.
fn marked_rules(chain: &Chain, mark: &str) -> Result<Vec<u64>, Error> {
    let objects = nft::list(&["chain", &chain.family, &chain.table, &chain.name])?;
    Ok(objects
        .iter()
        .filter_map(|object| object.get("rule"))
        .filter(|rule| rule["comment"] == mark)
        .filter_map(|rule| rule["handle"].as_u64())
        .collect())
}
