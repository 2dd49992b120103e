//! Firewalls of the host that drop what is forwarded: the bridge's traffic is accepted in a chain of
//! theirs, by rules marked with firebuild's name. Verdicts of other tables cannot do that: a packet
//! has to be accepted by every table that sees it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{Error, Realm, nft};

/// The rules that are missing for these bridges, as an nft script.
pub(crate) fn opening<'a>(
    realm: &Realm,
    bridges: impl Iterator<Item = &'a str> + Clone,
) -> Result<String, Error> {
    let mut script = String::new();
    for chain in firewalls()? {
        let rules = marked_rules(&chain, realm)?;
        for bridge in bridges.clone() {
            let mark = realm.mark_of(bridge);
            if !rules.iter().any(|(_, present)| *present == mark) {
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
    let mut script = String::new();
    for chain in forward_chains()?.into_iter().flat_map(Forward::into_all) {
        for (handle, mark) in marked_rules(&chain, realm)? {
            if kept.contains(&mark) {
                continue;
            }
            let Chain {
                family,
                table,
                name,
            } = &chain;
            script.push_str(&format!(
                "delete rule {family} {table} {name} handle {handle}\n"
            ));
        }
    }
    Ok(script)
}

/// A chain of anybody's.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Chain {
    family: String,
    table: String,
    name: String,
}

impl Chain {
    fn accept(&self, bridge: &str, mark: &str) -> String {
        let Self {
            family,
            table,
            name,
        } = self;
        let insert = format!("insert rule {family} {table} {name}");
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
            family: part("family")
                .filter(|family| matches!(family.as_str(), "ip" | "ip6" | "inet"))?,
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

/// The rules of a chain that serve a realm: handles and marks.
fn marked_rules(chain: &Chain, realm: &Realm) -> Result<Vec<(u64, String)>, Error> {
    let objects = nft::list(&["chain", &chain.family, &chain.table, &chain.name])?;
    Ok(objects
        .iter()
        .filter_map(|object| object.get("rule"))
        .filter_map(|rule| {
            let mark = rule["comment"].as_str().filter(|mark| realm.marks(mark))?;
            Some((rule["handle"].as_u64()?, mark.to_owned()))
        })
        .collect())
}
