//! What is made of the definitions of all commands, beside commands: completion in shells, manual
//! pages, and the reference in docs/cli.md.

pub(crate) mod candidates;
pub(crate) mod reference;

/// The variable by which a shell asks for completions.
pub(crate) const COMPLETE: &str = "FIREBUILD_COMPLETE";
