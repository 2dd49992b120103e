//! Executes a plan: cache, host-side copies, build VMs.
