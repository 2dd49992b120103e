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
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use firebuild_core::MachineId;
use serde::{Deserialize, Serialize};

use crate::error::Trouble;
use crate::lease::{Lease, Leases};
use crate::name::{host_device, machine_mark, marked_machine};
use crate::netlink::{Cable, Netlink};
use crate::resolver::Resolver;
use crate::{
    AGENT_ADDRESS, ETHERNET, Error, Errors, HostInterface, Listener, METADATA_ADDRESS, Mac,
    Namespace, NetworkName, PublishedPort, Subnet, TAP, conntrack, guard, namespace, reserve,
    rules, sys,
};

/// Where the network keeps its state, and what it calls its parts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What the bridge, the tables and the namespaces are called.
    pub name: NetworkName,
    /// The state root of the VMs that this driver serves: who [`Builtin::known`] speaks for.
    pub owner: PathBuf,
    /// The directory of leases. All state roots of a host have to share it, since they share the
    /// bridge; what is in it is void once the host has restarted.
    pub leases: PathBuf,
    /// The directory of named network namespaces.
    pub namespaces: PathBuf,
    /// Networks to use: the first that the host has no route into.
    pub subnets: Vec<Subnet>,
    /// The configuration of the host's resolver.
    pub resolv_conf: PathBuf,
}

impl Settings {
    /// The settings of a host, for the VMs of state root `owner`.
    #[must_use]
    pub fn of_host(owner: impl Into<PathBuf>) -> Self {
        // 4093 guests each, four times what a bridge has ports for. Away from what Docker
        // (172.17 to 172.31, 192.168), Podman (10.88), Kubernetes (10.42, 10.96, 10.244), libvirt
        // (192.168.122) and the clouds (10.128 and up by halves, 172.31) start with; the last one
        // is of the range for measurements (RFC 2544), which nobody routes.
        let subnets = [
            [10, 77, 208, 0],
            [10, 109, 64, 0],
            [172, 16, 176, 0],
            [192, 168, 208, 0],
            [198, 19, 240, 0],
        ];
        Self {
            name: NetworkName::default(),
            owner: owner.into(),
            leases: "/run/firebuild/network".into(),
            namespaces: "/run/netns".into(),
            subnets: subnets
                .into_iter()
                .filter_map(|network| Subnet::new(network.into(), 20))
                .collect(),
            resolv_conf: "/etc/resolv.conf".into(),
        }
    }
}

/// What a VM asks of the network.
#[derive(Debug, Clone)]
pub struct Request {
    /// The VM.
    pub id: MachineId,
    /// The user that the VMM opens the tap as.
    pub vmm_uid: u32,
    /// The group that the VMM opens the tap as.
    pub vmm_gid: u32,
    /// The guest's address, if it has to be a certain one.
    pub address: Option<Ipv4Addr>,
    /// Ports of the guest that the host is to have.
    pub ports: Vec<PublishedPort>,
    /// Whether the namespace gets [`METADATA_ADDRESS`]. Not for a VMM that answers at that address
    /// itself, as Firecracker does.
    pub metadata_address: bool,
}

/// A VM's network interface: the facts, for its record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// The VM's network namespace.
    pub namespace: Namespace,
    /// The tap for the VMM, inside the namespace.
    pub tap: String,
    /// The guest's hardware address.
    pub mac: Mac,
    /// The guest's address.
    pub address: Ipv4Addr,
    /// The network that the address is of.
    pub subnet: Subnet,
    /// The guest's default router.
    pub gateway: Ipv4Addr,
    /// The name servers that the guest is to ask, most wanted first. Empty if the host has none
    /// that a guest can reach.
    pub dns: Vec<Ipv4Addr>,
    /// The bridge on the host.
    pub bridge: String,
    /// The bridge's port on the host.
    pub host_device: String,
    /// The published ports.
    pub listeners: Vec<Listener>,
}

/// A VM's attachment to the network. The supervisor keeps it for as long as the VM lives: with it
/// go the reserved ports. It does not take the attachment down; that is [`Builtin::teardown`].
#[derive(Debug)]
pub struct Attachment {
    /// The facts.
    pub interface: Interface,
    tap: Option<OwnedFd>,
    _reserved: Vec<OwnedFd>,
}

