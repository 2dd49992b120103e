//! Firewalls of the host that drop what is forwarded: the bridge's traffic is accepted in a chain of
//! theirs, by rules marked with firebuild's name. Verdicts of other tables cannot do that: a packet
//! has to be accepted by every table that sees it.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use crate::{Error, Realm, nft};

/// All chains, to be listed.
pub(crate) const CHAINS: &str = "chains";

/// The rules that are missing for these bridges, as an nft script. `host` has been told of [`CHAINS`].
pub(crate) fn opening<'a>(
    realm: &Realm,
    bridges: impl Iterator<Item = &'a str> + Clone,
    host: &[Value],
) -> Result<String, Error> {
    let chains = forward_chains(realm, host).filter(|forward| forward.drops);
    let chains: Vec<Chain> = chains
        .map(|forward| forward.for_users.unwrap_or(forward.chain))
        .collect();
    let rules = marked_rules(&chains, realm)?;
    let mut script = String::new();
    for chain in &chains {
        for bridge in bridges.clone() {
            let mark = realm.mark_of(bridge);
            let is_it = |rule: &Marked| rule.chain == *chain && rule.mark == mark;
            if !rules.iter().any(is_it) {
                script.push_str(&chain.accept(bridge, &mark));
            }
        }
    }
    Ok(script)
}

/// What removes those rules from wherever they are, but for those of the bridges `kept`, as an nft
/// script.
pub(crate) fn closing(realm: &Realm, kept: &BTreeSet<&str>) -> Result<String, Error> {
    let kept: BTreeSet<String> = kept.iter().map(|bridge| realm.mark_of(bridge)).collect();
    let host = nft::list(CHAINS)?;
    let chains: Vec<Chain> = forward_chains(realm, &host)
        .flat_map(Forward::into_all)
        .collect();
    let rules = marked_rules(&chains, realm)?.into_iter();
    Ok(rules
        .filter(|rule| !kept.contains(&rule.mark))
        .map(|Marked { chain, handle, .. }| format!("delete rule {chain} handle {handle}\n"))
        .collect())
}

/// A chain of anybody's.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Chain {
    family: String,
    table: String,
    name: String,
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.family, self.table, self.name)
    }
}

impl Chain {
    /// One of which nft tells, with the field that has its name; none whose name would mean something
    /// else in a script.
    fn told(value: &Value, name: &str) -> Option<Self> {
        let part = |field: &str| {
            let text = value[field].as_str()?;
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
            text.bytes().all(plain).then(|| text.to_owned())
        };
        Some(Self {
            family: part("family")
                .filter(|family| matches!(family.as_str(), "ip" | "ip6" | "inet"))?,
            table: part("table")?,
            name: part(name)?,
        })
    }

    fn accept(&self, bridge: &str, mark: &str) -> String {
        let insert = format!("insert rule {self}");
        format!(
            "{insert} iifname \"{bridge}\" accept comment \"{mark}\"\n{insert} oifname \"{bridge}\" accept comment \"{mark}\"\n"
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

/// The chains of all tables but the realm's own that see what is forwarded.
fn forward_chains<'a>(realm: &Realm, host: &'a [Value]) -> impl Iterator<Item = Forward> + 'a {
    let own = realm.table().to_owned();
    let chains = || host.iter().filter_map(|object| object.get("chain"));
    let for_users = move |chain: &Chain| {
        let mut all = chains().filter_map(|other| Chain::told(other, "name"));
        all.find(|other| {
            other.name == "DOCKER-USER"
                && (&other.family, &other.table) == (&chain.family, &chain.table)
        })
    };
    chains()
        .filter(|chain| chain["hook"] == "forward")
        .filter_map(move |value| {
            let chain = Chain::told(value, "name").filter(|chain| chain.table != own)?;
            Some(Forward {
                // firewalld's chain ends with a rule that rejects, whatever its policy is.
                drops: value["policy"] == "drop" || chain.table == "firewalld",
                for_users: for_users(&chain),
                chain,
            })
        })
}

/// A rule of firebuild's in a chain of anybody's.
struct Marked {
    chain: Chain,
    handle: u64,
    mark: String,
}

/// The rules in these chains that serve a realm.
fn marked_rules(chains: &[Chain], realm: &Realm) -> Result<Vec<Marked>, Error> {
    if chains.is_empty() {
        return Ok(Vec::new());
    }
    let lists: Vec<String> = chains
        .iter()
        .map(|chain| format!("chain {chain}"))
        .collect();
    let objects = match nft::list_all(&lists)? {
        Some(objects) => objects,
        // One of them has gone meanwhile.
        None => {
            let each: Result<Vec<_>, Error> = lists.iter().map(|list| nft::list(list)).collect();
            each?.concat()
        }
    };
    let rules = objects.iter().filter_map(|object| object.get("rule"));
    Ok(rules
        .filter_map(|rule| {
            let mark = rule["comment"].as_str().filter(|mark| realm.marks(mark))?;
            Some(Marked {
                chain: Chain::told(rule, "chain")?,
                handle: rule["handle"].as_u64()?,
                mark: mark.to_owned(),
            })
        })
        .collect())
}
