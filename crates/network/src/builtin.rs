//! firebuild's own networks: a bridge on the host for each, a namespace for each VM, addresses kept here.
//!
//! ```text
//!   VM ── tap0 ═(rules of the namespace)═ eth0 ──── fb… ── firebuild0 ──(host's rules)── world
//!         └── the VM's own namespace ───────┘       └── host ─────────────────────┘
//! ```
//!
//! In each further network the VM has a tap and a cable more: `tap1 ═ eth1 ── f1… ── fb-…`.
//!
//! Set-up and its order: lease, ports, host's parts; namespace with its devices and rules. Every
//! part can be found again from the VM's id alone, and [`Builtin::teardown`] removes it from
//! there, whatever became of the process that made it.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use firebuild_core::MachineId;

use crate::error::Trouble;
use crate::guard::Wire;
use crate::inside::Furniture;
use crate::lease::{Lease, Leases, Link, Segment};
use crate::name::{MOST_LINKS, host_device, machine_mark, marked_machine};
use crate::netlink::{Cable, Netlink};
use crate::network::Definitions;
use crate::resolver::Resolver;
use crate::segment::Segments;
use crate::{
    AGENT_ADDRESS, ALONE, Attachment, Error, Errors, Interface, Ipv6Interface, Listener, Mac,
    Namespace, Request, Settings, Subnet, conntrack, ethernet_name, inside, namespace, reserve,
    rules, sysctl, tap_name,
};

