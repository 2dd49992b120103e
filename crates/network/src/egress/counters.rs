//! What the rules did: the counters of a VM's namespace, as `inspect` shows them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::chains::{NAMES_COUNTER, rest_counter, rule_counter};
use super::{Egress, Rule, Verdict};
use crate::{Error, Namespace, Realm, nft};

/// The egress rules of one interface, and what they did since its VM started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct EgressReport {
    /// What becomes of what no rule is about.
    #[serde(rename = "Default")]
    pub otherwise: Verdict,
    /// The rules, in the order in which they are tried.
    pub rules: Vec<RuleReport>,
    /// How many packets were refused, by rules and by the default.
    pub refused: u64,
    /// How many questions about names were refused; they are told with the first interface.
    pub refused_names: u64,
}

/// One rule, and what it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RuleReport {
    /// The rule.
    pub rule: String,
    /// How many packets it decided about; of a name that is allowed, those that began something, and of
    /// one that is denied, how many questions.
    pub matched: u64,
}

type Counts = BTreeMap<String, u64>;

impl EgressReport {
    /// What is told of rules that have not decided anything yet.
    #[must_use]
    pub fn new(egress: &Egress) -> Self {
        Self::of(egress, 0, &Counts::new())
    }

    fn of(egress: &Egress, wire: usize, counts: &Counts) -> Self {
        let count = |name: &str| counts.get(name).copied().unwrap_or(0);
        let matched = |index: usize| count(&rule_counter(wire, index));
        let rules = egress.rules().iter().enumerate();
        let denied = |by_name: bool| {
            let denying = rules.clone().filter(move |(_, rule)| {
                rule.verdict == Verdict::Deny && rule.name().is_some() == by_name
            });
            denying.map(|(index, _)| matched(index)).sum::<u64>()
        };
        let names = if wire == 0 { count(NAMES_COUNTER) } else { 0 };
        Self {
            otherwise: egress.otherwise(),
            refused: denied(false) + count(&rest_counter(wire)),
            refused_names: denied(true) + names,
            rules: rules
                .clone()
                .map(|(index, rule): (usize, &Rule)| RuleReport {
                    rule: rule.to_string(),
                    matched: matched(index),
                })
                .collect(),
        }
    }
}

impl Egress {
    /// What the rules did so far, for each of the devices of the VM in `namespace`; none if nothing is ever
    /// refused.
    ///
    /// # Errors
    /// The namespace is not there, or nothing can be read there.
    pub fn reports(
        &self,
        realm: &Realm,
        namespace: &Namespace,
        wires: usize,
    ) -> Result<Vec<Option<EgressReport>>, Error> {
        if self.is_open() {
            return Ok(vec![None; wires]);
        }
        let doing = Error::system("read the counters of a VM's egress rules");
        let listed = namespace
            .run(|| nft::list(&format!("counters table netdev {}", realm.table())))
            .map_err(doing)??;
        let counts: Counts = listed.iter().filter_map(count).collect();
        let report = |wire| Some(EgressReport::of(self, wire, &counts));
        Ok((0..wires).map(report).collect())
    }
}

fn count(listed: &Value) -> Option<(String, u64)> {
    let counter = listed.get("counter")?;
    let name = counter.get("name")?.as_str()?;
    Some((name.to_owned(), counter.get("packets")?.as_u64()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_is_in_one_sum() {
        let terms = [
            "deny=a.org",
            "deny=10.0.0.0/8",
            "allow=*:443",
            "allow=b.org",
        ];
        let egress = Egress::of(terms.map(|term| term.parse().unwrap())).unwrap();
        let named = [
            ("rule0_0", 2),
            ("rule1_0", 3),
            ("rule2_0", 50),
            ("rest_0", 4),
            ("names", 5),
        ];
        let mut counts: Counts = named.map(|(name, count)| (name.to_owned(), count)).into();
        counts.insert("rule1_1".to_owned(), 100);
        let first = EgressReport::of(&egress, 0, &counts);
        assert_eq!((first.refused, first.refused_names), (7, 7));
        assert_eq!(first.rules[2].matched, 50);
        let second = EgressReport::of(&egress, 1, &counts);
        assert_eq!((second.refused, second.refused_names), (100, 0));
        let json = serde_json::to_value(&first).unwrap();
        assert_eq!(json["Default"], "deny");
        assert_eq!(json["Rules"][1]["Rule"], "deny=10.0.0.0/8");
    }
}
