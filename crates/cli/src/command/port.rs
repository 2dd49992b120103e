//! `firebuild port`: where on the host a microVM's ports are.

use std::net::SocketAddr;

use clap::Args;
use firebuild_machine::client;
use firebuild_network::{Listener, PublishedPort};

use super::{Global, lifecycle};
use crate::error::hinted;
use crate::terminal;

#[derive(Debug, Args)]
pub(crate) struct Port {
    /// The VM: its name, its id, or the beginning of its id
    vm: String,
    /// Only this port of the guest, as in 80 or 53/udp
    port: Option<PublishedPort>,
}

impl Port {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let record = client::inspect(&lifecycle::host(global)?, &self.vm)?;
        let interfaces = record.network_interfaces.iter();
        let mut listeners: Vec<&Listener> = interfaces.flat_map(|it| &it.ports).collect();
        if record.state.is_final() {
            listeners.clear();
        }
        listeners.sort_by_key(|port| (port.guest, port.protocol, port.address));
        let Some(wanted) = &self.port else {
            for port in listeners {
                let (guest, protocol) = (port.guest, port.protocol);
                let place = place(port);
                terminal::print(format_args!("{guest}/{protocol} -> {place}\n"))?;
            }
            return Ok(());
        };
        listeners.retain(|port| (port.guest, port.protocol) == (wanted.guest, wanted.protocol));
        if listeners.is_empty() {
            let (guest, protocol) = (wanted.guest, wanted.protocol);
            return Err(hinted(
                format!(
                    "VM `{}` has not published port `{guest}/{protocol}`",
                    self.vm
                ),
                format!(
                    "firebuild port {}, or publish it: firebuild run -p {guest}",
                    self.vm
                ),
            ));
        }
        for port in listeners {
            terminal::print(format_args!("{}\n", place(port)))?;
        }
        Ok(())
    }
}

fn place(port: &Listener) -> SocketAddr {
    SocketAddr::new(port.address, port.host.get())
}
