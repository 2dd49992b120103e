//! What commands take about what a microVM may reach.

use clap::Args;
use firebuild_network::{Egress, EgressTerm};

/// What a VM may reach.
#[derive(Debug, Args)]
pub(crate) struct EgressArguments {
    /// Let it reach only what is allowed: allow|deny[=DESTINATION[:PORT[-PORT][/tcp|udp]],...] (may be
    /// repeated)
    ///
    /// A destination is an address, a network (10.0.0.0/8; of IPv6 in brackets if a port follows), a name
    /// (example.org), all names below one (*.example.org), or * for everything. Rules are tried in their
    /// order, and the first that fits decides. `--egress deny` or `--egress allow` alone is for what no rule
    /// fits; without it that is denied as soon as anything is allowed. Answers to what others began always
    /// pass, and so do metadata and agent. Names are those that the VM asks its name server for; others are
    /// not answered. What is refused is counted: `firebuild inspect`. Rules hold until the VM ends:
    /// `update` does not change them.
    #[arg(long, value_name = "RULE", help_heading = "Egress")]
    egress: Vec<EgressTerm>,
}

impl EgressArguments {
    /// The rules.
    pub(crate) fn rules(&self) -> anyhow::Result<Egress> {
        Ok(Egress::of(self.egress.iter().cloned())?)
    }
}
