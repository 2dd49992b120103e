//! VMM drivers and the life of a microVM: record, supervise, connect the agent, stop, reconcile, purge.

pub mod boot;