/// The driver of firebuild's own networks.
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

    /// Where it keeps its state, and what it calls its parts.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The namespace that a VM has or would have.
    #[must_use]
    pub fn namespace(&self, id: &MachineId) -> Namespace {
        let Settings {
            name, namespaces, ..
        } = &self.settings;
        name.namespace(namespaces, id)
    }

    /// Checks a request as far as that goes without changing anything: that its addresses and ports
    /// can be had now.
    ///
    /// # Errors
    /// What [`setup`](Self::setup) would find wrong with the request.
    pub fn validate(&self, request: &Request) -> Result<(), Error> {
        let mut netlink = Netlink::of_thread()?;
        let leases = self.lock()?.whole()?;
        let lease = self.lease(request, &leases, &mut netlink, &self.resolver())?;
        self.reserve(&leases, &lease.listeners).map(drop)
    }

    /// Attaches a VM. Takes 10 to 30 ms, and waits for others that are setting up or taking down.
    /// After an error nothing is left, or what is left is in [`known`](Self::known).
    ///
    /// # Errors
    /// A network is not there, an address or a port cannot be had, the VM is attached already, a part
    /// of the host is missing or refuses.
    pub fn setup(&self, request: &Request) -> Result<Attachment, Error> {
        let resolver = self.resolver();
        let (lease, reserved) = self.claim(request, &resolver)?;
        let made = self.build(request, &lease);
        let taps = match made {
            Ok(taps) => taps,
            Err(error) => {
                // The first error tells more than any that comes of it.
                let _ = self.teardown(&request.id);
                return Err(error);
            }
        };
        let interfaces = interfaces(&lease);
        let namespace = self.namespace(&lease.id);
        let number = Some(lease.number);
        Ok(Attachment::new(
            namespace, interfaces, number, taps, reserved,
        ))
    }

    /// Removes a VM's attachment, or what there is of it, by the VM's id alone; with the last one of a
    /// network its bridge, and with the last one of all the host's rules. Goes on after an error.
    ///
    /// Ends no process: what still runs in the namespace has to be found with
    /// [`Namespace::processes`] and ended before, as the namespace loses its name here.
    ///
    /// # Errors
    /// All that went wrong. The VM stays in [`known`](Self::known) until a teardown succeeds.
    pub fn teardown(&self, id: &MachineId) -> Result<(), Errors> {
        let mut trouble = Trouble::default();
        trouble.note(remove_cables(id));
        trouble.note(self.namespace(id).remove());
        if let Some(mut leases) = trouble.note(self.lock()) {
            trouble.note(rules::forget(&self.settings.name, id, &leases));
            let lease = leases.get(id).cloned();
            let listeners = lease.as_ref().map_or(&[][..], |lease| &lease.listeners);
            trouble.note(conntrack::forget(listeners));
            if trouble.is_none() {
                trouble.note(leases.remove(id));
            }
            let links = lease.iter().flat_map(|lease| &lease.links);
            let bridges = links.map(|link| link.segment.bridge.clone()).collect();
            self.remove_host_parts(&leases, bridges, &mut trouble);
        }
        trouble.into_result()
    }

    /// Has other VMs of its networks know a VM by other names from now on: their name servers look for
    /// changed leases whenever they are asked. Nothing, if it is not attached.
    ///
    /// # Errors
    /// Its lease cannot be written.
    pub fn rename(&self, id: &MachineId, names: Vec<String>) -> Result<(), Error> {
        self.lock()?.rename(id, names)
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
        let found = self.found_on_host(&leases)?;
        known.extend(found.into_iter().filter(|id| !leases.has(id)));
        Ok(known.into_iter().collect())
    }

    /// Removes the bridges and the host's rules that no VM uses, and half a definition. [`teardown`](Self::teardown)
    /// does it too; this is for what an interrupted one left.
    ///
    /// # Errors
    /// All that went wrong.
    pub fn teardown_unused_host_parts(&self) -> Result<(), Errors> {
        let mut trouble = Trouble::default();
        if let Some(leases) = trouble.note(self.lock()) {
            let bridges = trouble.note(self.own_bridges(&leases));
            let bridges = bridges.unwrap_or_default().into_iter();
            let names = bridges.map(|(name, _)| name).collect();
            self.remove_host_parts(&leases, names, &mut trouble);
            trouble.note(Definitions::at(&self.settings.networks).tidy());
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
        let mut leases = self.lock()?.whole()?;
        if leases.has(&request.id) {
            return Err(Error::Attached(request.id.clone()));
        }
        let lease = self.lease(request, &leases, &mut netlink, resolver)?;
        let reserved = self.reserve(&leases, &lease.listeners)?;
        // Looked up before anything is written: without nft, or without the right to use it, there
        // is nothing to take back, and no way to.
        let with_it: Vec<&Lease> = leases.all().chain([&lease]).collect();
        let rules = rules::missing(&self.settings.name, &with_it)?;
        leases.insert(lease.clone())?;
        let shared = self.ensure_host_parts(&leases, &lease, &mut netlink, &rules);
        drop(leases);
        if let Err(error) = shared {
            let _ = self.teardown(&request.id);
            return Err(error);
        }
        Ok((lease, reserved))
    }

    /// What a VM would get; nothing is taken yet.
    fn lease(
        &self,
        request: &Request,
        leases: &Leases,
        netlink: &mut Netlink,
        resolver: &Resolver,
    ) -> Result<Lease, Error> {
        if request.networks.len() > MOST_LINKS {
            let found = request.networks.len();
            let text = format!("a VM is in {MOST_LINKS} networks at most, not {found}");
            return Err(Error::Definition(text));
        }
        let mut segments = Segments::new(&self.settings, leases, resolver);
        let mut links: Vec<Link> = Vec::new();
        for (index, join) in request.networks.iter().enumerate() {
            let segment = segments.find(&join.network, netlink)?;
            if links.iter().any(|link| link.segment == segment) {
                let text = format!("the network `{}` was named twice", join.network);
                return Err(Error::Definition(text));
            }
            let mac = join
                .mac
                .unwrap_or_else(|| Mac::of_device(&request.id, index));
            if let Some(by) = leases.has_mac(&segment, mac) {
                let by = by.clone();
                return Err(Error::MacTaken { mac, by });
            }
            let before = request.before.get(&join.network);
            let again = before.filter(|_| join.address.is_none());
            let again = again.and_then(|old| leases.choose(&segment, Some(*old)).ok());
            let address = again.map_or_else(|| leases.choose(&segment, join.address), Ok)?;
            links.push(Link {
                segment,
                address,
                mac,
            });
        }
        let reached = links.iter().find(|link| !link.segment.internal);
        let ipv6 = reached.is_some_and(|link| link.segment.subnet6.is_some());
        let lease = Lease {
            id: request.id.clone(),
            owner: self.settings.owner.clone(),
            number: leases.free_number(),
            names: request.names.clone(),
            egress: request.egress.clone(),
            listeners: reserve::listeners(&request.ports, netlink, ipv6)?,
            links,
        };
        match lease.listeners.first() {
            Some(listener) if lease.reached().is_none() => Err(Error::PortUnreachable(*listener)),
            _ => Ok(lease),
        }
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

    fn ensure_host_parts(
        &self,
        leases: &Leases,
        lease: &Lease,
        netlink: &mut Netlink,
        rules: &str,
    ) -> Result<(), Error> {
        namespace::prepare_directory(&self.settings.namespaces)?;
        // Rules first: nothing passes a bridge before they are there.
        rules::install(rules, leases)?;
        for link in &lease.links {
            let bridge = &link.segment.bridge;
            let others = leases.all().filter(|other| other.id != lease.id);
            let mut others = others.flat_map(|other| &other.links);
            let is_in_use = others.any(|other| other.segment.bridge == *bridge);
            self.ensure_bridge(&link.segment, is_in_use, netlink)?;
        }
        if !lease.links.is_empty() {
            sysctl::set("ipv4/ip_forward", "1")?;
        }
        if lease
            .links
            .iter()
            .any(|link| link.segment.subnet6.is_some())
        {
            sysctl::forward_ipv6()?;
        }
        conntrack::forget(&lease.listeners)
    }

    fn ensure_bridge(
        &self,
        segment: &Segment,
        is_in_use: bool,
        netlink: &mut Netlink,
    ) -> Result<(), Error> {
        let bridge = &segment.bridge;
        let doing = || Error::system(format!("make the bridge `{bridge}`"));
        if !is_in_use {
            // One that nobody took down may have addresses of another network.
            netlink.remove_bridge(bridge).map_err(doing())?;
        }
        let mac = Mac::of_name(bridge);
        let index = netlink.ensure_bridge(bridge, mac).map_err(doing())?;
        let mark = self.settings.name.mark_of(bridge);
        netlink.describe(bridge, &mark).map_err(doing())?;
        if let Some(mtu) = segment.mtu {
            netlink.set_mtu(bridge, mtu).map_err(doing())?;
        }
        // A bridge without addresses of IPv6 offers none, not even a link-local one.
        let without = if segment.subnet6.is_some() { "0" } else { "1" };
        sysctl::set(&format!("ipv6/conf/{bridge}/disable_ipv6"), without)?;
        if let Some(subnet) = segment.subnet6 {
            // Nobody else can have the address, so nobody is asked; and guests are no routers.
            sysctl::set(&format!("ipv6/conf/{bridge}/accept_dad"), "0")?;
            sysctl::set(&format!("ipv6/conf/{bridge}/accept_ra"), "0")?;
            netlink
                .add_address(index, subnet.gateway(), subnet.prefix())
                .map_err(doing())?;
        }
        // For connections from 127.0.0.1 to published ports; the rules keep guests out of there.
        sysctl::set(&format!("ipv4/conf/{bridge}/route_localnet"), "1")?;
        netlink
            .add_address(index, segment.gateway, segment.subnet.prefix())
            .map_err(doing())?;
        netlink.up(bridge).map_err(doing())
    }

    /// Removes those of `bridges` that no VM uses, and with the last VM everything.
    fn remove_host_parts(
        &self,
        leases: &Leases,
        mut bridges: BTreeSet<String>,
        trouble: &mut Trouble,
    ) {
        let segments = leases.segments();
        if leases.is_empty() {
            let own = trouble.note(self.own_bridges(leases)).unwrap_or_default();
            bridges.extend(own.into_iter().map(|(name, _)| name));
        }
        bridges.retain(|bridge| !segments.iter().any(|segment| segment.bridge == *bridge));
        for bridge in &bridges {
            trouble.note(Netlink::of_thread().and_then(|mut netlink| {
                netlink
                    .remove_bridge(bridge)
                    .map_err(Error::system(format!("remove the bridge `{bridge}`")))
            }));
        }
        if leases.is_empty() {
            trouble.note(rules::remove(&self.settings.name, leases));
        } else if !bridges.is_empty() {
            trouble.note(rules::shrink(&self.settings.name, leases));
        }
    }

    /// Without the lock: what is the VM's alone.
    fn build(&self, request: &Request, lease: &Lease) -> Result<Vec<OwnedFd>, Error> {
        let namespace = self.namespace(&request.id);
        // What a VM of this id left, before a restart of the host or by hand, is not this VM's.
        namespace.remove()?;
        namespace.create(inside::prepare)??;
        remove_cables(&request.id)?;
        for (index, link) in lease.links.iter().enumerate() {
            self.lay_cable(&request.id, index, link, &namespace)?;
        }
        let names = DeviceNames::new(lease.links.len());
        let mtus: Vec<Option<u32>> = match &lease.links[..] {
            [] => vec![None],
            links => links.iter().map(|link| link.segment.mtu).collect(),
        };
        let furniture = Furniture {
            realm: &self.settings.name,
            vmm: (request.vmm_uid, request.vmm_gid),
            wires: &names.wires(lease),
            mtus: &mtus,
            egress: &request.egress,
            metadata_address: request.metadata_address,
        };
        let taps = namespace
            .run(|| inside::furnish(&furniture))
            .map_err(Error::system("enter the VM's network namespace"))??;
        for (index, link) in lease.links.iter().enumerate() {
            let doing = || Error::system("wait for the cable of a VM");
            let mut netlink = Netlink::of_thread()?;
            let device = host_device(&request.id, index);
            netlink.wait_until_up(&device).map_err(doing())?;
            let bridge = &link.segment.bridge;
            netlink.wait_until_up(bridge).map_err(doing())?;
        }
        Ok(taps)
    }

    fn lay_cable(
        &self,
        id: &MachineId,
        index: usize,
        link: &Link,
        namespace: &Namespace,
    ) -> Result<(), Error> {
        let device = host_device(id, index);
        let doing = || Error::system(format!("make the device `{device}`"));
        let mut netlink = Netlink::of_thread()?;
        let bridge = netlink
            .link(&link.segment.bridge)
            .and_then(|link| link.ok_or(io::ErrorKind::NotFound.into()))
            .map_err(doing())?;
        let far_end = namespace.open().map_err(doing())?;
        netlink
            .lay(&Cable {
                here: &device,
                bridge: bridge.index,
                there: &ethernet_name(index),
                namespace: far_end.as_fd(),
                alias: machine_mark(id),
            })
            .map_err(doing())?;
        if let Some(mtu) = link.segment.mtu {
            netlink.set_mtu(&device, mtu).map_err(doing())?;
        }
        sysctl::set(&format!("ipv6/conf/{device}/disable_ipv6"), "1")?;
        netlink.up(&device).map_err(doing())
    }

    /// Every VM of which the host has a part, whoever it belongs to.
    fn found_on_host(&self, leases: &Leases) -> Result<BTreeSet<MachineId>, Error> {
        let Settings {
            name, namespaces, ..
        } = &self.settings;
        let mut found: BTreeSet<MachineId> = rules::machines(name)?.into_iter().collect();
        found.extend(
            namespace::names_in(namespaces)?
                .iter()
                .filter_map(|file| name.machine_of(file)),
        );
        let bridges = self.own_bridges(leases)?;
        let is_own = |index| bridges.iter().any(|(_, own)| *own == index);
        let doing = Error::system("list the host's network devices");
        let links = Netlink::of_thread()?.links().map_err(doing)?;
        let ports = links.iter().filter(|link| link.bridge.is_some_and(is_own));
        found.extend(ports.filter_map(|link| marked_machine(link.alias.as_deref()?)));
        Ok(found)
    }

    /// The bridges that the host has of firebuild's: their names and numbers.
    fn own_bridges(&self, leases: &Leases) -> Result<Vec<(String, u32)>, Error> {
        let realm = &self.settings.name;
        let segments = leases.segments();
        let doing = Error::system("list the host's network devices");
        let mut links = Netlink::of_thread()?.links().map_err(doing)?;
        links.retain(|link| {
            let is_marked = || link.alias.as_ref().is_some_and(|mark| realm.marks(mark));
            let is_used = || segments.iter().any(|segment| segment.bridge == link.name);
            link.is_bridge && (link.name == realm.bridge() || is_marked() || is_used())
        });
        Ok(links
            .into_iter()
            .map(|link| (link.name, link.index))
            .collect())
    }

    pub(crate) fn resolver(&self) -> Resolver {
        Resolver::of_host(&self.settings.resolv_conf)
    }

    pub(crate) fn lock(&self) -> Result<Leases, Error> {
        Leases::lock(&self.settings.leases.join(self.settings.name.table()))
    }
}

/// The names of a VM's devices in its namespace.
struct DeviceNames {
    taps: Vec<String>,
    ethernets: Vec<String>,
}

impl DeviceNames {
    fn new(links: usize) -> Self {
        Self {
            taps: (0..links.max(1)).map(tap_name).collect(),
            ethernets: (0..links).map(ethernet_name).collect(),
        }
    }

    fn wires<'a>(&'a self, lease: &Lease) -> Vec<Wire<'a>> {
        if lease.links.is_empty() {
            return vec![Wire {
                tap: &self.taps[0],
                ethernet: None,
                mac: Mac::of_machine(&lease.id),
                address: ALONE,
                address6: None,
                services: true,
            }];
        }
        let links = lease.links.iter().enumerate();
        let wire = |(index, link): (usize, &Link)| Wire {
            tap: &self.taps[index],
            ethernet: Some(&self.ethernets[index]),
            mac: link.mac,
            address: link.address,
            address6: link.address6(),
            services: index == 0,
        };
        links.map(wire).collect()
    }
}

