//! The built-in network: a bridge on the host, a namespace for each VM, addresses kept here.
//!
//! ```text
//!   VM ── tap0 ═(rules of the namespace)═ eth0 ──── fb… ── firebuild0 ──(host's rules)── world
//!         └── the VM's own namespace ───────┘       └── host ─────────────────────┘
//! ```
//!
//! Set-up and its order: lease, ports, host's parts; namespace with its devices and rules. Every
//! part can be found again from the VM's id alone, and [`Builtin::teardown`] removes it from
//! there, whatever became of the process that made it.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use firebuild_core::MachineId;

use crate::error::Trouble;
use crate::lease::{Lease, Leases};
use crate::name::{host_device, machine_mark, marked_machine};
use crate::netlink::{Cable, Netlink};
use crate::resolver::Resolver;
use crate::{
    Attachment, ETHERNET, Error, Errors, Interface, Listener, Mac, Namespace, Request, Settings,
    Subnet, TAP, conntrack, inside, namespace, reserve, rules, sysctl,
};

/// The driver of the built-in network.
#[derive(Debug, Clone)]
pub struct Builtin {
    settings: Settings,
}

impl Builtin {
    /// A driver. Touches nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// The namespace that a VM has or would have.
    #[must_use]
    pub fn namespace(&self, id: &MachineId) -> Namespace {
        let Settings {
            name, namespaces, ..
        } = &self.settings;
        name.namespace(namespaces, id)
    }

    /// Checks a request as far as that goes without changing anything: that its address and ports
    /// can be had now.
    ///
    /// # Errors
    /// What [`setup`](Self::setup) would find wrong with the request.
    pub fn validate(&self, request: &Request) -> Result<(), Error> {
        let mut netlink = Netlink::of_thread()?;
        let listeners = reserve::listeners(&request.ports, &mut netlink)?;
        let leases = self.lock()?.whole()?;
        let subnet = self.subnet(&leases, &mut netlink, &self.resolver())?;
        leases.choose(subnet, request.address)?;
        self.reserve(&leases, &listeners).map(drop)
    }

    /// Attaches a VM. Takes 10 to 30 ms, and waits for others that are setting up or taking down.
    /// After an error nothing is left, or what is left is in [`known`](Self::known).
    ///
    /// # Errors
    /// The address or a port cannot be had, the VM is attached already, a part of the host is
    /// missing or refuses.
    pub fn setup(&self, request: &Request) -> Result<Attachment, Error> {
        let resolver = self.resolver();
        let (lease, reserved) = self.claim(request, &resolver)?;
        let made = self.build(request, &lease);
        let tap = match made {
            Ok(tap) => tap,
            Err(error) => {
                // The first error tells more than any that comes of it.
                let _ = self.teardown(&request.id);
                return Err(error);
            }
        };
        let interface = self.interface(&lease, &resolver);
        Ok(Attachment::new(interface, tap, reserved))
    }

    /// Removes a VM's attachment, or what there is of it, by the VM's id alone; with the last one,
    /// the bridge and the host's rules too. Goes on after an error.
    ///
    /// Ends no process: what still runs in the namespace has to be found with
    /// [`Namespace::processes`] and ended before, as the namespace loses its name here.
    ///
    /// # Errors
    /// All that went wrong. The VM stays in [`known`](Self::known) until a teardown succeeds.
    pub fn teardown(&self, id: &MachineId) -> Result<(), Errors> {
        let mut trouble = Trouble::default();
        let device = host_device(id);
        trouble.note(Netlink::of_thread().and_then(|mut netlink| {
            netlink
                .remove(&device)
                .map_err(Error::system(format!("remove the device `{device}`")))
        }));
        trouble.note(self.namespace(id).remove());
        if let Some(mut leases) = trouble.note(self.lock()) {
            trouble.note(rules::forget(&self.settings.name, id, &leases));
            let listeners = leases.get(id).map_or(&[][..], |lease| &lease.listeners);
            trouble.note(conntrack::forget(listeners));
            if trouble.is_none() {
                trouble.note(leases.remove(id));
            }
            self.remove_host_parts(&leases, &mut trouble);
        }
        trouble.into_result()
    }