impl Attachment {
    /// The tap, opened with virtio-net headers and closed on exec: for
    /// [`Namespace::enter_on_start`].
    #[must_use]
    pub fn tap(&self) -> Option<BorrowedFd<'_>> {
        self.tap.as_ref().map(AsFd::as_fd)
    }

    /// Closes the tap here: a VMM that opens it by name could not while it is open, and one that
    /// inherited it has its own descriptor. The device stays.
    pub fn close_tap(&mut self) {
        self.tap = None;
    }
}

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
        let mut netlink = open_netlink()?;
        let listeners = listeners(&request.ports, &mut netlink)?;
        let leases = self.lock()?.whole()?;
        let subnet = self.subnet(&leases, &mut netlink, &self.resolver())?;
        leases.choose(subnet, request.address)?;
        self.reserve(&leases, &listeners).map(drop)
    }

    /// Attaches a VM. Takes some 20 ms, and waits for others that are setting up or taking down.
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
        Ok(Attachment {
            interface: self.interface(&lease, &resolver),
            tap: Some(tap),
            _reserved: reserved,
        })
    }

    /// Removes a VM's attachment, or what there is of it, by the VM's id alone; with the last one,
    /// the bridge and the host's rules too. Goes on after an error.
    ///
    /// # Errors
    /// All that went wrong. The VM stays in [`known`](Self::known) until a teardown succeeds.
    pub fn teardown(&self, id: &MachineId) -> Result<(), Errors> {
        let mut trouble = Trouble::default();
        let device = host_device(id);
        trouble.note(open_netlink().and_then(|mut netlink| {
            netlink
                .remove(&device)
                .map_err(Error::system(format!("remove the device `{device}`")))
        }));
        trouble.note(self.namespace(id).remove());
        if let Some(mut leases) = trouble.note(self.lock()) {
            trouble.note(rules::forget(&self.settings.name, id));
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
    /// part and belong to no state root. VMs that are being set up are among them.
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
        let mut netlink = open_netlink()?;
        let listeners = listeners(&request.ports, &mut netlink)?;
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
        leases.insert(lease.clone())?;
        let shared = self.ensure_host_parts(&leases, &lease, &mut netlink, resolver);

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
        resolver: &Resolver,
    ) -> Result<(), Error> {
        let subnet = lease.subnet;
        namespace::prepare_directory(&self.settings.namespaces)?;
        // Rules first: nothing passes the bridge before they are there.
        rules::install(&self.settings.name, subnet, resolver, leases.all())?;
        let bridge = self.settings.name.bridge();
        let doing = || Error::system(format!("make the bridge `{bridge}`"));
        if leases.all().nth(1).is_none() {
            // One that nobody took down may be of another network.
            netlink.remove(&bridge).map_err(doing())?;
        }
        let mac = Mac::of_name(&bridge);
        let index = netlink.ensure_bridge(&bridge, mac).map_err(doing())?;
        // Guests have no IPv6 yet, so the bridge offers none.
        set_sysctl(&format!("ipv6/conf/{bridge}/disable_ipv6"), "1")?;
        // For connections from 127.0.0.1 to published ports; the rules keep guests out of there.
        set_sysctl(&format!("ipv4/conf/{bridge}/route_localnet"), "1")?;
        netlink
            .add_address(index, subnet.gateway(), subnet.prefix())
            .map_err(doing())?;
        netlink.up(&bridge).map_err(doing())?;
        set_sysctl("ipv4/ip_forward", "1")?;
        conntrack::forget(&lease.listeners)
    }

    fn remove_host_parts(&self, leases: &Leases, trouble: &mut Trouble) {
        if !leases.is_empty() {
            return;
        }
        let bridge = self.settings.name.bridge();
        trouble.note(open_netlink().and_then(|mut netlink| {
            netlink
                .remove(&bridge)
                .map_err(Error::system(format!("remove the bridge `{bridge}`")))
        }));
        trouble.note(rules::remove(&self.settings.name));
    }

    /// Without the lock: what is the VM's alone.
    fn build(&self, request: &Request, lease: &Lease) -> Result<OwnedFd, Error> {
        let namespace = self.namespace(&request.id);
        // What a VM of this id left, before a restart of the host or by hand, is not this VM's.
        namespace.remove()?;
        namespace.create(prepare_namespace)??;
        let device = host_device(&request.id);
        let doing = || Error::system(format!("make the device `{device}`"));
        let mut netlink = open_netlink()?;
        let bridge = netlink
            .link(&self.settings.name.bridge())
            .and_then(|link| link.ok_or(std::io::ErrorKind::NotFound.into()))
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
        set_sysctl(&format!("ipv6/conf/{device}/disable_ipv6"), "1")?;
        netlink.up(&device).map_err(doing())?;
        let tap = namespace
            .run(|| self.furnish(request, lease))
            .map_err(Error::system("enter the VM's network namespace"))??;
        netlink.wait_until_up(&device).map_err(doing())?;
        let bridge = self.settings.name.bridge();
        netlink.wait_until_up(&bridge).map_err(doing())?;
        Ok(tap)
    }

    /// Inside the namespace: the tap, the addresses of services, the rules.
    fn furnish(&self, request: &Request, lease: &Lease) -> Result<OwnedFd, Error> {
        let tun = fs_err::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/net/tun")?;
        let tap = tun.into_parts().0.into();
        let doing = || Error::system(format!("make the tap device `{TAP}`"));
        sys::make_tap(&tap, TAP, request.vmm_uid, request.vmm_gid).map_err(doing())?;
        // Rules before the devices are up: no frame ever finds them without.
        guard::install(&self.settings.name, lease.mac, lease.address)?;
        let mut netlink = open_netlink()?;
        let link = netlink
            .link(TAP)
            .and_then(|link| link.ok_or(std::io::ErrorKind::NotFound.into()))
            .map_err(doing())?;
        netlink.up(TAP).map_err(doing())?;
        netlink.up(ETHERNET).map_err(doing())?;
        netlink
            .add_address(link.index, AGENT_ADDRESS, 32)
            .map_err(doing())?;
        if request.metadata_address {
            netlink
                .add_address(link.index, METADATA_ADDRESS, 32)
                .map_err(doing())?;
        }
        netlink
            .add_host_route(link.index, lease.address)
            .map_err(doing())?;
        Ok(tap)
    }

    /// Every VM of which the host has a part, whoever it belongs to.
    fn found_on_host(&self) -> Result<BTreeSet<MachineId>, Error> {
        let Settings {
            name, namespaces, ..
        } = &self.settings;
        let mut found: BTreeSet<MachineId> = rules::machines(name)?.into_iter().collect();
        found.extend(
            names_in(namespaces)?
                .iter()
                .filter_map(|file| name.machine_of(file)),
        );
        let doing = || Error::system("list the host's network devices");
        let mut netlink = open_netlink()?;
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

/// Inside a new namespace: no IPv6, no forwarding (a namespace starts with the host's setting), and
/// a loopback.
fn prepare_namespace() -> Result<(), Error> {
    set_sysctl("ipv6/conf/all/disable_ipv6", "1")?;
    set_sysctl("ipv6/conf/default/disable_ipv6", "1")?;
    set_sysctl("ipv4/ip_forward", "0")?;
    open_netlink()?
        .up("lo")
        .map_err(Error::system("set up the loopback of a VM's namespace"))
}

/// The host's addresses and ports that a VM's published ports come to.
fn listeners(ports: &[PublishedPort], netlink: &mut Netlink) -> Result<Vec<Listener>, Error> {
    let mut listeners = Vec::new();
    for port in ports {
        let addresses = match &port.interface {
            HostInterface::All => vec![Ipv4Addr::UNSPECIFIED],
            HostInterface::Address(address) => vec![*address],
            HostInterface::Device(name) => addresses_of(name, netlink)?,
        };
        listeners.extend(addresses.into_iter().map(|address| Listener {
            address,
            host: port.host,
            guest: port.guest,
            protocol: port.protocol,
        }));
    }
    Ok(listeners)
}

fn addresses_of(name: &str, netlink: &mut Netlink) -> Result<Vec<Ipv4Addr>, Error> {
    let doing = || Error::system(format!("read the addresses of `{name}`"));
    let link = netlink.link(name).map_err(doing())?;
    let link = link.ok_or_else(|| Error::NoInterface(name.to_owned()))?;
    let addresses = netlink.addresses(link.index).map_err(doing())?;
    if addresses.is_empty() {
        return Err(Error::NoInterface(name.to_owned()));
    }
    Ok(addresses)
}

fn names_in(directory: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs_err::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// Sets a kernel parameter of the thread's namespace, unless it is so already. One that the kernel
/// does not have concerns a protocol that it does not have.
fn set_sysctl(name: &str, value: &str) -> Result<(), Error> {
    let path = Path::new("/proc/sys/net").join(name);
    match fs_err::read_to_string(&path) {
        Ok(old) if old.trim() == value => Ok(()),
        Ok(_) => Ok(fs_err::write(&path, value)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn open_netlink() -> Result<Netlink, Error> {
    Netlink::open().map_err(Error::system("open a netlink socket"))
}