/// Removes the host's ends of a VM's cables, and so the cables.
fn remove_cables(id: &MachineId) -> Result<(), Error> {
    let mut netlink = Netlink::of_thread()?;
    for index in 0..MOST_LINKS {
        let device = host_device(id, index);
        netlink
            .remove(&device)
            .map_err(Error::system(format!("remove the device `{device}`")))?;
    }
    Ok(())
}

/// The facts of a VM's devices.
fn interfaces(lease: &Lease) -> Vec<Interface> {
    let reached = lease.reached();
    if lease.links.is_empty() {
        return vec![alone(lease)];
    }
    let interface = |(index, link): (usize, &Link)| {
        let segment = &link.segment;
        let leads_out = !segment.internal;
        Interface {
            network: segment.network.to_string(),
            tap: tap_name(index),
            mac: link.mac,
            address: link.address,
            subnet: segment.subnet,
            gateway: leads_out.then_some(segment.gateway),
            routes: Vec::new(),
            ipv6: segment.subnet6.map(|subnet| Ipv6Interface {
                address: subnet.guest(link.address),
                prefix: subnet.prefix(),
                gateway: leads_out.then_some(subnet.gateway()),
            }),
            mtu: segment.mtu,
            dns: vec![AGENT_ADDRESS],
            search: Vec::new(),
            bridge: segment.bridge.clone(),
            host_device: host_device(&lease.id, index),
            listeners: if reached == Some(link) {
                lease.listeners.clone()
            } else {
                Vec::new()
            },
        }
    };
    lease.links.iter().enumerate().map(interface).collect()
}

/// The one device of a VM that is in no network.
fn alone(lease: &Lease) -> Interface {
    Interface {
        network: "none".to_owned(),
        tap: tap_name(0),
        mac: Mac::of_machine(&lease.id),
        address: ALONE,
        subnet: Subnet::host(ALONE),
        gateway: None,
        routes: Vec::new(),
        ipv6: None,
        mtu: None,
        dns: Vec::new(),
        search: Vec::new(),
        bridge: String::new(),
        host_device: String::new(),
        listeners: Vec::new(),
    }
}
