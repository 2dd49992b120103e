//! Flags of the original tool that have nothing to do here: they are taken, and told of once.

use clap::Args;

use crate::terminal;

/// Those of commands that start build VMs or workloads.
#[derive(Debug, Clone, Args)]
pub(crate) struct GoneFlags {
    /// Keys are elliptic
    #[arg(long, hide = true, value_name = "BITS")]
    bootstrap_certs_key_size: Option<String>,
    /// Certificates are for one VM and its life
    #[arg(long, hide = true, value_name = "TIME")]
    bootstrap_certs_validity: Option<String>,
    /// The server is in the VM's own namespace
    #[arg(long, hide = true, value_name = "NAME")]
    bootstrap_server_bind_interface: Option<String>,
}

impl GoneFlags {
    /// Tells of those that were given.
    pub(crate) fn warn(&self) {
        let given = [
            (
                "--bootstrap-certs-key-size",
                &self.bootstrap_certs_key_size,
                "keys are elliptic",
            ),
            (
                "--bootstrap-certs-validity",
                &self.bootstrap_certs_validity,
                "certificates are for one microVM only",
            ),
            (
                "--bootstrap-server-bind-interface",
                &self.bootstrap_server_bind_interface,
                "the server is where nothing but its own microVM reaches it",
            ),
        ];
        for (flag, _, why) in given.iter().filter(|(_, value, _)| value.is_some()) {
            tell(flag, why);
        }
    }
}

/// Those that mean something to a workload's VM only.
#[derive(Debug, Clone, Args)]
pub(crate) struct GoneBuildFlags {
    /// A build VM has nothing to end gracefully
    #[arg(long, hide = true, value_name = "SECONDS")]
    shutdown_graceful_timeout_seconds: Option<String>,
    /// A build VM's address is nobody's concern
    #[arg(long, hide = true, value_name = "ADDRESS")]
    ip_address: Option<String>,
    /// Nobody comes into a build VM by SSH
    #[arg(long, hide = true, value_name = "USER")]
    ssh_user: Option<String>,
}

impl GoneBuildFlags {
    /// Tells of those that were given.
    pub(crate) fn warn(&self) {
        let given = [
            (
                "--shutdown-graceful-timeout-seconds",
                &self.shutdown_graceful_timeout_seconds,
                "build VMs have nothing to end gracefully",
            ),
            (
                "--ip-address",
                &self.ip_address,
                "it is for `run`; build VMs take any free address",
            ),
            (
                "--ssh-user",
                &self.ssh_user,
                "it is for `run`; builds need no SSH",
            ),
        ];
        for (flag, _, why) in given.iter().filter(|(_, value, _)| value.is_some()) {
            tell(flag, why);
        }
    }
}

/// What commands need not be told that give back what a VM had.
#[derive(Debug, Clone, Args)]
pub(crate) struct GoneNetwork {
    /// It is known which network a VM is in
    #[arg(long, hide = true, value_name = "NAME")]
    cni_network_name: Option<String>,
}

impl GoneNetwork {
    /// Tells of it if it was given.
    pub(crate) fn warn(&self) {
        if self.cni_network_name.is_some() {
            tell(
                "--cni-network-name",
                "it is known which networks a microVM is in",
            );
        }
    }
}

fn tell(flag: &str, why: &str) {
    terminal::say(format_args!("warning: `{flag}` does nothing: {why}"));
}
