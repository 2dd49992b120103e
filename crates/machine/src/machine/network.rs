//! A VM's networks, as its owner has them in hand: what is asked for, what the guest is told, and what
//! the VMM gets.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use firebuild_network::{EgressReport, Join, Namespace, NetworkName, Request, Route};
use firebuild_protocol::HOST_ADDRESS;
use firebuild_protocol::metadata::{self, Interface, Ipv6, Network};
use tokio::task::AbortHandle;

use super::Machine;
use crate::Error;
use crate::record::{NetworkInterface, Record, StaticConfiguration};
use crate::vmm::ids::Ids;
use crate::vmm::{GuestInterface, Vmm};

impl Machine {
    pub(super) fn attach(&mut self, vmm: &dyn Vmm) -> Result<(), Error> {
        let request = Request {
            id: self.record.id.clone(),
            // The tap is passed on as it is; nobody else may open it.
            vmm_uid: 0,
            vmm_gid: 0,
            networks: self.networks(),
            names: self.names(),
            // If it is started again.
            before: self.addresses(),
            ports: self.record.spec.ports.clone(),
            egress: self.record.spec.egress.clone(),
            metadata_address: !vmm.serves_metadata(),
        };
        let cni = self.record.spec.cni.as_ref();
        let servers = &self.record.spec.names.servers;
        let attachment = self.host.attach(&request, cni, servers)?;
        let facts = attachment.interfaces.iter();
        let namespace = &attachment.namespace;
        self.record.network_interfaces = facts
            .map(|interface| NetworkInterface::new(namespace, interface))
            .collect();
        let egress = &self.record.spec.egress;
        if !egress.is_open() && !request.networks.is_empty() {
            for interface in &mut self.record.network_interfaces {
                interface.egress = Some(EgressReport::new(egress));
            }
        }
        self.attachment = Some(attachment);
        Ok(())
    }

    /// What it asks of its networks.
    fn networks(&self) -> Vec<Join> {
        let spec = &self.record.spec;
        let mut networks = spec.networks.clone();
        if let (Some(first), Some(address)) = (networks.first_mut(), spec.address) {
            first.address = Some(address);
        }
        networks
    }

    /// What it had in each network when it ran last.
    fn addresses(&self) -> BTreeMap<NetworkName, Ipv4Addr> {
        let interfaces = self.record.network_interfaces.iter();
        let had = interfaces.filter_map(|interface| {
            let address = interface.static_configuration.ip_configuration.ip;
            Some((interface.network.parse().ok()?, address))
        });
        had.collect()
    }

    /// What other VMs of its networks know it by: its name, its hostname, its id, short and whole.
    pub(super) fn names(&self) -> Vec<String> {
        let Record { id, spec, .. } = &self.record;
        let mut names: Vec<String> = spec.name.iter().map(ToString::to_string).collect();
        names.extend(spec.hostname.clone());
        names.extend([id.short().to_owned(), id.to_string()]);
        names
    }

    /// Starts the VM's name server, if its guest is told to ask one.
    pub(super) fn serve_names(&self) -> Result<Option<AbortHandle>, Error> {
        let attachment = self.attachment.as_ref();
        let mut interfaces = attachment.iter().flat_map(|it| &it.interfaces);
        // A network by CNI has its own, whatever its address is.
        let is_own = self.record.spec.cni.is_none();
        if !is_own || !interfaces.any(|interface| interface.dns.contains(&HOST_ADDRESS)) {
            return Ok(None);
        }
        let servers = &self.record.spec.names.servers;
        let server = self.host.network.name_server(self.id(), servers)?;
        Ok(Some(tokio::spawn(server.serve()).abort_handle()))
    }

    /// Whom the VMM runs as.
    pub(super) fn ids(&self) -> Option<Ids> {
        let number = self.attachment.as_ref()?.number;
        let by_address = || self.record.address().map(Ids::of);
        number.map(Ids::numbered).or_else(by_address)
    }

    /// What the guest is told of its network.
    pub(super) fn network(&self) -> Result<Network, Error> {
        let devices = &self.record.network_interfaces;
        let first = devices.first().map(|it| &it.static_configuration);
        let first = first.ok_or_else(|| Error::NotRunning(self.id().clone()))?;
        let address = &first.ip_configuration;
        // By the first that has a way out.
        let way_out = devices.iter().position(|it| it.gateway().is_some());
        let way_out6 = devices.iter().position(|it| it.gateway6().is_some());
        let interfaces = devices.iter().enumerate().map(|(index, device)| {
            let StaticConfiguration {
                mac_address,
                ip_configuration: own,
                ..
            } = &device.static_configuration;
            Interface {
                mac: mac_address.clone(),
                address: own.ip,
                prefix: own.prefix,
                gateway: device.gateway().filter(|_| way_out == Some(index)),
                routes: own.routes.iter().map(route).collect(),
                mtu: own.mtu,
                ipv6: own.ipv6.as_ref().map(|ipv6| Ipv6 {
                    address: ipv6.ip,
                    prefix: ipv6.prefix,
                    gateway: ipv6.gateway.filter(|_| way_out6 == Some(index)),
                }),
            }
        });
        let mut network = Network {
            gateway: address.gateway,
            mtu: address.mtu,
            nameservers: address.nameservers.clone(),
            search: address.search.clone(),
            interfaces: interfaces.collect(),
            ..Network::of(address.ip, address.prefix)
        };
        self.record.spec.names.add_to(&mut network)?;
        Ok(network)
    }

    /// The VM's devices, for its VMM.
    pub(super) fn interfaces(&self) -> Result<(Namespace, Vec<GuestInterface>), Error> {
        let doing = || format!("pass on the tap devices of VM `{}`", self.id());
        let attachment = self.attachment.as_ref();
        let attachment = attachment.ok_or_else(|| Error::NotRunning(self.id().clone()))?;
        let pairs = attachment.interfaces.iter().zip(attachment.taps());
        let interfaces = pairs.map(|(interface, tap)| {
            Ok(GuestInterface {
                device: interface.tap.clone(),
                tap: tap.try_clone_to_owned()?,
                mac: interface.mac,
            })
        });
        let interfaces = interfaces.collect::<std::io::Result<_>>();
        let interfaces = interfaces.map_err(|source| Error::io(doing(), source))?;
        Ok((attachment.namespace.clone(), interfaces))
    }
}

/// A route as the guest is told of it.
fn route(route: &Route) -> metadata::Route {
    metadata::Route {
        destination: route.to.network(),
        prefix: route.to.prefix(),
        gateway: route.by,
    }
}