    /// The VMs of this state root that have an attachment or part of one, and those that have a
    /// part and belong to no state root. VMs that are being set up or taken down are among them:
    /// only who knows which VMs live can tell what was left behind.
    ///
    /// # Errors
    /// The host's state cannot be read.
    pub fn known(&self) -> Result<Vec<MachineId>, Error> {
        let leases = self.lock()?;
        let mut known: BTreeSet<MachineId> =
            leases.owned_by(&self.settings.owner).cloned().collect();
        let found = self.found_on_host()?;
        known.extend(found.into_iter().filter(|id| !leases.has(id)));
        Ok(known.into_iter().collect())
    }

    /// Removes the bridge and the host's rules if no VM uses them. [`teardown`](Self::teardown)
    /// does it too; this is for what an interrupted one left.
    ///
    /// # Errors
    /// All that went wrong.
    pub fn teardown_unused_host_parts(&self) -> Result<(), Errors> {
        let mut trouble = Trouble::default();
        if let Some(leases) = trouble.note(self.lock()) {
            self.remove_host_parts(&leases, &mut trouble);
        }
        trouble.into_result()
    }

    /// Under the lock: everything that VMs share.
    fn claim(
        &self,
        request: &Request,
        resolver: &Resolver,
    ) -> Result<(Lease, Vec<OwnedFd>), Error> {
        let mut netlink = Netlink::of_thread()?;
        let listeners = reserve::listeners(&request.ports, &mut netlink)?;
        let mut leases = self.lock()?.whole()?;
        if leases.has(&request.id) {
            return Err(Error::Attached(request.id.clone()));
        }
        let subnet = self.subnet(&leases, &mut netlink, resolver)?;
        let address = leases.choose(subnet, request.address)?;
        let reserved = self.reserve(&leases, &listeners)?;
        let lease = Lease {
            id: request.id.clone(),
            owner: self.settings.owner.clone(),
            address,
            subnet,
            mac: Mac::of_machine(&request.id),
            listeners,
        };
        // Looked up before anything is written: without nft, or without the right to use it, there
        // is nothing to take back, and no way to.
        let with_it = leases.all().chain([&lease]);
        let rules = rules::missing(&self.settings.name, subnet, resolver, with_it)?;
        leases.insert(lease.clone())?;
        let shared = self.ensure_host_parts(&leases, &lease, &mut netlink, &rules);
        drop(leases);
        if let Err(error) = shared {
            let _ = self.teardown(&request.id);
            return Err(error);
        }
        Ok((lease, reserved))
    }

    fn reserve(&self, leases: &Leases, listeners: &[Listener]) -> Result<Vec<OwnedFd>, Error> {
        for (index, listener) in listeners.iter().enumerate() {
            if listeners[..index]
                .iter()
                .any(|other| other.collides(listener))
            {
                return Err(Error::PortTwice(*listener));
            }
            if let Some(by) = leases.holder(listener) {
                return Err(Error::PortTaken {
                    port: *listener,
                    by: by.clone(),
                });
            }
        }
        listeners.iter().map(reserve::reserve).collect()
    }

    /// The network in use, or the first one that clashes with nothing.
    fn subnet(
        &self,
        leases: &Leases,
        netlink: &mut Netlink,
        resolver: &Resolver,
    ) -> Result<Subnet, Error> {
        if let Some(lease) = leases.all().next() {
            return Ok(lease.subnet);
        }
        let doing = || Error::system("read the host's routes");
        let bridge = netlink
            .link(&self.settings.name.bridge())
            .map_err(doing())?;
        let routed = netlink.routed(bridge.map(|b| b.index)).map_err(doing())?;
        let free = |subnet: &&Subnet| {
            let clashes = routed.iter().any(|route| route.overlaps(**subnet));
            !clashes && !resolver.within(**subnet)
        };
        let subnets = &self.settings.subnets;
        subnets.iter().find(free).copied().ok_or_else(|| {
            let shown: Vec<String> = subnets.iter().map(Subnet::to_string).collect();
            Error::NoSubnet(shown.join(", "))
        })
    }

