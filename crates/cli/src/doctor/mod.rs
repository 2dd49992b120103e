//! What this host has and lacks for firebuild.
//!
//! Each check is a pure function over what a [`Host`] tells, which tests make of nothing but text.
//!
//! * [`host`]: what is asked of a host, and the one that this is.
//! * [`virtualization`], [`kernel`], [`network`], [`storage`], [`production`]: the checks.

mod host;
mod kernel;
mod network;
mod production;
mod storage;
mod virtualization;

use serde::Serialize;

pub(crate) use host::{Host, This};

/// How a check came out, from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// As it should be.
    Good,
    /// Something would be better otherwise; firebuild works without.
    Advice,
    /// Something is missing that firebuild needs.
    Missing,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Check {
    /// What it belongs to.
    pub(crate) group: &'static str,
    /// What was looked at.
    pub(crate) name: &'static str,
    /// How it came out.
    pub(crate) status: Status,
    /// What was found.
    pub(crate) found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mend: Option<String>,
}

/// The checks of one group, as they are made.
struct Group<'a> {
    name: &'static str,
    checks: &'a mut Vec<Check>,
}

impl Group<'_> {
    fn add(&mut self, name: &'static str, status: Status, found: String, mend: Option<String>) {
        self.checks.push(Check {
            group: self.name,
            name,
            status,
            found,
            mend,
        });
    }

    fn good(&mut self, name: &'static str, found: impl Into<String>) {
        self.add(name, Status::Good, found.into(), None);
    }

    fn advice(&mut self, name: &'static str, found: impl Into<String>, mend: impl Into<String>) {
        self.add(name, Status::Advice, found.into(), Some(mend.into()));
    }

    fn missing(&mut self, name: &'static str, found: impl Into<String>, mend: impl Into<String>) {
        self.add(name, Status::Missing, found.into(), Some(mend.into()));
    }
}

/// Looks at everything.
pub(crate) fn examine(host: &impl Host) -> Vec<Check> {
    let mut checks = Vec::new();
    virtualization::examine(host, &mut group("Virtualization", &mut checks));
    kernel::examine(host, &mut group("Kernel and system", &mut checks));
    network::examine(host, &mut group("Network", &mut checks));
    storage::examine(host, &mut group("Storage", &mut checks));
    production::examine(host, &mut group("Production", &mut checks));
    checks
}

fn group<'a>(name: &'static str, checks: &'a mut Vec<Check>) -> Group<'a> {
    Group { name, checks }
}

/// How it is as a whole: as the worst check.
pub(crate) fn overall(checks: &[Check]) -> Status {
    let worst = checks.iter().map(|check| check.status).max();
    worst.unwrap_or(Status::Good)
}

#[cfg(test)]
mod tests;
