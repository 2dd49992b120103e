//! The plugin `tc-redirect-tap`, built in: a tap in place of the network device that plugins made.
//!
//! The guest becomes who that device is: its hardware address, its IP address. Frames are moved by
//! the rules of `guard`, as between the built-in network's cable and its tap, so what a guest
//! cannot forge, and where it finds its metadata, is the same on both. The device keeps its
//! addresses and routes, because plugins look for them when they check and delete; but the
//! namespace itself no longer answers for them, and sends nothing out by the device.
//!
//! All of it is done by a thread that is in the namespace.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;

use serde_json::Map;

use super::attachment::Request;
use super::error::CniError;
use super::result::{Address, Cidr, Device, Outcome};
use super::ways;
use crate::guard::{self, Wire};
use crate::netlink::{Link, Netlink};
use crate::{
    AGENT_ADDRESS, Error, Ipv6Interface, METADATA_ADDRESS, Mac, Realm, Subnet, nft, sys, sysctl,
    tap_name,
};

/// Whose tap it is.
pub(crate) struct Sandbox<'a> {
    /// The name of the network.
    pub(crate) network: &'a str,
    pub(crate) container: &'a str,
    pub(crate) namespace: &'a str,
    /// The name of the device that plugins were asked to make.
    pub(crate) device: &'a str,
    /// User and group of the VMM.
    pub(crate) user: (u32, u32),
}

/// A tap and the device whose frames it gets.
pub(crate) struct Redirected {
    pub(crate) tap: OwnedFd,
    pub(crate) facts: Facts,
}

/// What a result says of the VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) tap: String,
    pub(crate) device: String,
    pub(crate) mac: Mac,
    pub(crate) address: Ipv4Addr,
    pub(crate) subnet: Subnet,
    /// What it has of IPv6, which is the first of the result.
    pub(crate) ipv6: Option<Ipv6Interface>,
    /// The largest packet that the device takes, in bytes.
    pub(crate) mtu: u32,
}

/// Makes a tap for the last device that plugins made, and has the result tell of it, in the form
/// that the plugin has: the tap in the namespace, and a device of the same name whose sandbox is
/// the VM itself, with the addresses.
pub(crate) fn make(outcome: &mut Outcome, sandbox: &Sandbox<'_>) -> Result<OwnedFd, Error> {
    let device = last_device(outcome, sandbox, None);
    let link = find(
        &device,
        sandbox,
        "its plugins made no network device for a VM",
    )?;
    let tap = open(&tap_name(0), sandbox)?;
    let index = outcome
        .interfaces
        .iter()
        .position(|made| made.sandbox == sandbox.namespace && made.name == device);
    let interface = |sandbox: &str, mac| Device {
        name: tap_name(0),
        mac,
        sandbox: sandbox.to_owned(),
        details: Map::new(),
    };
    outcome
        .interfaces
        .push(interface(sandbox.namespace, String::new()));
    let mac = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
    outcome.interfaces.push(interface(sandbox.container, mac));
    let own = outcome.interfaces.len() - 1;
    let addresses: Vec<Address> = outcome
        .ips
        .iter()
        .filter(|ip| ip.interface.is_none() || ip.interface == index)
        .map(|ip| Address {
            interface: Some(own),
            ..ip.clone()
        })
        .collect();
    outcome.ips.extend(addresses);
    Ok(tap)
}

/// Joins the VM's tap with its device: one that was made here, or else one that a plugin made.
pub(crate) fn join(
    network: &Realm,
    outcome: &Outcome,
    sandbox: &Sandbox<'_>,
    made: Option<OwnedFd>,
    request: &Request,
) -> Result<Redirected, Error> {
    let facts = facts(outcome, sandbox)?;
    let mut netlink = Netlink::of_thread()?;
    let tap = match made {
        Some(tap) => tap,
        None => adopt(&facts, sandbox, &mut netlink)?,
    };
    let doing = || Error::system(format!("set up the tap device `{}`", facts.tap));
    let wire = Wire {
        tap: &facts.tap,
        ethernet: Some(&facts.device),
        mac: facts.mac,
        address: facts.address,
        address6: facts.ipv6.as_ref().map(|ipv6| ipv6.address),
        services: true,
    };
    guard::install(network.table(), &[wire], &request.egress)?;
    nft::run(
        "keep a VM's namespace off its network",
        &silence(network, &facts.device),
    )?;
    netlink.set_mtu(&facts.tap, facts.mtu).map_err(doing())?;
    netlink.up(&facts.tap).map_err(doing())?;
    netlink.up(&facts.device).map_err(doing())?;
    let link = netlink.link(&facts.tap).map_err(doing())?;
    let link = link.ok_or_else(|| doing()(io::ErrorKind::NotFound.into()))?;
    let services = [
        Some(AGENT_ADDRESS),
        request.metadata_address.then_some(METADATA_ADDRESS),
    ];
    for address in services.into_iter().flatten() {
        netlink
            .add_address(link.index, address, 32)
            .map_err(doing())?;
    }
    // The guest speaks as somebody whom the namespace has among its own addresses.
    sysctl::set(&format!("ipv4/conf/{}/accept_local", facts.tap), "1")?;
    netlink.forget_local(facts.address).map_err(doing())?;
    netlink
        .add_host_route(link.index, facts.address)
        .map_err(doing())?;
    Ok(Redirected { tap, facts })
}

