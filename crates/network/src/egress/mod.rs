//! Egress rules: what one VM may reach, what it is refused, and how often.
//!
//! Rules are tried in their order, and the first that speaks of a packet or of a name decides. They are
//! carried out in the VM's own namespace, where its frames come from its tap ([`chains`]), so they go with
//! the VM. What must hold: the addresses of the metadata and of the agent's server are reached whatever the
//! rules say, and no rule opens what [`guard`](crate::guard) closes; an address is opened by a name only if
//! this VM's own name server answered so ([`opening`]); everything that is refused is counted.

pub(crate) mod chains;
mod counters;
pub(crate) mod opening;
mod parse;

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use crate::Protocol;

pub use counters::{EgressReport, RuleReport};
pub use parse::ParseEgressError;

/// How many rules a VM can have: each frame may be held against all of them.
pub const MOST_RULES: usize = 256;

/// How many of them can be about names: each has sets of addresses of its own.
pub const MOST_NAMES: usize = 64;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It passes.
    #[default]
    Allow,
    /// It is refused, and counted.
    Deny,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        })
    }
}

/// What one `--egress` says: `allow|deny[=DESTINATION[,DESTINATION]...]`. Without destinations it is about
/// all that no rule is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EgressTerm {
    /// What is done.
    pub verdict: Verdict,
    /// About what.
    pub destinations: Vec<Destination>,
}

/// Where a packet goes: `PLACE[:PORT[-PORT][/tcp|udp]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// To which addresses.
    pub place: Place,
    /// To which ports; with none, any packet at all.
    pub ports: Option<Ports>,
}

/// Some addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// All of them, and every name: `*`.
    Everywhere,
    /// Those of a network, or a single one.
    Addresses(Prefix),
    /// Those that a name has.
    Name(NamePattern),
}

/// A network of either kind. What is beyond the prefix is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    address: IpAddr,
    bits: u8,
}

/// A domain name, in lower case and without a dot at its end; with `*.` before it, all names below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern {
    name: String,
    below: bool,
}

/// Some ports, of both transports if none is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    first: NonZeroU16,
    last: NonZeroU16,
    protocol: Option<Protocol>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) verdict: Verdict,
    pub(crate) destination: Destination,
}

/// The egress rules of a VM. As JSON they are what `--egress` takes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<EgressTerm>", into = "Vec<EgressTerm>")]
pub struct Egress {
    rules: Vec<Rule>,
    otherwise: Verdict,
}

/// Rules that do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EgressError {
    /// There are too many.
    #[error("a VM has {MOST_RULES} rules for egress at most, not {0}")]
    Rules(usize),
    /// Too many of them are about names.
    #[error("a VM has {MOST_NAMES} rules for egress by name at most, not {0}")]
    Names(usize),
    /// Both `allow` and `deny` stand alone.
    #[error(
        "`--egress allow` and `--egress deny` exclude each other: one of them is for all that no rule is about"
    )]
    Otherwise,
}

impl Egress {
    /// The rules of some terms, in their order. If none says what becomes of the rest, it is refused as
    /// soon as anything is allowed by name or by address.
    ///
    /// # Errors
    /// They are too many, or contradict each other.
    pub fn of(terms: impl IntoIterator<Item = EgressTerm>) -> Result<Self, EgressError> {
        let mut rules: Vec<Rule> = Vec::new();
        let mut otherwise = None;
        for term in terms {
            let verdict = term.verdict;
            if term.destinations.is_empty()
                && otherwise.replace(verdict).is_some_and(|it| it != verdict)
            {
                return Err(EgressError::Otherwise);
            }
            let destinations = term.destinations.into_iter();
            rules.extend(destinations.map(|destination| Rule {
                verdict,
                destination,
            }));
        }
        let names = rules.iter().filter(|rule| rule.name().is_some()).count();
        if rules.len() > MOST_RULES {
            return Err(EgressError::Rules(rules.len()));
        }
        if names > MOST_NAMES {
            return Err(EgressError::Names(names));
        }
        let allows = rules.iter().any(|rule| rule.verdict == Verdict::Allow);
        let implied = if allows {
            Verdict::Deny
        } else {
            Verdict::Allow
        };
        Ok(Self {
            rules,
            otherwise: otherwise.unwrap_or(implied),
        })
    }

    /// Whether nothing is ever refused.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.rules.is_empty() && self.otherwise == Verdict::Allow
    }

    /// Whether any rule is about a name.
    #[must_use]
    pub fn has_names(&self) -> bool {
        self.rules.iter().any(|rule| rule.name().is_some())
    }

    pub(crate) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    pub(crate) fn otherwise(&self) -> Verdict {
        self.otherwise
    }

    /// Which rule decides about a question for `name`, if one does, and what.
    pub(crate) fn about_name(&self, name: &str) -> (Option<usize>, Verdict) {
        let speaks = |(_, rule): &(usize, &Rule)| match &rule.destination.place {
            Place::Name(pattern) => pattern.matches(name),
            // Some ports may be all that is refused.
            Place::Everywhere => rule.verdict == Verdict::Allow || rule.destination.ports.is_none(),
            Place::Addresses(_) => false,
        };
        match self.rules.iter().enumerate().find(speaks) {
            Some((index, rule)) => (Some(index), rule.verdict),
            None => (None, self.otherwise),
        }
    }

    /// The rules that let the VM reach what `name` stands for, by their places.
    pub(crate) fn opened_by_name(&self, name: &str) -> impl Iterator<Item = usize> {
        let about = self
            .rules
            .iter()
            .enumerate()
            .filter(move |(_, rule)| rule.name().is_some_and(|pattern| pattern.matches(name)));
        // Behind one that refuses the name none has a say.
        about
            .take_while(|(_, rule)| rule.verdict == Verdict::Allow)
            .map(|(index, _)| index)
    }
}