    fn ensure_host_parts(
        &self,
        leases: &Leases,
        lease: &Lease,
        netlink: &mut Netlink,
        rules: &str,
    ) -> Result<(), Error> {
        let subnet = lease.subnet;
        namespace::prepare_directory(&self.settings.namespaces)?;
        // Rules first: nothing passes the bridge before they are there.
        rules::install(rules, leases)?;
        let bridge = self.settings.name.bridge();
        let doing = || Error::system(format!("make the bridge `{bridge}`"));
        if leases.all().nth(1).is_none() {
            // One that nobody took down may have addresses of another network.
            netlink.remove_bridge(&bridge).map_err(doing())?;
        }
        let mac = Mac::of_name(&bridge);
        let index = netlink.ensure_bridge(&bridge, mac).map_err(doing())?;
        // Guests have no IPv6 yet, so the bridge offers none.
        sysctl::set(&format!("ipv6/conf/{bridge}/disable_ipv6"), "1")?;
        // For connections from 127.0.0.1 to published ports; the rules keep guests out of there.
        sysctl::set(&format!("ipv4/conf/{bridge}/route_localnet"), "1")?;
        netlink
            .add_address(index, subnet.gateway(), subnet.prefix())
            .map_err(doing())?;
        netlink.up(&bridge).map_err(doing())?;
        sysctl::set("ipv4/ip_forward", "1")?;
        conntrack::forget(&lease.listeners)
    }

    fn remove_host_parts(&self, leases: &Leases, trouble: &mut Trouble) {
        if !leases.is_empty() {
            return;
        }
        let bridge = self.settings.name.bridge();
        trouble.note(Netlink::of_thread().and_then(|mut netlink| {
            netlink
                .remove_bridge(&bridge)
                .map_err(Error::system(format!("remove the bridge `{bridge}`")))
        }));
        trouble.note(rules::remove(&self.settings.name, leases));
    }

    /// Without the lock: what is the VM's alone.
    fn build(&self, request: &Request, lease: &Lease) -> Result<OwnedFd, Error> {
        let namespace = self.namespace(&request.id);
        // What a VM of this id left, before a restart of the host or by hand, is not this VM's.
        namespace.remove()?;
        namespace.create(inside::prepare)??;
        let device = host_device(&request.id);
        let doing = || Error::system(format!("make the device `{device}`"));
        let mut netlink = Netlink::of_thread()?;
        let bridge = netlink
            .link(&self.settings.name.bridge())
            .and_then(|link| link.ok_or(io::ErrorKind::NotFound.into()))
            .map_err(doing())?;
        let far_end = namespace.open().map_err(doing())?;
        netlink.remove(&device).map_err(doing())?;
        netlink
            .lay(&Cable {
                here: &device,
                bridge: bridge.index,
                there: ETHERNET,
                namespace: far_end.as_fd(),
                alias: machine_mark(&request.id),
            })
            .map_err(doing())?;
        sysctl::set(&format!("ipv6/conf/{device}/disable_ipv6"), "1")?;
        netlink.up(&device).map_err(doing())?;
        let tap = namespace
            .run(|| inside::furnish(&self.settings.name, request, lease))
            .map_err(Error::system("enter the VM's network namespace"))??;
        netlink.wait_until_up(&device).map_err(doing())?;
        let bridge = self.settings.name.bridge();
        netlink.wait_until_up(&bridge).map_err(doing())?;
        Ok(tap)
    }

    /// Every VM of which the host has a part, whoever it belongs to.
    fn found_on_host(&self) -> Result<BTreeSet<MachineId>, Error> {
        let Settings {
            name, namespaces, ..
        } = &self.settings;
        let mut found: BTreeSet<MachineId> = rules::machines(name)?.into_iter().collect();
        found.extend(
            namespace::names_in(namespaces)?
                .iter()
                .filter_map(|file| name.machine_of(file)),
        );
        let doing = || Error::system("list the host's network devices");
        let mut netlink = Netlink::of_thread()?;
        if let Some(bridge) = netlink.link(&name.bridge()).map_err(doing())? {
            let links = netlink.links().map_err(doing())?;
            let ports = links
                .iter()
                .filter(|link| link.bridge == Some(bridge.index));
            found.extend(ports.filter_map(|link| marked_machine(link.alias.as_deref()?)));
        }
        Ok(found)
    }

    fn interface(&self, lease: &Lease, resolver: &Resolver) -> Interface {
        let gateway = lease.subnet.gateway();
        Interface {
            namespace: self.namespace(&lease.id),
            tap: TAP.to_owned(),
            mac: lease.mac,
            address: lease.address,
            subnet: lease.subnet,
            gateway,
            dns: resolver.for_guest(gateway),
            bridge: self.settings.name.bridge(),
            host_device: host_device(&lease.id),
            listeners: lease.listeners.clone(),
        }
    }

    fn resolver(&self) -> Resolver {
        Resolver::of_host(&self.settings.resolv_conf)
    }

    fn lock(&self) -> Result<Leases, Error> {
        Leases::lock(&self.settings.leases.join(self.settings.name.table()))
    }
}