/// Whether a result has a VM's device, which only who made its tap puts there.
pub(crate) fn has_tap(outcome: &Outcome, container: &str) -> bool {
    outcome
        .interfaces
        .iter()
        .any(|made| made.sandbox == container)
}

/// What the namespace's own programs could send out as if they were the VM. What is moved from the
/// tap does not pass here.
fn silence(network: &Realm, device: &str) -> String {
    format!(
        "table inet {} {{\nchain output {{\ntype filter hook output priority filter; policy accept;\noifname \"{device}\" drop\n}}\n}}\n",
        network.table()
    )
}

/// Reads from a result who the VM is.
fn facts(outcome: &Outcome, sandbox: &Sandbox<'_>) -> Result<Facts, Error> {
    let vms = outcome.interfaces.iter().enumerate();
    let mut vms = vms.filter(|(_, made)| made.sandbox == sandbox.container);
    let (Some((own, vm)), None) = (vms.next(), vms.next()) else {
        return Err(unusable(
            sandbox,
            "gives the VM several network devices, where one can be",
        ));
    };
    let device = last_device(outcome, sandbox, Some(&vm.name));
    let link = find(
        &device,
        sandbox,
        "its plugins made no network device for a VM",
    )?;
    let of_vm = outcome.ips.iter().filter(|ip| ip.interface == Some(own));
    let address6 = of_vm.clone().find_map(|ip| ways::v6(outcome, ip));
    let address = of_vm.map(|ip| ip.address).find_map(|cidr| match cidr {
        Cidr {
            address: IpAddr::V4(address),
            prefix,
        } => Some((address, Subnet::new(address, prefix)?)),
        Cidr { .. } => None,
    });
    let (address, subnet) =
        address.ok_or_else(|| unusable(sandbox, "gives the VM no IPv4 address, which it needs"))?;
    let mac = vm.mac.parse().ok().or(link.mac);
    Ok(Facts {
        tap: vm.name.clone(),
        device,
        mac: mac.ok_or_else(|| {
            unusable(
                sandbox,
                "gives the VM a network device without a hardware address",
            )
        })?,
        address,
        subnet,
        ipv6: address6,
        mtu: link.mtu,
    })
}

/// The device in the namespace that plugins made last, other than the tap.
fn last_device(outcome: &Outcome, sandbox: &Sandbox<'_>, tap: Option<&str>) -> String {
    let made = outcome.interfaces.iter().rev().find(|made| {
        made.sandbox == sandbox.namespace && made.name != "lo" && Some(made.name.as_str()) != tap
    });
    // Before version 0.3.0 results do not tell of devices.
    made.map_or(sandbox.device, |made| &made.name).to_owned()
}

fn find(device: &str, sandbox: &Sandbox<'_>, or: &str) -> Result<Link, Error> {
    let doing = Error::system(format!("find the network device `{device}`"));
    let link = Netlink::of_thread()?.link(device).map_err(doing)?;
    link.ok_or_else(|| unusable(sandbox, or))
}

/// Opens the tap that a plugin made, and takes away the filters by which the plugin moves frames:
/// they would be faster than the rules that guard the VM.
fn adopt(facts: &Facts, sandbox: &Sandbox<'_>, netlink: &mut Netlink) -> Result<OwnedFd, Error> {
    for device in [&facts.tap, &facts.device] {
        let link = find(
            device,
            sandbox,
            "says that it made a tap, which is not there",
        )?;
        netlink
            .remove_ingress(link.index)
            .map_err(Error::system(format!("take over the device `{device}`")))?;
    }
    open(&facts.tap, sandbox)
}

fn open(name: &str, sandbox: &Sandbox<'_>) -> Result<OwnedFd, Error> {
    let tun = fs_err::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .map_err(Error::TapMissing)?;
    let tap = tun.into_parts().0.into();
    let (uid, gid) = sandbox.user;
    sys::make_tap(&tap, name, uid, gid)
        .map_err(Error::system(format!("make the tap device `{name}`")))?;
    Ok(tap)
}

fn unusable(sandbox: &Sandbox<'_>, lacks: &str) -> Error {
    CniError::Unusable {
        network: sandbox.network.to_owned(),
        lacks: lacks.to_owned(),
    }
    .into()
}