impl Rule {
    pub(crate) fn name(&self) -> Option<&NamePattern> {
        match &self.destination.place {
            Place::Name(name) => Some(name),
            Place::Everywhere | Place::Addresses(_) => None,
        }
    }
}

impl NamePattern {
    /// Whether it means `name`, which is in lower case and without a dot at its end.
    pub(crate) fn matches(&self, name: &str) -> bool {
        if !self.below {
            return name == self.name;
        }
        let before = name.strip_suffix(&self.name);
        before.is_some_and(|before| before.len() > 1 && before.ends_with('.'))
    }
}

impl TryFrom<Vec<EgressTerm>> for Egress {
    type Error = EgressError;

    fn try_from(terms: Vec<EgressTerm>) -> Result<Self, EgressError> {
        Self::of(terms)
    }
}

impl From<Egress> for Vec<EgressTerm> {
    fn from(egress: Egress) -> Self {
        let terms = egress.rules.into_iter().map(|rule| EgressTerm {
            verdict: rule.verdict,
            destinations: vec![rule.destination],
        });
        let rest = EgressTerm {
            verdict: egress.otherwise,
            destinations: Vec::new(),
        };
        terms.chain([rest]).collect()
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.verdict, self.destination)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn egress(terms: &[&str]) -> Egress {
        Egress::of(terms.iter().map(|term| term.parse().unwrap())).unwrap()
    }

    #[test]
    fn what_no_rule_is_about_follows_from_the_rules() {
        for (terms, otherwise, open) in [
            (&[][..], Verdict::Allow, true),
            (&["allow"], Verdict::Allow, true),
            (&["deny"], Verdict::Deny, false),
            (&["deny", "deny"], Verdict::Deny, false),
            (&["deny=10.0.0.0/8"], Verdict::Allow, false),
            (&["deny=10.0.0.0/8", "deny"], Verdict::Deny, false),
            (&["allow=10.0.0.0/8"], Verdict::Deny, false),
            (
                &["deny=10.0.0.1,10.0.0.2", "allow=10.0.0.0/8"],
                Verdict::Deny,
                false,
            ),
            (&["allow=10.0.0.0/8", "allow"], Verdict::Allow, false),
        ] {
            let egress = egress(terms);
            assert_eq!(egress.otherwise, otherwise, "{terms:?}");
            assert_eq!(egress.is_open(), open, "{terms:?}");
            let text = serde_json::to_string(&egress).unwrap();
            assert_eq!(serde_json::from_str::<Egress>(&text).unwrap(), egress);
        }
        let both = ["allow", "deny"].map(|term| term.parse().unwrap());
        assert_eq!(Egress::of(both), Err(EgressError::Otherwise));
    }

    #[test]
    fn rules_are_bounded() {
        let terms = |text: &str, many| vec![text.parse::<EgressTerm>().unwrap(); many];
        assert!(Egress::of(terms("deny=10.0.0.1", MOST_RULES)).is_ok());
        let refused = Egress::of(terms("deny=10.0.0.1", MOST_RULES + 1));
        assert_eq!(refused, Err(EgressError::Rules(MOST_RULES + 1)));
        assert!(Egress::of(terms("allow=a.org", MOST_NAMES)).is_ok());
        let refused = Egress::of(terms("allow=a.org", MOST_NAMES + 1));
        assert_eq!(refused, Err(EgressError::Names(MOST_NAMES + 1)));
    }

    #[test]
    fn the_first_rule_about_a_name_decides() {
        let strict = egress(&[
            "deny=ads.example.org",
            "allow=10.0.0.0/8",
            "allow=*.example.org:443",
            "allow=www.example.org:80,example.net",
        ]);
        for (name, by, verdict) in [
            ("ads.example.org", Some(0), Verdict::Deny),
            ("www.example.org", Some(2), Verdict::Allow),
            ("a.b.example.org", Some(2), Verdict::Allow),
            ("example.org", None, Verdict::Deny),
            (".example.org", None, Verdict::Deny),
            ("badexample.org", None, Verdict::Deny),
            ("example.net", Some(4), Verdict::Allow),
            ("www.example.net", None, Verdict::Deny),
        ] {
            assert_eq!(strict.about_name(name), (by, verdict), "{name}");
        }
        let opened = |name| strict.opened_by_name(name).collect::<Vec<_>>();
        assert_eq!(opened("www.example.org"), [2, 3]);
        assert!(opened("ads.example.org").is_empty());

        let anything = egress(&["allow=*:443"]);
        assert_eq!(anything.about_name("a.org"), (Some(0), Verdict::Allow));
        let no_mail = egress(&["deny=*:25"]);
        assert_eq!(no_mail.about_name("a.org"), (None, Verdict::Allow));
        let nothing = egress(&["deny=*", "allow=a.org"]);
        assert_eq!(nothing.about_name("a.org"), (Some(0), Verdict::Deny));
    }
}
